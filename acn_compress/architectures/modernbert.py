"""ModernBERT (arXiv 2412.13663), pre-norm with a final norm; gated MLP, rotary positions, and most
blocks see only the tokens around."""

from __future__ import annotations

from typing import Any

from acn_compress.architectures.base import Architecture, Cut, Width
from acn_compress.architectures.bert import refuse
from acn_compress.architectures.llama import DEPTH_FIELDS
from acn_compress.form import Branch


def branches(block: Any, **kwargs: Any) -> tuple[Branch, ...]:
    return (
        Branch(lambda h: block.attn(block.attn_norm(h), **kwargs)[0]),
        Branch(lambda h: block.mlp(block.mlp_norm(h))),
    )


def widths(block: Any) -> dict[str, Width]:
    size = block.attn.head_dim
    return {
        "heads": Width(
            units=block.attn.Wo.in_features // size,
            outputs=(Cut("attn.Wqkv", size, parts=3),),
            inputs=(Cut("attn.Wo", size),),
        ),
        "mlp": Width(
            units=block.mlp.Wo.in_features,
            outputs=(Cut("mlp.Wi", parts=2),),
            inputs=(Cut("mlp.Wo"),),
        ),
    }


ARCHITECTURE = Architecture(
    model_type="modernbert",
    block="ModernBertEncoderLayer",
    blocks="layers",
    branches=branches,
    widths=widths,
    modality="text",
    depth_fields=DEPTH_FIELDS,
    first_stays=True,  # it alone has no norm in front of its attention
    refuse=refuse,
)
