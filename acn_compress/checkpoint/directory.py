"""The model directory: what the steps share. It is read whole or not at all, and written atomically
(a sibling temporary directory, then a rename), never into its own source.

    config.json, model.safetensors, tokenizer and image-processor files    as transformers users
    know them; structure in config.json report.json          what the step that wrote the directory
    found
    provenance.json      every step so far: options, seed, package versions, SHA-256 of the source's
        weights
    README.md            a model card written from them
    profile.json, .png   added by `profile`
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from acn_compress.checkpoint.files import read_json as read_json
from acn_compress.checkpoint.files import size as size
from acn_compress.checkpoint.files import write_json as write_json
from acn_compress.checkpoint.processors import copy_processors as copy_processors
from acn_compress.checkpoint.provenance import machine as machine
from acn_compress.checkpoint.provenance import options_of as options_of
from acn_compress.checkpoint.provenance import packages as packages
from acn_compress.checkpoint.provenance import provenance as provenance
from acn_compress.checkpoint.source import Source as Source
from acn_compress.checkpoint.source import find_source as find_source
from acn_compress.errors import AcnError, ModelDirError


def check_out(
    out: str | PathLike[str], *, source: Source | None = None, overwrite: bool = False
) -> Path:
    """Refuse an output directory that would be lost or would damage its source, before any work is
    done.

    Raises:
        ModelDirError: saying which.
    """
    path = Path(out).expanduser()
    resolved = path.resolve()
    if source is not None and source.directory.exists():
        own = source.directory.resolve()
        inside = own in resolved.parents and not source.loose  # beside a weight file is not in it
        if resolved == own or inside or resolved in own.parents:
            raise ModelDirError(
                f"OUT {out} and SRC {source.name} overlap. A step never writes into its source: choose another OUT."
            )
    if path.exists() and not path.is_dir():
        raise ModelDirError(f"OUT {out} is a file, expected a directory to create.")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise ModelDirError(
            f"OUT {out} exists and is not empty. Choose another, or pass --overwrite to replace it."
        )
    parent = path.parent
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK):
        raise ModelDirError(f"OUT {out}: no permission to write in {parent}.")
    return path


@contextmanager
def new_directory(
    out: str | PathLike[str], *, source: Source | None = None, overwrite: bool = False
) -> Iterator[Path]:
    """A directory to fill; it appears at `out` when the context ends well, and leaves nothing
    behind when it does not.

    Raises:
        ModelDirError: as `check_out`, or if the disk is full or not writable.
    """
    path = check_out(out, source=source, overwrite=overwrite)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        _swap(temporary, path)
    except AcnError:
        raise
    except Exception as error:
        if (reason := _disk_reason(error)) is None:
            raise
        raise ModelDirError(f"OUT {out}: {reason}. Nothing was written.") from None
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _swap(temporary: Path, path: Path) -> None:
    """Put the finished directory in place; what stood there is removed only after."""
    old = None
    if path.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent)) / "old"
        path.replace(old)
    temporary.replace(path)
    if old is not None:
        shutil.rmtree(old.parent, ignore_errors=True)


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
    return None
