"""push: a directory that a step wrote, to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from acn_compress.checkpoint.push import push
from acn_compress.errors import ModelDirError
from acn_compress.events import Progress
from acn_compress.options import PathSpec, Push
from acn_compress.reports.pushed import Pushed
from acn_compress.targets import TARGETS


def run(src: PathSpec, name: str, how: Push, progress: Progress | None = None) -> Pushed:
    """Upload a directory; the repository is private unless asked otherwise."""
    directory = Path(src).expanduser()
    if not directory.is_dir():
        raise ModelDirError(f"{src}: no such directory. Name one that a step wrote.")
    models = [pattern for target in TARGETS.values() for pattern in target.files]
    found = push(directory, name, models, private=not how.public)
    return Pushed(step=how.verb, source=str(src), **dict(found))
