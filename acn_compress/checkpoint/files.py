"""JSON files of a model directory, and sizes for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from acn_compress.errors import ModelDirError


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None if there is no such file.

    Raises:
        ModelDirError: if the file is not a JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ModelDirError(f"{path}: cannot be read as JSON ({error}).") from None
    if not isinstance(data, dict):
        raise ModelDirError(f"{path}: found a JSON {type(data).__name__}, expected an object.")
    return data


def write_json(path: Path, data: Any) -> None:
    """Write JSON in one rename, so that a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
