"""What every backend is: it makes a call to time of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from acn_compress.checkpoint.source import Source
    from acn_compress.network.network import Network


@dataclass(frozen=True)
class Load:
    """What every call has to do.

    Args:
        batch: examples per call.
        length: tokens per text, or fewer where the model takes no more.
        threads: of torch and of ONNX Runtime.
    """

    batch: int = 1
    length: int = 128
    threads: int = 1


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX file that the user named.

    Args:
        name: as the user wrote it.
        path: where it lies.
    """

    name: str
    path: Path


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that the user named, loaded.

    Args:
        name: as the user wrote it.
        net: not to be changed by a backend.
        source: where it came from.
        inputs: of one call.
        flops: of one example.
    """

    name: str
    net: Network
    source: Source
    inputs: dict[str, Tensor]
    flops: float


@dataclass(frozen=True)
class Variant:
    """One thing to time.

    Args:
        source: what the user called it.
        backend: what it runs in.
        call: one call.
        bytes: on disk.
        parameters: None where only an ONNX file says them.
        flops: of one example; None likewise.
    """

    source: str
    backend: str
    call: Callable[[], object]
    bytes: int
    parameters: int | None = None
    flops: float | None = None


class Backend(Protocol):
    """What a model can be timed in. It is found by its name in `BACKENDS`."""

    def variant(self, subject: OnnxFile | Checkpoint, load: Load, scratch: Path) -> Variant | None:
        """The call to time; None if the subject does not run here.

        Args:
            subject: of what.
            load: what a call has to do.
            scratch: a directory of its own for what must be written first.
        """

    def quantized(self, subject: Checkpoint, load: Load, scratch: Path) -> Variant | None:
        """The same in int8, from what `variant` has just written to `scratch`; None if there is no
        int8 here."""
