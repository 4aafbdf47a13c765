"""A directory for what a command needs only while it runs. That of a process that was killed is
swept when the next one is made."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from acn_compress.checkpoint import swap

NAME = "acn-compress-scratch"


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty directory in the user's temporary one, only the user's own; gone afterwards."""
    place = Path(tempfile.gettempdir()) / NAME  # nothing ever lies there: only names made of it
    swap.recover(place)
    made = swap.new_name(place)
    made.mkdir(mode=0o700)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
