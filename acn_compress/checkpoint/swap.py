"""A finished directory put in the place of what stood there, so that a kill at any point loses
neither: what is left half way is finished, or swept, at the next start.

Beside OUT, while it is written and while it is put in place:

    .OUT.acn-new-HOST-PID-X    the directory that is being filled
    .OUT.acn-old-HOST-PID-X    what stood at OUT; only there while a *finished* new one goes in
    .OUT.acn-gone-HOST-PID-X   what stood at OUT and is being deleted

A name with the number of a process that lives is left alone.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path

from acn_compress.errors import ModelDirError

_HOST = re.sub(r"[^\w.]", "_", socket.gethostname())
_TOKEN = rf"{re.escape(_HOST)}-(\d+)-[0-9a-f]+"


def target(out: str | PathLike[str]) -> Path:
    """Where an OUT that a user names lies. A link to it stays: what is made, put in place and
    kept beside it goes where the link leads, which is the disk that was meant.

    Raises:
        ModelDirError: for a link that leads nowhere but to itself.
    """
    path = Path(out).expanduser()
    if not path.is_symlink():
        return path
    found = Path(os.path.realpath(path))
    if found.is_symlink():
        raise ModelDirError(f"{out} is a link that leads back to itself. Choose another place.")
    return found


def new_name(path: Path) -> Path:
    """Where the directory that will be `path` is filled."""
    return path.with_name(f".{path.name}.acn-new-{_HOST}-{os.getpid()}-{secrets.token_hex(4)}")


def put(new: Path, path: Path) -> None:
    """Put a finished directory (named by `new_name`) in place; what stood there goes only after."""
    if not path.exists():
        new.replace(path)
        return
    old = _as(new, "old")
    path.replace(old)
    new.replace(path)
    _delete(old)


def recover(path: Path) -> None:
    """Finish what a process that died left half way at `path`, and sweep what it left behind."""
    with suppress(OSError):  # a directory that cannot be read or written has nothing to recover
        for old in _left(path, "old"):
            new = _as(old, "new")
            if not path.exists():
                (new if new.exists() else old).replace(path)
            if old.exists():
                _delete(old)
        for what in ("new", "gone"):
            for left in _left(path, what):
                shutil.rmtree(left, ignore_errors=True)


def _delete(old: Path) -> None:
    """By another name first: one that is half deleted must never be taken for the old result."""
    gone = _as(old, "gone")
    old.replace(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _as(path: Path, what: str) -> Path:
    """The same name with "new", "old" or "gone" in it."""
    head, _, token = path.name.rpartition(".acn-")
    return path.with_name(f"{head}.acn-{what}-{token.partition('-')[2]}")


def _left(path: Path, what: str) -> Iterator[Path]:
    """What processes of this machine that are dead left beside `path`."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.acn-{what}-{_TOKEN}")
    for found in list(path.parent.iterdir()) if path.parent.is_dir() else []:
        match = pattern.fullmatch(found.name)
        if match and not _alive(int(match[1])):
            yield found


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
