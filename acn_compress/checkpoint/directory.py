"""The model directory: what the steps share. It is read whole or not at all, and written atomically
(a sibling temporary directory, then a rename), never into its own source.

    config.json, model.safetensors    as transformers users know them; structure in config.json
    tokenizer and image processor     likewise
    report.json                       what the step that wrote the directory found
    provenance.json                   every step so far: options, seed, package versions, SHA-256 of
                                      the source's weights
    README.md                         a model card written from them
    profile.json, profile.png         added by `profile`

A directory with our provenance.json is ours. No other is ever replaced, and one of ours not while
it holds a file that we did not write.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from acn_compress.checkpoint import lock, swap
from acn_compress.checkpoint.files import read_json, write_json
from acn_compress.checkpoint.provenance import Provenance
from acn_compress.checkpoint.source import Source
from acn_compress.errors import AcnError, ModelDirError

# what steps write into a directory beside the model, and beside the files that go with one
TOLD = (
    *("config.json", "report.json", "provenance.json", "README.md"),
    *("profile.json", "profile.png", "frontier.json", "frontier.png", "report.html"),
)
LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")  # that systems leave wherever somebody looks


def check_out(
    out: str | PathLike[str], *, source: Source | None = None, overwrite: bool = False
) -> Path:
    """Refuse an output directory that would be lost or would damage its source, before any work is
    done, and hold it for this process (`lock.py`) until `new_directory` has written it.

    Raises:
        ModelDirError: saying which.
    """
    if not str(out):
        raise ModelDirError("OUT is empty, expected the name of a directory to create.")
    path = swap.target(out)
    if source is not None:
        _check_apart(path, str(out), source)
    if path.exists() and not path.is_dir():
        raise ModelDirError(f"OUT {out} is a file, expected a directory to create.")
    lock.take(path)
    try:
        swap.recover(path)
        _check_replaceable(path, str(out), overwrite)
        _check_writable(path, str(out))
    except AcnError:
        lock.release(path)
        raise
    return path


def check_folder(out: str | PathLike[str], source: Source) -> None:
    """The same of a folder for several outputs, which may hold some already; it is held as long as
    this process lives.

    Raises:
        ModelDirError: saying why nothing can be written there.
    """
    path = swap.target(out)
    _check_apart(path / "1", str(out), source)
    _check_writable(path / "1", str(out))
    lock.take(path)


def is_ours(directory: Path) -> bool:
    """Whether this package wrote a directory: it has the provenance that every step leaves."""
    found = _provenance(directory)
    return bool(found and found.steps)


def _provenance(directory: Path) -> Provenance | None:
    """None where it is not one that this version writes."""
    try:
        stored = read_json(directory / "provenance.json")
        return Provenance.read(stored, str(directory)) if stored else None
    except ModelDirError:
        return None


def _strangers(directory: Path, ours: Sequence[str] | None) -> list[str]:
    """Files of a directory of ours that we did not write, as far as it says which those are."""
    others = set() if ours is None else _files(directory) - {*ours, *TOLD}
    return sorted(f for f in others if f.rpartition("/")[2] not in LITTER)


def _files(directory: Path) -> set[str]:
    """All that is no folder, by its path within the directory."""
    return {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


def _sign(directory: Path) -> None:
    """Note which files were written, so that others' are never replaced with them."""
    file = directory / "provenance.json"
    if stored := read_json(file):
        write_json(file, stored | {"files": sorted(_files(directory))})


def _check_apart(path: Path, out: str, source: Source) -> None:
    if not source.directory.is_dir():  # a model in memory that came from nowhere
        return
    resolved, own = path.resolve(), source.directory.resolve()
    inside = own in resolved.parents and not source.loose  # beside a weight file is not in it
    if resolved == own or inside or resolved in own.parents:
        raise ModelDirError(
            f"OUT {out} and SRC {source.name} overlap. A step never writes into its source: choose "
            "another OUT."
        )


def _check_replaceable(path: Path, out: str, overwrite: bool) -> None:
    if not path.is_dir() or not (found := sorted(p.name for p in path.iterdir())):
        return
    if not overwrite:
        raise ModelDirError(
            f"OUT {out} exists and is not empty. Choose another, or pass --overwrite to replace it."
        )
    provenance = _provenance(path)
    if provenance is None or not provenance.steps:
        raise ModelDirError(
            f"OUT {out} was not written by acn-compress (it has no provenance.json of ours, but "
            f"{_some(found)}), so it is not replaced. Choose another OUT, or move it away."
        )
    if strangers := _strangers(path, provenance.files):
        raise ModelDirError(
            f"OUT {out} also holds what acn-compress did not write ({_some(strangers)}), so it is "
            "not replaced. Move that away, or choose another OUT."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _check_writable(path: Path, out: str) -> None:
    parent = path.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise ModelDirError(
            f"OUT {out}: {parent} is a file, expected a directory. Choose another OUT."
        )
    if not os.access(parent, os.W_OK):
        raise ModelDirError(f"OUT {out}: no permission to write in {parent}.")


@contextmanager
def new_directory(
    out: str | PathLike[str], *, source: Source | None = None, overwrite: bool = False
) -> Iterator[Path]:
    """A directory to fill; it appears at `out` when the context ends well, and leaves nothing
    behind when it does not, no folder on the way to it either.

    Raises:
        ModelDirError: as `check_out`, or if the disk is full or not writable.
    """
    path = check_out(out, source=source, overwrite=overwrite)
    new, missing = swap.new_name(path), [p for p in path.parents if not p.exists()]
    try:
        with writing(f"OUT {out}", "Nothing was written."):
            path.parent.mkdir(parents=True, exist_ok=True)
            new.mkdir()
            yield new
            _sign(new)
            _follow_umask(new)
            swap.put(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        with suppress(OSError):  # one that is not empty stays
            for parent in missing:
                parent.rmdir()
        lock.release(path)


@contextmanager
def writing(where: str, then: str) -> Iterator[None]:
    """Inside, a disk that is full or cannot be written is one line.

    Args:
        where: what is written.
        then: a sentence: what is lost, or what to do.
    Raises:
        ModelDirError: in place of what the system or a library raised.
    """
    try:
        yield
    except AcnError:
        raise
    except Exception as error:
        if (reason := _disk_reason(error)) is None:
            raise
        raise ModelDirError(f"{where}: {reason}. {then}") from None


def _follow_umask(directory: Path) -> None:
    """Some libraries write files that only their owner may read."""
    mask = os.umask(0o077)
    os.umask(mask)
    for path in directory.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def _disk_reason(error: Exception) -> str | None:
    """What the user can mend about a failed write; safetensors raises its own class with the
    system's text."""
    number = getattr(error, "errno", None)
    text = str(error)
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "os error 28" in text:
        return "no space left on the device"
    if number == errno.EFBIG or "File too large" in text or "os error 27" in text:
        return "the file system does not take a file this large"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS) or "Permission denied" in text:
        return "no permission to write there"
    if isinstance(error, OSError) and error.strerror:
        return " ".join(filter(None, (error.strerror, error.filename and f"({error.filename})")))
    return None
