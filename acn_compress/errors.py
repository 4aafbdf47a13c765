"""The errors a user can cause; each message says what, where, found against expected, and what to
do.

    AcnError
    ├── ConfigError              a recipe or an option that cannot be meant
    ├── CheckpointError          a file that is not the checkpoint it should be
    ├── ModelDirError            a directory that cannot be read or written as a model directory
    ├── DataError                data that does not fit the task
    ├── UnsupportedError         a model, task or combination nobody has written an adapter for
    ├── VerificationError        the result does not equal what it must equal; nothing is left
    ├── MissingDependencyError   an optional package is needed
    ├── OutOfMemoryError         of a device or of the machine
    └── Interrupted              Ctrl-C, SIGTERM or SIGHUP; says how to go on

The command line prints an `AcnError` in one line and exits 1. Anything else is our bug and keeps
its traceback.
"""

from __future__ import annotations

from collections.abc import Iterator


class AcnError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class ConfigError(AcnError):
    """A recipe or an option that cannot be meant."""


class CheckpointError(AcnError):
    """A file that is not the checkpoint it should be."""


class ModelDirError(AcnError):
    """A directory that cannot be read or written as a model directory."""


class DataError(AcnError):
    """Data that does not fit the task."""


class UnsupportedError(AcnError):
    """A model, task or combination nobody has written an adapter for."""


class VerificationError(AcnError):
    """The result does not equal what it must equal."""


class MissingDependencyError(AcnError):
    """An optional package is needed."""


class OutOfMemoryError(AcnError):
    """More memory was asked for than the device or the machine has."""


class Interrupted(AcnError):
    """The user pressed Ctrl-C, or another signal ended the run; the message says how to go on."""

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that led to it, the last first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
