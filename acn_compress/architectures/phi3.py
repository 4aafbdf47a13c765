"""Phi-3 and Phi-4-mini (arXiv 2404.14219): Llama's block with fused layers. Its attention reads the
number of heads from the config of the whole model, so that none can go from one block."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from acn_compress.architectures import llama
from acn_compress.architectures.base import Cut, Width
from acn_compress.form import Branch


def branches(block: Any, **kwargs: Any) -> tuple[Branch, ...]:
    attention, mlp = llama.branches(block, **kwargs)
    return (
        Branch(lambda h: block.resid_attn_dropout(attention.f(h))),
        Branch(lambda h: block.resid_mlp_dropout(mlp.f(h))),
    )


def widths(block: Any) -> dict[str, Width]:
    return {
        "mlp": Width(
            units=block.mlp.down_proj.in_features,
            outputs=(Cut("mlp.gate_up_proj", parts=2),),
            inputs=(Cut("mlp.down_proj"),),
        )
    }


ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    model_type="phi3",
    block="Phi3DecoderLayer",
    branches=branches,
    widths=widths,
)
