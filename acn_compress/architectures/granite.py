"""Granite (arXiv 2405.04324): Llama's block, with one number that multiplies what every branch
adds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from acn_compress.architectures import llama
from acn_compress.architectures.base import Width
from acn_compress.form import Branch


def branches(block: Any, **kwargs: Any) -> tuple[Branch, ...]:
    attention, mlp = llama.branches(block, **kwargs)
    return (
        Branch(lambda h: attention.f(h) * block.residual_multiplier),
        Branch(lambda h: mlp.f(h) * block.residual_multiplier),
    )


def widths(block: Any) -> dict[str, Width]:
    scale = float(block.residual_multiplier)
    return {name: w.written(scale=scale) for name, w in llama.widths(block).items()}


ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    model_type="granite",
    block="GraniteDecoderLayer",
    branches=branches,
    widths=widths,
)
