"""What may stand in a file that is handed on: no place on somebody's machine, no name of a user."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from acn_compress.found import Found

F = TypeVar("F", bound=Found)

# an absolute path, or one from the home or the parent directory, up to its last name; not a URL
PLACE = re.compile(r"(?<![\w/:.~-])((~[\w.-]*|\.\.)?/([^/\s,;'\"()]+/)+|(~[\w.-]*|\.\.)/)")


def published(value: Any) -> Any:
    """Plain data with every path in it cut down to its last name; relative paths stay."""
    if isinstance(value, Mapping):
        return {published(k): published(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [published(v) for v in value]
    return _text(value) if isinstance(value, str) else value


def shown(report: F) -> F:
    """The same report with its texts (source, out, note, ...) as they are published, and those of
    what is in it."""
    values = {name: getattr(report, name) for name in type(report).model_fields}
    return report.model_copy(update={name: _shown(value) for name, value in values.items()})


def _shown(value: Any) -> Any:
    if isinstance(value, Found):
        return shown(value)
    if isinstance(value, tuple):
        return tuple(map(_shown, value))
    return published(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    whole = text.rstrip("/")
    if whole.startswith(("/", "~", "../")):  # a path, which may have blanks in it
        return whole.rpartition("/")[2]
    return PLACE.sub("", text)
