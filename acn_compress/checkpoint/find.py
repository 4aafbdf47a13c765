"""Finding a checkpoint: by path, by weight file, by Hub id or in memory, its files named."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from acn_compress.architectures import timm
from acn_compress.checkpoint import adapter, hub, swap
from acn_compress.checkpoint.files import check_readable, read_json
from acn_compress.checkpoint.memory import Loaded
from acn_compress.checkpoint.source import Source
from acn_compress.errors import AcnError, CheckpointError, ModelDirError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOOSE = frozenset((".safetensors", ".bin", ".pth", ".pt"))  # ends of files that may hold weights
# what a directory may hold its weights in: one file, or the index of its shards; the first counts
LAYOUTS = (hub.SAFE, hub.LEGACY)


def find_source(
    src: str | PathLike[str] | PreTrainedModel,
    *,
    config: str | PathLike[str] | None = None,
    revision: str | None = None,
) -> Source:
    """Find a checkpoint: a directory, a weight file (with `config`, unless config.json lies beside
    it), a Hub id, the directory of a LoRA adapter (with the model that it names), or a transformers
    model in memory.

    A Hub id may end in "@" and a branch, tag or commit, which is the same as `revision`.

    Raises:
        ModelDirError, CheckpointError: if there is none.
    """
    if not isinstance(src, (str, PathLike)):
        return Loaded.of(src)
    return _readable(_found(src, config, revision, adapters=True))


def _readable(source: Source) -> Source:
    check_readable(source.files)
    return source


def _found(
    src: str | PathLike[str],
    config: str | PathLike[str] | None = None,
    revision: str | None = None,
    adapters: bool = False,
) -> Source:
    path = Path(src).expanduser()
    if not path.exists():
        swap.recover(swap.target(path))  # a step may have been killed while it replaced it
    if path.is_file():
        return _loose_source(path, config)
    if path.is_dir():
        return _directory_source(path, str(src), adapters)
    return _hub_source(str(src), path, revision, adapters)


def find_again(name: str, beside: Path, config: str | None = None) -> Iterator[Source]:
    """What is on this machine under a name that was recorded: a path as it stands, one with its
    last name in the folder `beside`, a Hub id in the cache. Nothing is asked for or fetched.

    Args:
        config: of a weight file.
    """
    places = [Path(name).expanduser(), beside / Path(name).name]
    repository, _, revision = name.partition("@")
    if repository.count("/") < 2 and (held := hub.cached(repository, revision or None)):
        places.append(held)
    for path in dict.fromkeys(places):
        with suppress(AcnError):  # it may be anything
            if path.is_file():
                yield _readable(_loose_source(path, config))
            elif path.is_dir():
                yield _readable(_directory_source(path, str(path), adapters=False))


def _directory_source(path: Path, name: str, adapters: bool) -> Source:
    if (path / adapter.CONFIG).is_file():
        if not adapters:
            raise ModelDirError(f"{name} is an adapter too. Merge it into its model first.")
        if (path / "config.json").is_file():
            raise ModelDirError(
                f"{name}: has an adapter ({adapter.CONFIG}) beside a model, which may be the one "
                "that it belongs to or the one it was merged into. Move one of them away."
            )
        return adapter.Adapted.of(path, name, _found)
    if not (path / "config.json").is_file():
        found = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"
        raise ModelDirError(
            f"{name}: not a model directory: no config.json (found: {found}). "
            "Expected what save_pretrained writes."
        )
    return Source(name, path, _weight_files(path, name))


def _hub_source(text: str, path: Path, revision: str | None, adapters: bool) -> Source:
    """Of a name that is no path of this machine: it may be a Hub id, unless it can only be a
    path."""
    name, _, at = text.partition("@")
    is_path = path.is_absolute() or text.startswith((".", "~")) or path.suffix in LOOSE
    if is_path or text.count("/") > 1:
        raise ModelDirError(f"{text}: no such file or directory.{near(path)}")
    directory = hub.download(name, revision or at or None, hint=near(path, hub.cached_names()))
    return _directory_source(directory, text, adapters)


def near(path: Path, others: Iterable[str] = ()) -> str:
    """The names most like that of `path`, in its directory and among `others`, as a sentence."""
    try:
        here = {p.name: str(path.parent / p.name) for p in path.parent.iterdir()}
    except OSError:
        here = {}
    known = here | {name: name for name in others}
    near = difflib.get_close_matches(path.name, here, n=2)
    near += [n for n in difflib.get_close_matches(str(path), list(others), n=2) if n not in near]
    return f" Did you mean {' or '.join(known[n] for n in near[:2])}?" if near else ""


def _loose_source(path: Path, config: str | PathLike[str] | None) -> Source:
    where = Path(config).expanduser() if config else path.parent
    if config and not where.exists() and timm.is_name(str(config)):
        timm.check_name(str(config), "--architecture")
        return Source(str(path), path.parent, (path,), loose=True, architecture=str(config))
    where = where.parent if where.is_file() else where
    if not (where / "config.json").is_file():
        raise CheckpointError(
            f"{path}: a weight file says nothing about its architecture. Pass --config with a "
            "config.json or its directory, or --architecture with the name of a timm model."
        )
    return Source(str(path), where, (path,), loose=True)


def _weight_files(directory: Path, name: str) -> tuple[Path, ...]:
    """The weight files of a directory, in order.

    Raises:
        CheckpointError: if there are none, or some are missing.
    """
    for single, index in LAYOUTS:
        if (directory / single).is_file():
            return (directory / single,)
        if (listed := read_json(directory / index)) is not None:
            return _shards(directory, f"{name}: {index}", listed.get("weight_map"))
    others = sorted(p.name for p in directory.iterdir() if p.suffix in {*LOOSE, ".ckpt"})
    hint = f" Found {', '.join(others[:3])}: name the file itself as SRC." if others else ""
    raise CheckpointError(
        f"{name}: no weights: expected model.safetensors (or its shards) or "
        f"pytorch_model.bin.{hint}"
    )


def _shards(directory: Path, where: str, listed: object) -> tuple[Path, ...]:
    """The files an index lists; each must lie in the directory itself."""
    names = list(listed.values()) if isinstance(listed, dict) else []
    if not names or not all(isinstance(n, str) for n in names):
        raise CheckpointError(f"{where}: weight_map must name a file for every tensor.")
    if paths := [n for n in names if Path(n).name != n or Path(n).suffix not in LOOSE]:
        raise CheckpointError(f"{where}: lists {paths[0]!r}, expected weight files beside it.")
    files = tuple(directory / f for f in sorted(set(names)))
    if missing := [f.name for f in files if not f.is_file()]:
        raise CheckpointError(
            f"{where} lists {len(files)} shards, missing: {', '.join(missing[:3])}."
        )
    return files
