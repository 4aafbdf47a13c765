"""The structure of the code in a checkout, as numbers: is it getting simpler?

    python -m benchmarks.structure [CHECKOUT]      # default: the clone this file lies in

Prints one JSON object. It reads the source and imports nothing of it, but runs `--help` of the
checkout five times, with the Python it runs with. Imports count wherever they stand, in functions
too, unless only a type checker sees them (TYPE_CHECKING). A wing is a folder of the package or a
module beside them.
"""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import time
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.command import parser

PACKAGE, FOLDERS = "acn_compress", ("acn_compress", "tests", "benchmarks")
WIDTH = 100
SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
SILENT |= {tokenize.ENDMARKER}
RUNS = 5
Graph = dict[str, set[str]]  # what each node imports


@dataclass(frozen=True)
class File:
    """A source file of a checkout."""

    root: Path
    path: Path

    @cached_property
    def text(self) -> str:
        """As it stands."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Parsed."""
        return ast.parse(self.text)

    @cached_property
    def tokens(self) -> list[tokenize.TokenInfo]:
        """Of the whole file."""
        return list(tokenize.generate_tokens(io.StringIO(self.text).readline))

    @property
    def lines(self) -> list[str]:
        """All."""
        return self.text.splitlines()

    @property
    def code(self) -> int:
        """Lines that are neither blank nor only a comment; docstrings count."""
        spans = (range(t.start[0], t.end[0] + 1) for t in self.tokens if t.type not in SILENT)
        return len({n for span in spans for n in span if self._filled(n)})

    @property
    def words(self) -> int:
        """Tokens of the code, however the lines are broken; a docstring counts as one."""
        return sum(t.type not in SILENT and t.string != "," for t in self.tokens)

    def _filled(self, number: int) -> bool:
        return number <= len(self.lines) and bool(self.lines[number - 1].strip())

    @property
    def module(self) -> str:
        """Its dotted name."""
        parts = self.path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def names(self, name: str) -> int:
        """How often a name is used, its import left out."""
        imports = sum(
            alias.name == name
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        )
        used = sum(t.type == tokenize.NAME and t.string == name for t in self.tokens)
        return used - imports

    def comments(self, text: str) -> int:
        """How many comments contain `text`."""
        return sum(t.type == tokenize.COMMENT and text in t.string for t in self.tokens)

    @property
    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Methods too."""
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    @property
    def imported(self) -> dict[str, str]:
        """What it imports when it runs: local name to full dotted name."""
        found: dict[str, str] = {}
        for node in at_runtime(self.tree):
            if isinstance(node, ast.Import):
                found |= {a.asname or a.name: a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
        return found


def at_runtime(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, without the bodies of `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield from at_runtime(child)


def files(root: Path, folder: str) -> list[File]:
    """The source files of a folder."""
    return [File(root, path) for path in sorted((root / folder).rglob("*.py"))]


def module_graph(package: list[File]) -> Graph:
    """Which modules of the package each of them imports."""
    known = {file.module for file in package}
    return {
        file.module: {
            module
            for name in file.imported.values()
            if (module := owner(name, known)) is not None and module != file.module
        }
        for file in package
    }


def owner(name: str, known: set[str]) -> str | None:
    """The module that a dotted name is, or lies in."""
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return name if name in known else None


def wing_graph(modules: Graph) -> Graph:
    """The same between wings; the package's own `__init__` is none."""
    found: Graph = {wing(module): set() for module in modules if "." in module}
    for module, others in modules.items():
        if "." in module:
            found[wing(module)] |= {wing(o) for o in others if "." in o} - {wing(module)}
    return found


def wing(module: str) -> str:
    """Of a module."""
    return module.split(".")[1]


def reachable(graph: Graph, start: str) -> set[str]:
    """What can be reached from a node; itself over a circle only."""
    seen: set[str] = set()
    todo = list(graph[start])
    while todo:
        if (node := todo.pop()) not in seen:
            seen.add(node)
            todo += graph[node]
    return seen


def circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that reach each other."""
    groups = {tuple(sorted(group)) for group in groups_of(graph).values() if len(group) > 1}
    return sorted(map(list, groups))


def groups_of(graph: Graph) -> dict[str, set[str]]:
    """Every node with those that it reaches and that reach it."""
    reach = {node: reachable(graph, node) for node in graph}
    return {node: {node} | {o for o in reach[node] if node in reach[o]} for node in graph}


def longest_chain(graph: Graph) -> list[str]:
    """The longest path along imports; a circle counts as one, under its first name."""
    name = {node: min(group) for node, group in groups_of(graph).items()}
    plain: Graph = {first: set() for first in name.values()}
    for node, others in graph.items():
        plain[name[node]] |= {name[o] for o in others} - {name[node]}
    found: dict[str, list[str]] = {}
    for node in sorted(plain, key=lambda n: len(reachable(plain, n))):  # what is below comes first
        found[node] = [node, *max((found[o] for o in sorted(plain[node])), key=len, default=[])]
    return max(found.values(), key=len)


def patches(tests: list[File]) -> int:
    """How often tests replace a name of the package itself by monkeypatch."""
    return sum(
        is_own(node.args[0], file.imported)
        for file in tests
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "monkeypatch.setattr"
    )


def is_own(target: ast.expr, imported: dict[str, str]) -> bool:
    """Whether what is patched is of the package: named in a string, or by an imported name."""
    text = ast.unparse(target)
    if isinstance(target, ast.Constant | ast.JoinedStr):
        return f"{PACKAGE}." in text
    first = text.split(".")[0]
    return imported.get(first, first).split(".")[0] == PACKAGE


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Of a function, `self` among them."""
    a = function.args
    rest = [p for p in (a.vararg, a.kwarg) if p is not None]
    return len(a.posonlyargs) + len(a.args) + len(a.kwonlyargs) + len(rest)


def most_parameters(package: list[File]) -> dict[str, object]:
    """The function that has most."""
    found = [(parameters(f), f"{file.module}.{f.name}") for file in package for f in file.functions]
    count, name = max(found)
    return {"count": count, "function": name}


def help_seconds(root: Path) -> dict[str, float]:
    """Of `acn-compress --help`, the best of RUNS: on the clock, and of the processor, which other
    work on the machine disturbs less."""
    runs = [one_help(root) for _ in range(RUNS)]
    clock, processor = (round(min(found), 3) for found in zip(*runs, strict=True))
    return {"clock": clock, "processor": processor}


def one_help(root: Path) -> tuple[float, float]:
    """Run once."""
    command = [sys.executable, "-m", PACKAGE, "--help"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    started, before = time.perf_counter(), processor_of_children()
    subprocess.run(command, cwd=root, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started, processor_of_children() - before


def processor_of_children() -> float:
    """Seconds that finished child processes took of it so far."""
    used = os.times()
    return used.children_user + used.children_system


def size(source: list[File]) -> dict[str, int]:
    """Of a folder."""
    return {
        "files": len(source),
        "lines": sum(len(file.lines) for file in source),
        "code": sum(file.code for file in source),
        "tokens": sum(file.words for file in source),
        f"over_{WIDTH}_columns": sum(len(line) > WIDTH for f in source for line in f.lines),
        "fmt_skip": sum(file.comments("fmt: skip") for file in source),
    }


def report(root: Path) -> dict[str, object]:
    """All of it."""
    package, tests = files(root, PACKAGE), files(root, "tests")
    graph, lines = module_graph(package), sum(len(file.lines) for file in package)
    chain, anys = longest_chain(graph), sum(file.names("Any") for file in package)
    return {
        "size": {folder: size(files(root, folder)) for folder in FOLDERS},
        "any_per_1000_lines": round(1000 * anys / lines, 1),
        "most_parameters": most_parameters(package),
        "module_circles": circles(graph),
        "wing_circles": circles(wing_graph(graph)),
        "longest_chain": {"modules": len(chain), "chain": chain},
        "monkeypatched_own_names": patches(tests),
        "help_seconds": help_seconds(root),
    }


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("checkout", type=Path, nargs="?", default=Path(__file__).parents[1])
    print(json.dumps(report(command.parse_args().checkout.resolve()), indent=1))


if __name__ == "__main__":
    main()
