"""DINOv2 with registers (arXiv 2309.16588): DINOv2's blocks; a register is one more token to
them."""

from __future__ import annotations

from dataclasses import replace

from acn_compress.architectures import dinov2

ARCHITECTURE = replace(
    dinov2.ARCHITECTURE, model_type="dinov2_with_registers", block="Dinov2WithRegistersLayer"
)
