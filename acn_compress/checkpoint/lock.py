"""One writer per OUT: a step takes it before any work, and holds it until the result stands.

The lock is the operating system's (flock), so that of a process that died is gone with it. Its file
lies in the user's temporary directory, never beside OUT.
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
    try:
        file = _file(path)
    except OSError:  # no temporary directory of one's own: nothing to lock with
        return
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            other = os.read(descriptor, 20).decode(errors="replace").strip()
            os.close(descriptor)
            raise ModelDirError(
                f"OUT {out} is being written by another acn-compress (process {other or '?'}). "
                "Wait for it, or choose another OUT."
            ) from None
        if _still_there(file, descriptor):
            break
        os.close(descriptor)  # its holder was just letting go
    os.truncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    _held[path] = descriptor


def release(out: Path) -> None:
    """Let go of `out`, if this process holds it."""
    descriptor = _held.pop(path := _resolved(out), None)
    if descriptor is not None:
        with suppress(OSError):
            _file(path).unlink()
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
    return out.parent.resolve() / out.name


def _file(path: Path) -> Path:
    folder = Path(tempfile.gettempdir()) / f"acn-compress-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(folder)
    return folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.lock"


def _still_there(file: Path, descriptor: int) -> bool:
    """Whether the file that was locked is the one that others would lock."""
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
