"""DINOv3 (arXiv 2508.10104): DINOv2's block with rotary positions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from acn_compress.architectures import dinov2, vit
from acn_compress.architectures.base import Cut, Width, said_by


def widths(block: Any) -> dict[str, Width]:
    attention, mlp = dinov2.SCALES
    into = [name for name in ("gate_proj", "up_proj") if hasattr(block.mlp, name)]
    return {
        "heads": vit.heads(block, attention),
        "mlp": Width(
            units=block.mlp.down_proj.in_features,
            outputs=tuple(Cut(f"mlp.{name}") for name in into),
            inputs=(Cut("mlp.down_proj", scale=mlp),),
        ),
    }


def fix_widths_(block: Any) -> None:
    block.attention.num_heads = block.attention.q_proj.out_features // block.attention.head_dim


ARCHITECTURE = replace(
    dinov2.ARCHITECTURE,
    model_type="dinov3_vit",
    block="DINOv3ViTLayer",
    blocks="layer",
    widths=widths,
    fix_widths_=fix_widths_,
    says={"mlp": said_by("intermediate_size")},
)
