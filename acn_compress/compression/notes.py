"""What a search has measured so far, beside OUT until its model is written: an interrupted one goes
on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from acn_compress.checkpoint.directory import writing
from acn_compress.checkpoint.files import read_json, write_json
from acn_compress.checkpoint.swap import target
from acn_compress.errors import ConfigError, ModelDirError
from acn_compress.found import Found
from acn_compress.measure.candidate import Point
from acn_compress.measure.latency import LatencyTable


def notes_file(out: str | Path) -> Path:
    """Where the notes of a search lie that will write `out`."""
    path = target(out)
    return path.with_name(f"{path.name}.measured.json")


class Measured(Found):
    """The file."""

    version: Literal[1] = 1
    search: str
    """Fingerprint of what the figures depend on."""
    table: LatencyTable | None = None
    int8_table: LatencyTable | None = None
    scale: float | None = None
    """What foreseen times are multiplied by, once some were measured."""
    points: tuple[Point, ...] = ()


@dataclass
class Notes:
    """What is known, written at every change.

    Args:
        path: the file.
        found: what it holds.
    """

    path: Path
    found: Measured = field()

    @classmethod
    def open(cls, out: str | Path, parts: Mapping[str, object], resume: bool) -> Notes:
        """The notes of a search for `out` that depends on `parts`: with `resume` those of an
        interrupted one.

        Raises:
            ConfigError: if those are of another search, or there are none.
            ModelDirError: for a file of this name that is not ours.
        """
        mark = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
        path, found = notes_file(out), None
        try:
            before = read_json(path)
            found = None if before is None else Measured.model_validate(before)
        except (ModelDirError, ValidationError):
            raise ModelDirError(
                f"{path} is where a search keeps what it measured, but what is there is not of "
                "this version. Move it away, or choose another OUT."
            ) from None
        if resume and found is None:
            raise ConfigError(f"nothing to resume: there is no {path}.")
        if not resume or found is None:
            return cls(path, Measured(search=mark))
        if found.search != mark:
            raise ConfigError(
                f"{path} is of another search: source, data or options differ. Give the same "
                "again, or start anew with --overwrite instead of --resume."
            )
        return cls(path, found)

    def add(self, **changed: object) -> None:
        """Note something."""
        self.found = self.found.model_copy(update=changed)
        with writing(str(self.path), "Nothing was written."):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, self.found.plain())

    def remove(self) -> None:
        """The model is written: they are in its report."""
        self.path.unlink(missing_ok=True)
