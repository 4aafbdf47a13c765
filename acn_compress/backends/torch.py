"""PyTorch: the network as transformers runs it."""

from __future__ import annotations

from pathlib import Path

import torch

from acn_compress.backends.base import Checkpoint, Load, OnnxFile, Variant
from acn_compress.network.device import wait_for


class PyTorch:
    """See `backends.base.Backend`."""

    def variant(self, subject: OnnxFile | Checkpoint, load: Load, scratch: Path) -> Variant | None:
        """A checkpoint's own forward; nothing for an ONNX file."""
        if isinstance(subject, OnnxFile):
            return None
        net, inputs = subject.net, subject.inputs

        def call() -> None:
            with torch.inference_mode():
                net(**inputs)
            wait_for(net.device)

        size = subject.source.bytes()
        return Variant(subject.name, "torch", call, size, net.parameters, subject.flops)

    def quantized(self, subject: Checkpoint, load: Load, scratch: Path) -> None:
        """There is none."""


BACKEND = PyTorch()
