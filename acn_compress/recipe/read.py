"""Reading a recipe file, or a packaged recipe: every fault at once, with its line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import yaml

from acn_compress.checkpoint.files import unread
from acn_compress.errors import ConfigError
from acn_compress.recipe.schema import Recipe
from acn_compress.surface import Place

LARGEST = 1 << 20  # bytes of a recipe


def packaged() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    beside = (
        Path(__file__).parents[2] / "recipes"
    )  # a checkout; an installed package has them inside
    inside = Path(str(resources.files("acn_compress"))) / "recipes"
    folder = inside if inside.is_dir() else beside
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def read(where: str | PathLike[str]) -> Recipe:
    """Read a recipe file, or a packaged recipe by its name.

    Raises:
        ConfigError: with every fault, its line and its place.
    """
    path = _find(where)
    node, data = _parse(path)
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: found {type(data).__name__}, expected a recipe: a mapping with data and "
            "steps."
        )
    tell = _teller(path, dict(_lines(node)), list(_twice(node)))
    recipe = Recipe.model_validate({"name": path.stem} | data, context={"tell": tell})
    if any(True for _ in _twice(node)):
        raise tell([])
    return recipe


def _find(where: str | PathLike[str]) -> Path:
    path = Path(where).expanduser()
    if path.is_file():
        return path
    known = packaged()
    if str(where) in known:
        return known[str(where)]
    near = difflib.get_close_matches(str(where), known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(
        f"{where}: no such recipe file, and no packaged recipe of that name.{hint} "
        f"Packaged: {', '.join(known)}."
    )


class _Loader(yaml.SafeLoader):
    """Without aliases, which could make a small file as large as memory, and without tags, whose
    makers raise whatever Python does."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        what = "aliases" if isinstance(event, yaml.AliasEvent) else f"tags like {tag}"
        if isinstance(event, yaml.AliasEvent) or tag is not None:
            problem = f"{what} are not read"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_yaml_int(self, node: Any) -> int:
        found: int = super().construct_yaml_int(node)
        if abs(found) >= 1 << 64:
            problem = "a number of more than 64 bits"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return found


# a loader's makers are found by tag, not by name
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def _parse(path: Path) -> tuple[Any, Any]:
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path}: larger than a recipe can be ({LARGEST:,} bytes).")
        text = path.read_text(encoding="utf-8")
        return yaml.compose(text, Loader=_Loader), yaml.load(text, Loader=_Loader)
    except OSError as error:
        raise ConfigError(unread(path, error)) from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path}{place}: not valid YAML ({problem}).") from None


def _teller(
    path: Path, lines: dict[Place, int], twice: list[Place]
) -> Callable[[list[tuple[Place, str]]], ConfigError]:
    """Makes one error of all faults, each with its line."""

    def tell(found: list[tuple[Place, str]]) -> ConfigError:
        told = [(lines.get(at, 0), at, "is given twice") for at in twice]
        told += [(_line(lines, at), at, text) for at, text in found]
        texts = [
            f"{path}:{line}: {'.'.join(map(str, at)) or 'recipe'} {text}"
            + ("" if text.endswith("?") else ".")
            for line, at, text in sorted(told, key=lambda fault: fault[0])
        ]
        return ConfigError(
            texts[0] if len(texts) == 1 else f"{len(texts)} faults:\n" + "\n".join(texts)
        )

    return tell


def _lines(node: Any, at: Place = ()) -> Iterator[tuple[Place, int]]:
    """The line of every place in the file; steps are counted from 1, as in the folders' names."""
    yield at, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*at, str(key.value)))
            yield (*at, str(key.value)), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value, 1 if at == ("steps",) else 0):
            yield from _lines(value, (*at, number))


def _line(lines: dict[Place, int], at: Place) -> int:
    """The line of a place, or of the nearest place around it."""
    while at and at not in lines:
        at = at[:-1]
    return lines.get(at, 1)


def _twice(node: Any, at: Place = ()) -> Iterator[Place]:
    """Keys given twice; YAML would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield (*at, str(key.value))
            seen.add(key.value)
            yield from _twice(value, (*at, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value, 1 if at == ("steps",) else 0):
            yield from _twice(value, (*at, number))
