"""Benchmarks of the code itself: what is counted, on a package of a few lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import structure

SOURCES = {
    "__init__.py": "",
    "top.py": "from acn_compress.low.first import f\nimport os\n",
    "low/__init__.py": "",
    "low/first.py": (
        "from typing import TYPE_CHECKING, Any\n"
        "if TYPE_CHECKING:\n"
        "    from acn_compress.top import g\n"
        "def f(a: Any, *b: int, c: Any = None, **d: int) -> None:\n"
        '    """Any is no type here."""\n'
        "    from acn_compress.low import second\n"
    ),
    "low/second.py": "\n# only a comment\nfrom acn_compress.low import first  # fmt: skip\n",
}


@pytest.fixture
def package(tmp_path: Path) -> list[structure.File]:
    for name, text in SOURCES.items():
        path = tmp_path / "acn_compress" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return structure.files(tmp_path, "acn_compress")


def test_imports_count_in_functions_but_not_for_a_type_checker(
    package: list[structure.File],
) -> None:
    graph = structure.module_graph(package)
    assert graph["acn_compress.top"] == {"acn_compress.low.first"}
    assert graph["acn_compress.low.first"] == {"acn_compress.low.second"}
    assert structure.circles(graph) == [["acn_compress.low.first", "acn_compress.low.second"]]
    assert structure.circles(structure.wing_graph(graph)) == []


def test_the_longest_chain_passes_a_circle_once() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": {"e"}, "e": set[str](), "f": {"e"}}
    assert structure.longest_chain(graph) == ["a", "b", "d", "e"]


def test_names_and_lines_are_counted_in_the_code_alone(package: list[structure.File]) -> None:
    first, second = (f for f in package if f.path.stem in {"first", "second"})
    assert (first.names("Any"), second.names("Any")) == (2, 0)
    assert (first.code, second.code) == (6, 1)
    assert (first.comments("fmt: skip"), second.comments("fmt: skip")) == (0, 1)
    assert structure.most_parameters(package) == {
        "count": 4,
        "function": "acn_compress.low.first.f",
    }


@pytest.mark.parametrize(
    ("patched", "own"),
    [
        ("'acn_compress.low.first.f'", 1),
        ("f'acn_compress.low.{name}'", 1),
        ("first, 'f'", 1),
        ("first.g, 'f'", 1),
        ("os, 'getcwd'", 0),
        ("'os.getcwd'", 0),
    ],
)
def test_a_patched_name_is_the_packages_own_or_not(patched: str, own: int, tmp_path: Path) -> None:
    path = tmp_path / "tests" / "test_it.py"
    path.parent.mkdir()
    path.write_text(
        f"import os\nfrom acn_compress.low import first\nmonkeypatch.setattr({patched}, None)\n"
    )
    assert structure.patches(structure.files(tmp_path, "tests")) == own
