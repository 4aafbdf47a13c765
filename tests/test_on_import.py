"""Something done when a library is imported, without importing it here."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from acn_compress.on_import import when_imported

NAME = "a_library_of_this_test"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that can be imported and has not been."""
    (tmp_path / f"{NAME}.py").write_text("value = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield NAME
    sys.modules.pop(NAME, None)


def test_it_is_done_once_and_after_the_library_has_run(library: str) -> None:
    found: list[int] = []
    when_imported(library)(lambda module: found.append(module.value))
    assert importlib.util.find_spec(library) is not None and found == []  # only looked for
    module = importlib.import_module(library)
    assert found == [3]
    importlib.reload(module)
    assert found == [3]


def test_it_is_done_at_once_if_the_library_was_imported_before(library: str) -> None:
    importlib.import_module(library)
    found: list[int] = []
    when_imported(library)(lambda module: found.append(module.value))
    assert found == [3]


def test_a_library_that_is_not_there_is_still_not_there() -> None:
    when_imported("no_such_library")(lambda module: None)
    assert importlib.util.find_spec("no_such_library") is None
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        importlib.import_module("no_such_library")
