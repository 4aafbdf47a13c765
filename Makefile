# Two commands: `make quickstart` shows what the tool does, `make test` proves that it works. Both make their own virtual environment.
# `make test-long` runs what takes three seconds and more a test: whole programs, exports, interrupted trainings.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
CONSUMERS = benchmarks/consumers
TESTS = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

.PHONY: quickstart test test-long test-lowest test-newest wheel consumers lint docs clean

quickstart: $(VENV)/.installed
	$(BIN)/acn-compress run quickstart

test: $(VENV)/.installed-dev
	$(TESTS)

test-long: $(VENV)/.installed-dev
	$(TESTS) -m 'long and not slow'

# the contract with the oldest and with the newest versions that pyproject.toml allows
CONTRACT = -n 2 --dist loadgroup -m 'not slow' tests/test_contract.py tests/test_generate.py tests/test_export.py tests/test_package.py
test-lowest: build/lowest/.installed
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest $(CONTRACT)

test-newest: build/newest/.installed
	OMP_NUM_THREADS=1 build/newest/bin/python -m pytest $(CONTRACT)

build/lowest/.installed: pyproject.toml
	$(PYTHON) -m venv --clear build/lowest
	$(PYTHON) tests/lowest.py > build/lowest/constraints.txt
	build/lowest/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint build/lowest/constraints.txt
	@touch $@

build/newest/.installed: pyproject.toml
	$(PYTHON) -m venv --clear build/newest
	build/newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager --editable '.[dev]'
	@touch $@

# what an index would give, run in an environment of its own and from another folder
wheel:
	rm -rf dist build/elsewhere
	$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet --disable-pip-version-check dist/acn_compress-*.whl
	mkdir -p build/elsewhere
	cd build/elsewhere && ../wheel/bin/acn-compress --help > /dev/null && ../wheel/bin/acn-compress validate quickstart && ../wheel/bin/acn-compress validate acn
	cd build/elsewhere && ../wheel/bin/python -c 'import acn_compress as a; assert "site-packages" in a.__file__, a.__file__; print(a.__version__, a.load)'

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
	$(BIN)/python -m pip install --disable-pip-version-check --editable '$(1)'
	@touch $@
endef

$(VENV)/.installed: pyproject.toml
	$(call install,.)

$(VENV)/.installed-dev: pyproject.toml
	$(call install,.[dev])

clean:
	rm -rf $(VENV) $(CONSUMERS)/.venv $(CONSUMERS)/node_modules runs build dist *.egg-info
