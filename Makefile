# Two commands: `make quickstart` shows what the tool does, `make test` proves that it works. Both make their own virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
CONSUMERS = benchmarks/consumers

.PHONY: quickstart test consumers lint docs clean

quickstart: $(VENV)/.installed
	$(BIN)/acn-compress run quickstart

test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

# who runs what export writes: tests/test_consumers.py skips those that are not there
consumers: $(CONSUMERS)/node_modules $(CONSUMERS)/.venv

$(CONSUMERS)/node_modules: $(CONSUMERS)/package.json
	npm install --silent --ignore-scripts --no-package-lock --prefix $(CONSUMERS)
	@touch $@

$(CONSUMERS)/.venv: $(CONSUMERS)/requirements.txt
	$(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/generate.py

define install
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed, found %d.%d. Try: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '$(1)'
	@touch $@
endef

$(VENV)/.installed: pyproject.toml
	$(call install,.)

$(VENV)/.installed-dev: pyproject.toml
	$(call install,.[dev])

clean:
	rm -rf $(VENV) $(CONSUMERS)/.venv $(CONSUMERS)/node_modules runs build dist *.egg-info
