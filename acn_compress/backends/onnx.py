"""ONNX Runtime: an ONNX file, or what `export` makes of a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from acn_compress.backends.base import Checkpoint, Load, OnnxFile, Variant
from acn_compress.onnx.layout import FILES, file_bytes
from acn_compress.onnx.precision import write_int8
from acn_compress.onnx.session import Session
from acn_compress.onnx.write import write_onnx


class OnnxRuntime:
    """See `backends.base.Backend`."""

    def variant(self, subject: OnnxFile | Checkpoint, load: Load, scratch: Path) -> Variant | None:
        """The user's file; a checkpoint is exported first."""
        if isinstance(subject, OnnxFile):
            return _of_file(subject.name, subject.path, load)
        file = scratch / FILES[None]
        write_onnx(subject.net.copy(), file, subject.source)
        return _of_checkpoint(subject, file, load)

    def quantized(self, subject: Checkpoint, load: Load, scratch: Path) -> Variant:
        """Weights per channel, activations on the fly."""
        return _of_checkpoint(subject, write_int8(scratch / FILES[None]), load)


def _of_checkpoint(subject: Checkpoint, file: Path, load: Load) -> Variant:
    found = _of_file(subject.name, file, load)
    return replace(found, parameters=subject.net.parameters, flops=subject.flops)


def _of_file(name: str, file: Path, load: Load) -> Variant:
    running = Session(file, load.threads)
    feeds = running.feeds(load.batch, load.length)
    running.try_out(feeds)
    return Variant(name, "onnx", lambda: running.run(None, feeds), file_bytes(file))


BACKEND = OnnxRuntime()
