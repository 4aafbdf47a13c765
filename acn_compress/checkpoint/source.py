"""A checkpoint on this machine: found by path, by weight file or by Hub id, its files named."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acn_compress.architectures import timm
from acn_compress.checkpoint.files import read_json
from acn_compress.checkpoint.hub import download
from acn_compress.errors import CheckpointError, ModelDirError


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

    def sha256(self) -> str:
        """SHA-256 over the bytes of the weight files."""
        digest = hashlib.sha256()
        for path in self.weights:
            with path.open("rb") as file:
                while chunk := file.read(1 << 22):
                    digest.update(chunk)
        return digest.hexdigest()

    def bytes(self) -> int:
        """Bytes of the weight files on disk."""
        return sum(p.stat().st_size for p in self.weights)

    def read(self, file: str) -> dict[str, Any] | None:
        """A JSON object beside the weights, or None if there is no such file."""
        return None if self.loose else read_json(self.directory / file)

    @property
    def config(self) -> dict[str, Any]:
        """config.json."""
        return read_json(self.directory / "config.json") or {}


def find_source(
    src: str | Path, *, config: str | Path | None = None, revision: str | None = None
) -> Source:
    """Find a checkpoint: a directory, a weight file (with `config`, unless config.json lies beside
    it), or a Hub id.

    A Hub id may end in "@" and a branch, tag or commit, which is the same as `revision`.

    Raises:
        ModelDirError, CheckpointError: if there is none.
    """
    path = Path(src).expanduser()
    if path.is_file():
        return _loose_source(path, config)
    if path.is_dir():
        if not (path / "config.json").is_file():
            found = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"
            raise ModelDirError(
                f"{src}: not a model directory: no config.json (found: {found}). Expected what save_pretrained writes."
            )
        return Source(str(src), path, _weight_files(path, str(src)))
    text = str(src)
    if (
        path.is_absolute()
        or text.startswith((".", "~"))
        or text.count("/") > 1
        or path.suffix in {".safetensors", ".bin", ".pth", ".pt"}
    ):
        raise ModelDirError(f"{src}: no such file or directory.{_near(path)}")
    name, _, at = text.partition("@")
    directory = download(name, revision or at or None)
    return Source(text, directory, _weight_files(directory, text))


def _near(path: Path) -> str:
    import difflib

    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {path.parent / near[0]}?" if near else ""


def _loose_source(path: Path, config: str | Path | None) -> Source:
    where = Path(config).expanduser() if config else path.parent
    if config and not where.exists() and timm.is_name(str(config)):
        timm.check_name(str(config), "--architecture")
        return Source(str(path), path.parent, (path,), loose=True, architecture=str(config))
    where = where.parent if where.is_file() else where
    if not (where / "config.json").is_file():
        raise CheckpointError(
            f"{path}: a weight file says nothing about its architecture. Pass --config with a config.json or its directory, "
            "or --architecture with the name of a timm model."
        )
    return Source(str(path), where, (path,), loose=True)


def _weight_files(directory: Path, name: str) -> tuple[Path, ...]:
    for single, index in (
        ("model.safetensors", "model.safetensors.index.json"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ):
        if (directory / single).is_file():
            return (directory / single,)
        if (listed := read_json(directory / index)) is not None:
            files = tuple(directory / f for f in sorted(set(listed.get("weight_map", {}).values())))
            missing = [f.name for f in files if not f.is_file()]
            if missing:
                raise CheckpointError(
                    f"{name}: {index} lists {len(files)} shards, missing: {', '.join(missing[:3])}."
                )
            return files
    others = sorted(
        p.name
        for p in directory.iterdir()
        if p.suffix in {".safetensors", ".bin", ".pth", ".pt", ".ckpt"}
    )
    hint = f" Found {', '.join(others[:3])}: name the file itself as SRC." if others else ""
    raise CheckpointError(
        f"{name}: no weights: expected model.safetensors (or its shards) or pytorch_model.bin.{hint}"
    )
