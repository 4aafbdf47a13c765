"""A checkpoint on this machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acn_compress.checkpoint.files import read_json
from acn_compress.errors import CheckpointError, ModelDirError

if TYPE_CHECKING:
    from acn_compress.checkpoint.tensors import Stored

Stamps = tuple[tuple[int, int, int], ...]  # inode, size, time of every file


@dataclass(frozen=True)
class Source:
    """A checkpoint on this machine.

    Args:
        name: what the user called it.
        directory: where config and processor files lie.
        weights: the weight files, in order.
        loose: the weights are a file the user named, not part of a `save_pretrained` directory.
        architecture: the timm model that a loose file holds, where the user named one instead of a
            config.
    """

    name: str
    directory: Path
    weights: tuple[Path, ...]
    loose: bool = False
    architecture: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """What its weights are made of."""
        return self.weights

    def sha256(self) -> str:
        """SHA-256 over the bytes of the weight files as they were when this was first asked, which
        is before `load_source` reads them."""
        return self._hashed[1]

    def is_same(self, other: Source) -> bool:
        """Whether both have the same weights."""
        return self is other or self.sha256() == other.sha256()

    def check_unchanged(self) -> None:
        """Refuse weights that are no longer those that were hashed.

        Raises:
            CheckpointError: if somebody wrote the files since.
        """
        if self._stamps() != self._hashed[0]:
            raise CheckpointError(
                f"{self.name}: the weight files changed while they were in use. Wait until they "
                "are "
                "written, and start again."
            )

    @cached_property
    def _hashed(self) -> tuple[Stamps, str]:
        return self._stamps(), self._digest()

    def _stamps(self) -> Stamps:
        """What changes when somebody writes the weight files."""
        stats = [path.stat() for path in self.files]
        return tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in stats)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                while chunk := file.read(1 << 22):
                    digest.update(chunk)
        return digest.hexdigest()

    def tensors(self) -> Stored:
        """The tensors of the weight files by name."""
        from acn_compress.checkpoint.tensors import read_files  # only here is torch needed

        return read_files(self.weights)

    def check_inside(self, path: Path) -> None:
        """Refuse a link to a file that is not part of the checkpoint, which would get out with it.

        Raises:
            ModelDirError: naming both.
        """
        place = self.directory.resolve()
        inside = (
            place.parent.parent if place.parent.name == "snapshots" else place
        )  # the Hub's cache
        if not path.resolve().is_relative_to(inside):
            raise ModelDirError(
                f"{path}: is a link to {path.resolve()}, out of the model directory. Copy the "
                "file in."
            )

    def bytes(self) -> int:
        """Bytes of the weight files on disk."""
        return sum(p.stat().st_size for p in self.files)

    def read(self, file: str) -> dict[str, Any] | None:
        """A JSON object beside the weights, or None if there is no such file."""
        return None if self.loose else read_json(self.directory / file)

    @property
    def config(self) -> dict[str, Any]:
        """config.json."""
        self.check_inside(self.directory / "config.json")
        return read_json(self.directory / "config.json") or {}
