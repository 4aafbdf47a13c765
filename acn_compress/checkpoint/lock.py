"""One writer per OUT: a step takes it before any work, and holds it until the result stands.

The lock is the operating system's (flock), so that of a process that died is gone with it. Its file
lies in the user's temporary directory, never beside OUT. It goes when the lock does; what killed
processes left there is swept when the next lock is taken. Files come and go only behind one door,
the lock of a file that stays, so that nobody ever locks a file that is just being taken away.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from acn_compress.errors import ModelDirError

try:
    import fcntl
except ImportError:  # Windows: renaming is refused there while somebody writes
    fcntl = None  # type: ignore[assignment]

_held: dict[Path, int] = {}  # OUT -> descriptor of its lock, in this process


def take(out: Path) -> None:
    """Hold `out` from now on; nothing happens if this process holds it already.

    Raises:
        ModelDirError: if another process does.
    """
    path = _resolved(out)
    if path in _held or fcntl is None:
        return
    with suppress(OSError), _door() as folder:  # no folder of one's own: nothing to lock with
        _sweep(folder)
        descriptor = os.open(folder / _name(path), os.O_RDWR | os.O_CREAT, 0o600)
        if not _locked(descriptor):
            raise ModelDirError(
                f"OUT {out} is being written by another acn-compress (process "
                f"{_owner(descriptor)}). Wait for it, or choose another OUT."
            )
        _held[path] = descriptor
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())


def release(out: Path) -> None:
    """Let go of `out`, if this process holds it."""
    descriptor = _held.pop(path := _resolved(out), None)
    if descriptor is not None:
        with suppress(OSError), _door() as folder:
            (folder / _name(path)).unlink()
        os.close(descriptor)


@contextmanager
def let_go() -> Iterator[None]:
    """What is taken inside is let go at the end, however it ends: of a whole step, so that one that
    fails early holds nothing in a process that lives on."""
    before = set(_held)
    try:
        yield
    finally:
        for path in set(_held) - before:
            release(path)


def _resolved(out: Path) -> Path:
    return Path(os.path.realpath(out))


def _name(path: Path) -> str:
    return f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.lock"


@contextmanager
def _door() -> Iterator[Path]:
    """The folder of the lock files; inside, no other process makes, takes or removes one.

    Raises:
        OSError: if there is none of the user's own.
    """
    folder = Path(tempfile.gettempdir()) / f"acn-compress-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / "door", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove what killed processes left: files that nobody has locked."""
    for file in folder.glob("*.lock"):
        with suppress(OSError), file.open("r+") as left:
            if _locked(left.fileno()):
                file.unlink()


def _locked(descriptor: int) -> bool:
    """Whether the file is now locked by this process; not if another one has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(descriptor: int) -> str:
    """The process that wrote itself into the file."""
    with open(descriptor, errors="replace") as file:
        return file.read(20).strip() or "?"
