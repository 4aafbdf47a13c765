"""MPNet (arXiv 2004.09297), post-norm as BERT. A bias by distance, which is the model's and has a
number for every head, is added to the scores of every block: heads cannot go from some of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from acn_compress.architectures import bert
from acn_compress.architectures.base import Width
from acn_compress.form import Branch


def branches(
    block: Any, attention_mask: Any = None, position_bias: Any = None, **kwargs: Any
) -> tuple[Branch, ...]:
    attention = block.attention

    def attend(h: Any) -> Any:
        return attention.dropout(attention.attn(h, attention_mask, position_bias)[0])

    return Branch(attend, attention.LayerNorm), bert.mlp(block)


def widths(block: Any) -> dict[str, Width]:
    return {"mlp": bert.features(block)}


ARCHITECTURE = replace(
    bert.family("mpnet", "MPNetLayer"),
    branches=branches,
    widths=widths,
    tuples=True,
    checkpointing=False,
)
