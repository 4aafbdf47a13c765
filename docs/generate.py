"""Writes what is made from the options (docs/options.md, recipe.schema.json and
acn_compress/verbs.pyi), from the models of the contract test (docs/families.md), and from what was
measured (the table in README.md, those in docs/results.md).

python docs/generate.py            writes them
python docs/generate.py --check    exits 1 and names those that are not current
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from inspect import Parameter
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from acn_compress import options, surface
from acn_compress.options import VERBS, Options, Verb
from acn_compress.recipe.schema import Recipe, own_fields

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "docs"))
HEAD = "Made from acn_compress/options.py by `make docs`: do not edit."


def reference() -> str:
    """Every option of every command, as Markdown."""
    lines = ["# Options", "", HEAD, ""]
    lines += [
        "The names are those of the command line (`--batch-size`), of a recipe and of Python "
        "(`batch_size`).",
        "",
    ]
    for verb, cls in VERBS.items():
        lines += [f"## {verb}", "", *textwrap.wrap(" ".join((cls.__doc__ or "").split()), 100), ""]
        lines += ["```sh", cls.example, "```", ""]
        lines += ["| option | type | default | meaning |", "|---|---|---|---|"]
        lines += [_row(cls, name) for name in surface.ordered(cls)]
        lines.append("")
    return "\n".join(lines)


def _row(cls: type[Verb], name: str) -> str:
    field = cls.model_fields[name]
    default = "required" if field.is_required() else _default(field.default)
    recipe = "" if cls.step and name in own_fields(cls) else " \\*" if cls.step else ""
    return f"| `{name}`{recipe} | {_kind(cls, name)} | {default} | {surface.sentence(cls, name)} |"


NAMES = {
    "DataSet": "data",
    "Model": "model",
    "File": "path",
    "Depths": "depths",
    "Learned": "yes or no",
}
WORDS: dict[object, str] = {int: "whole number", float: "number", bool: "yes or no", str: "text"}
BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "below"}


def _kind(cls: type[Verb], name: str) -> str:
    """What may be given, for people."""
    field = cls.model_fields[name]
    written = surface.declared(cls, name).type.removesuffix(" | None")
    if written in NAMES:
        return NAMES[written]
    kinds = [k for k in (get_args(field.annotation) or [field.annotation]) if k is not type(None)]
    found: list[str] = []
    for kind in [field.annotation, *kinds]:
        found += _values(kind)
    if found:
        return ", ".join(dict.fromkeys(found))
    inner = kinds[0]
    bounds = [*field.metadata, *getattr(inner, "__metadata__", ())]
    limits = [
        f"{word} {getattr(b, key):g}"
        for bound in bounds
        for b in [bound, *getattr(bound, "metadata", ())]
        for key, word in BOUNDS.items()
        if getattr(b, key, None) is not None
    ]
    plain = getattr(inner, "__origin__", inner)
    return ", ".join([WORDS.get(plain, written), *limits])


def _values(kind: object) -> list[str]:
    """The values of a Literal, also inside a tuple."""
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    inside = [k for k in get_args(kind) if k is not Ellipsis]
    return [value for k in inside for value in _values(k)]


def _default(value: object) -> str:
    return "" if value is None or value == () else f"`{value}`"


def stub() -> str:
    """What a type checker and an editor know of the verbs."""
    body = [line for cls in VERBS.values() for line in _declared(cls)]
    words = set(
        re.findall(r"\w+", "\n".join(line for line in body if not line.startswith(" " * 5)))
    )
    own = [n for n in vars(options) if n in words and n[0].isupper() and not _elsewhere(n)]
    imports = [
        "from collections.abc import Sequence",
        "from pathlib import Path",
        "from typing import Annotated",
        "",
    ]
    imports += ["from pydantic import Field", ""]
    imports += ["from acn_compress.options import (", *(f"    {n}," for n in sorted(own)), ")"]
    imports += ["from acn_compress.recipe.schema import Recipe"]
    found = sorted({(r.__module__, r.__name__) for cls in VERBS.values() for r in _reports(cls)})
    imports += [f"from {module} import {name}" for module, name in found]
    imports += ["from acn_compress.events import Progress"]
    text = "\n".join([f"# {HEAD}", *imports, *body, ""])
    for arguments in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", "verbs.pyi", "-"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        text = done.stdout
    return text


def _elsewhere(name: str) -> bool:
    """Whether a name of `options.py` is not one of its types."""
    value = getattr(options, name)
    return name in {"Annotated", "Measure", "Field", "Path", "Any", "T", "SRC", "OUT", "DATA"} or (
        isinstance(value, type) and issubclass(value, (Options, tuple))
    )


def _reports(cls: type[Verb]) -> tuple[type, ...]:
    """What a verb may report."""
    run = import_module(f"acn_compress.steps.{cls.verb}").run
    report = get_type_hints(run)["return"]
    return get_args(report) or (report,)


def _declared(cls: type[Verb]) -> Iterator[str]:
    """The declaration of a verb."""
    yield from ("", f"def {cls.verb}(")
    starred = False
    for p in surface.signature(cls).parameters.values():
        if p.kind is Parameter.KEYWORD_ONLY and not starred:
            yield "    *,"
            starred = True
        default = "" if p.default is Parameter.empty else f" = {p.default!r}"
        yield f"    {p.name}: {p.annotation}{default},"
    yield f") -> {' | '.join(report.__name__ for report in _reports(cls))}:"
    yield from ('    """' + surface.documentation(cls)).replace("\n", "\n    ").splitlines()
    yield '    """'


def schema() -> str:
    """Of a recipe, for editors."""
    full = Recipe.model_json_schema()
    for name, group in (("Recipe", full), *full["$defs"].items()):
        cls = Recipe if name == "Recipe" else getattr(options, name, None)
        for option, told in group.get("properties", {}).items():
            told.pop("title", None)
            if "description" not in told and cls is not None:
                told["description"] = surface.sentence(cls, option)
    return json.dumps(full, indent=1) + "\n"


def families() -> str:
    """The page of families."""
    return str(import_module("families").page())


def front() -> str:
    """The README, with the figures that were measured."""
    figures = import_module("figures")
    return str(figures.readme((ROOT / "README.md").read_text(encoding="utf-8")))


def results() -> str:
    """The page of results, with the figures that were measured."""
    tables = import_module("tables")
    return str(tables.results((ROOT / "docs" / "results.md").read_text(encoding="utf-8")))


FILES = {
    "README.md": front,
    "docs/results.md": results,
    "docs/families.md": families,
    "docs/options.md": reference,
    "recipe.schema.json": schema,
    "acn_compress/verbs.pyi": stub,
}


def main(arguments: list[str]) -> int:
    """Write the files, or check them."""
    old = []
    for name, make in FILES.items():
        path, text = ROOT / name, make()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            old.append(name)
            if "--check" not in arguments:
                path.write_text(text, encoding="utf-8")
    if old and "--check" in arguments:
        print(f"not current: {', '.join(old)}. Run: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
