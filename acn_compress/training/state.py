"""Training checkpoints on disk: beside OUT, until what was trained is written.

    OUT.training/
        acn-training.json    whose it is (`identity.Run`); only a directory with it is ever touched
        checkpoint-N/        after N steps: weights, optimizer, scheduler, random numbers, history
        .partial/            the one that is being written

A checkpoint is complete or absent: it is filled aside, gets a list of its files with their SHA-256,
and is renamed. The one before goes only then. `kept` decides when all of them go: when the step has
written its result.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError

from acn_compress.checkpoint.files import read_json, size, write_json
from acn_compress.checkpoint.source import Source
from acn_compress.checkpoint.swap import target
from acn_compress.errors import AcnError, ConfigError, Interrupted, ModelDirError
from acn_compress.options import Resumes
from acn_compress.training.identity import Run
from acn_compress.training.interrupt import as_signal, exit_code, number_of

MARKER = "acn-training.json"
PARTIAL = ".partial"
FILES = "files.json"  # of a checkpoint: name -> SHA-256


def state_directory(out: str | Path) -> Path:
    """Where the training checkpoint of a step that will write `out` lies: beside it."""
    path = target(out)
    return path.with_name(f"{path.name}.training")


def resumable(out: str | Path) -> bool:
    """Whether a training that will write `out` was interrupted and can go on."""
    return bool(Kept(state_directory(out)).complete)


@contextmanager
def kept(
    out: str | Path,
    source: Source | None,
    how: Resumes,
) -> Iterator[Kept]:
    """Inside, what is trained is kept beside `out`; it goes when the context ends well:

        with kept(out, source, how) as training:
            report = run_job(net, source, how, state=training)
            return write(net, out, ...)

    Args:
        source: the checkpoint that the network is made from.
        how: whether to go on from what is there (resume), and whether what an interrupted run
            left may go when training starts (overwrite).
    Raises:
        ModelDirError: for a directory that is not ours, or the training of an interrupted run.
        ConfigError: if there is nothing to resume.
        Interrupted: for a signal, saying how to go on.
    """
    state = Kept(state_directory(out), source, how.resume)
    state.check(how.overwrite)
    try:
        with as_signal():
            yield state
    except KeyboardInterrupt as stopped:
        if not state.checkpoints:
            raise
        raise Interrupted(f"interrupted; {state.how}", exit_code(number_of(stopped))) from None
    except AcnError as error:
        if state.begun and state.checkpoints and not isinstance(error, Interrupted):
            error.args = (f"{error} What was trained is not lost: {state.how}",)
        raise
    else:
        state.remove()
    finally:
        if state.begun and not state.checkpoints:
            state.remove()


@dataclass
class Kept:
    """The checkpoints of one training.

    Args:
        directory: where they lie.
        source: what the network was made from.
        resume: go on from what is there.
        begun: this run has taken the directory.
    """

    directory: Path
    source: Source | None = None
    resume: bool = False
    begun: bool = False

    @property
    def how(self) -> str:
        """One sentence: where the training checkpoint is and how to go on."""
        return (
            f"the training checkpoint is in {self.directory}. "
            "Run the same command with --resume to go on."
        )

    @property
    def checkpoints(self) -> list[Path]:
        """Those that were finished once, the oldest first."""
        found = [p for p in self.directory.glob("checkpoint-*") if step_of(p) >= 0]
        return sorted(found, key=step_of) if self._run() is not None else []

    @property
    def complete(self) -> list[Path]:
        """Those whose files are all there, unchanged."""
        return [path for path in self.checkpoints if damage(path) is None]

    def check(self, overwrite: bool) -> None:
        """Refuse, before any work, what `kept` says."""
        where = self.directory
        foreign = not where.is_dir() or any(where.iterdir())
        if (where.exists() or where.is_symlink()) and foreign and self._run() is None:
            raise ModelDirError(
                f"{where} is where the training checkpoint goes, but what is there is not one of "
                "this version. Move it away, or choose another OUT."
            )
        if self.resume and not self.checkpoints:
            raise ConfigError(f"nothing to resume: no training checkpoint in {where}.")
        if self.resume:
            self.newest()
        elif self.checkpoints and not overwrite:
            raise ModelDirError(
                f"{where} holds the training of an interrupted run "
                f"({step_of(self.checkpoints[-1])} steps). "
                "Go on with --resume, or start anew with --overwrite."
            )

    def newest(self) -> Path:
        """The checkpoint to go on from.

        Raises:
            ModelDirError: if files of it are missing or changed.
        """
        if found := self.complete:
            return found[-1]
        raise ModelDirError(
            f"{damage(self.checkpoints[-1])} Training cannot go on to the same weights. "
            "Start anew with --overwrite."
        )

    def begin(self, run: Run) -> Path | None:
        """Take the directory for `run`. Returns the checkpoint to go on from, or None.

        Raises:
            ConfigError: if what is to be resumed is another training, saying what differs.
        """
        before = self._run() if self.resume else None
        if before is not None and (differences := before.differences(run)):
            raise ConfigError(
                f"{self.directory} is of another training: {'; '.join(differences[:4])}. "
                "Give the same again, or start anew with --overwrite instead of --resume."
            )
        if before is not None:
            self.begun = True
            newest = self.newest()
            self._drop(path for path in self.checkpoints if path != newest)
            return newest
        self.remove()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_json(self.directory / MARKER, run.model_dump(mode="json"))
        except OSError as error:
            raise ModelDirError(
                f"{self.directory}: cannot be written ({error.strerror})."
            ) from None
        self.begun = True
        return None

    def has(self, step: int) -> bool:
        """Whether this is saved."""
        return step in map(step_of, self.checkpoints)

    @contextmanager
    def writing(self, step: int) -> Iterator[Path]:
        """A directory in which to make "checkpoint-`step`"; it takes the place of the one before,
        whole, or leaves it there.

        Raises:
            ModelDirError: in one line, for a disk that is full, say.
        """
        aside = self.directory / PARTIAL
        try:
            self._drop([aside])
            aside.mkdir()
            yield aside
            self._add(aside / f"checkpoint-{step}")
        except (OSError, RuntimeError, SafetensorError) as error:  # torch's own is a RuntimeError
            reason, free = (
                (str(error) or repr(error)).splitlines()[0],
                shutil.disk_usage(self.directory).free,
            )
            raise ModelDirError(
                f"{self.directory}: the training checkpoint of step {step} cannot be written "
                f"({reason}; {size(free)} are free there)."
            ) from None
        finally:
            self._drop([aside])

    def _add(self, path: Path) -> None:
        before = self.checkpoints
        files = {p.name: _sha256(p) for p in sorted(path.iterdir())}
        write_json(path / FILES, files)
        path.replace(self.directory / path.name)
        self._drop(before)

    def remove(self) -> None:
        """Take away what is ours; what somebody else put there stays."""
        if self._run() is None:
            return
        self._drop([*self.checkpoints, self.directory / PARTIAL])
        with suppress(OSError):  # where something else lies, the directory stays
            (self.directory / MARKER).unlink()
            self.directory.rmdir()

    @staticmethod
    def _drop(paths: Iterable[Path]) -> None:
        for path in paths:
            shutil.rmtree(path, ignore_errors=True)

    def _run(self) -> Run | None:
        """Whose directory it is; None if it is not ours."""
        try:
            return Run.model_validate(read_json(self.directory / MARKER))
        except (ModelDirError, ValidationError):
            return None


def step_of(path: Path) -> int:
    """Steps done in a checkpoint; -1 for a name that is none."""
    number = path.name.removeprefix("checkpoint-")
    return int(number) if number.isdigit() else -1


def damage(path: Path) -> str | None:
    """What is wrong with the files of a checkpoint, in one sentence; None if nothing."""
    try:
        files = read_json(path / FILES)
    except ModelDirError:
        files = None
    if not files:
        return f"{path} was not written to its end."
    for name, digest in files.items():
        if not (path / name).is_file():
            return f"{path}: {name} is missing."
        if _sha256(path / name) != digest:
            return f"{path}: {name} is not what was written."
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
