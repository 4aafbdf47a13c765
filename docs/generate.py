"""Writes what is made from the options: docs/options.md, recipe.schema.json and acn_compress/verbs.pyi.

python docs/generate.py            writes them
python docs/generate.py --check    exits 1 and names those that are not current
"""

from __future__ import annotations

import json
import sys
import textwrap
from importlib import import_module
from inspect import Parameter
from pathlib import Path
from typing import get_type_hints

from acn_compress import options, surface
from acn_compress.options import VERBS, Options, Verb
from acn_compress.recipe.schema import Recipe, own_fields

ROOT = Path(__file__).parent.parent
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
    kind = surface.annotation(cls, name).replace("|", "\\|")
    default = "required" if field.is_required() else _default(field.default)
    recipe = "" if cls.step and name in own_fields(cls) else " \\*" if cls.step else ""
    return f"| `{name}`{recipe} | {kind} | {default} | {surface.sentence(field)} |"


def _default(value: object) -> str:
    return "" if value is None or value == () else f"`{value}`"


def stub() -> str:
    """What a type checker and an editor know of the verbs."""
    body, names = [], set()
    for cls in VERBS.values():
        report = get_type_hints(import_module(f"acn_compress.steps.{cls.verb}").run)["return"]
        names.add((report.__module__, report.__name__))
        body += ["", f"def {cls.verb}("]
        starred = False
        for p in surface.signature(cls).parameters.values():
            if p.kind is Parameter.KEYWORD_ONLY and not starred:
                body.append("    *,")
                starred = True
            default = "" if p.default is Parameter.empty else f" = {p.default!r}"
            body.append(f"    {p.name}: {p.annotation}{default},")
        body += [
            f") -> {report.__name__}:",
            '    """' + surface.documentation(cls).replace("\n", "\n    "),
        ]
        body += ['    """']
    known = sorted(n for n in vars(options) if any(n in line for line in body) and n[0].isupper())
    known = [n for n in known if n not in {"Options", "Verb", "Any"} and n not in VERB_CLASSES]
    imports = [
        "from typing import Annotated, Any",
        "",
        "from pydantic import BeforeValidator, Field",
        "",
    ]
    imports += [f"from acn_compress.options import {n}" for n in known]
    imports += [f"from {module} import {name}" for module, name in sorted(names)]
    imports += ["from acn_compress.reports.progress import Progress"]
    return "\n".join([f"# {HEAD}", *imports, *body, ""])


VERB_CLASSES = {cls.__name__ for cls in VERBS.values()} | {
    name
    for name, value in vars(options).items()
    if isinstance(value, type) and issubclass(value, Options)
}


def schema() -> str:
    """Of a recipe, for editors."""
    return json.dumps(Recipe.model_json_schema(), indent=1) + "\n"


FILES = {
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
