"""JSON files: read in one place, which says in one line what is wrong with them; written whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from acn_compress.errors import ModelDirError, causes

DEEPEST = 40  # levels of nesting
LARGEST = 200 << 20  # bytes


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None if there is no such file.

    Raises:
        ModelDirError: if the file is not a JSON object, or is one that nobody means: nested deeper
            than any config, or larger than any index.
    """
    return _read(path, dict, "an object")


def read_list(path: Path) -> list[Any]:
    """A JSON list; empty if there is no such file.

    Raises:
        ModelDirError: as `read_json`.
    """
    return _read(path, list, "a list") or []


T = TypeVar("T")


def _read(path: Path, kind: type[T], expected: str) -> T | None:
    try:
        if path.stat().st_size > LARGEST:
            raise ModelDirError(f"{path}: is {size(path.stat().st_size)}, expected a small file.")
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModelDirError(unread(path, error)) from None
    except RecursionError:
        raise ModelDirError(_too_deep(path)) from None
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ModelDirError(f"{path}: cannot be read as JSON ({reason}).") from None
    if not isinstance(data, kind):
        raise ModelDirError(f"{path}: found a JSON {type(data).__name__}, expected {expected}.")
    if depth(data) > DEEPEST:
        raise ModelDirError(_too_deep(path))
    return data


def _too_deep(path: Path) -> str:
    return f"{path}: is nested more than {DEEPEST} levels deep. Get the file again."


def depth(data: object) -> int:
    """Levels of nesting of plain data."""
    level, found = [data], 0
    while level := [
        inner
        for value in level
        if isinstance(value, (dict, list))
        for inner in (value.values() if isinstance(value, dict) else value)
    ]:
        found += 1
    return found


def unread(path: str | Path, error: OSError) -> str:
    """Why the system does not give a file, as a sentence."""
    if isinstance(error, PermissionError):
        return f"no permission to read {path}."
    return f"{path}: cannot be read ({error.strerror or error})."


def check_readable(paths: Iterable[Path]) -> None:
    """Refuse files that cannot be opened before a library is asked, whose words for it are others:
    to safetensors a file that one may not read is one that is not there.

    Raises:
        ModelDirError: naming the first.
    """
    for path in paths:
        try:
            path.open("rb").close()
        except OSError as error:
            raise ModelDirError(unread(path, error)) from None


def denied(error: BaseException) -> str | None:
    """The file that an error, or one that led to it, is about, where the system does not let this
    user have it; None if it is another error."""
    for cause in causes(error):
        if isinstance(cause, PermissionError):
            quoted = re.search("'(.+?)'", str(cause))  # pyarrow's names it in its text alone
            return str(cause.filename or (quoted[1] if quoted else cause))
    return None


def write_json(path: Path, data: Any) -> None:
    """Write JSON, as `write_text`."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file in one rename, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        with suppress(OSError):  # of a disk that is full
            temporary.unlink(missing_ok=True)


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
