"""OLMo 2 (arXiv 2501.00656): Llama's block with its norms behind the branches instead of in front.
Queries and keys are normed over all heads at once, so that none can go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from acn_compress.architectures import llama
from acn_compress.architectures.base import Width
from acn_compress.architectures.gemma3 import NORMS
from acn_compress.form import Branch


def branches(block: Any, **kwargs: Any) -> tuple[Branch, ...]:
    return (
        Branch(
            lambda h: block.post_attention_layernorm(block.self_attn(hidden_states=h, **kwargs)[0])
        ),
        Branch(lambda h: block.post_feedforward_layernorm(block.mlp(h))),
    )


def widths(block: Any) -> dict[str, Width]:
    return {"mlp": llama.widths(block)["mlp"].written(norm=NORMS["mlp"])}


ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    model_type="olmo2",
    block="Olmo2DecoderLayer",
    branches=branches,
    widths=widths,
)
