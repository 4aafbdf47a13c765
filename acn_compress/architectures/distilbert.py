"""DistilBERT (arXiv 1910.01108), post-norm as BERT, with names of its own and no token types or
pooler."""

from __future__ import annotations

from typing import Any

from acn_compress.architectures.base import Architecture, Cut, Width, said_by
from acn_compress.architectures.bert import refuse
from acn_compress.form import Branch


def branches(block: Any, attention_mask: Any = None, **kwargs: Any) -> tuple[Branch, ...]:
    return (
        Branch(
            lambda h: block.attention(h, attention_mask=attention_mask, **kwargs)[0],
            block.sa_layer_norm,
        ),
        Branch(block.ffn, block.output_layer_norm),
    )


def widths(block: Any) -> dict[str, Width]:
    size = block.attention.attention_head_size
    return {
        "heads": Width(
            units=block.attention.q_lin.out_features // size,
            outputs=tuple(Cut(f"attention.{name}_lin", size) for name in "qkv"),
            inputs=(Cut("attention.out_lin", size),),
        ),
        "mlp": Width(
            units=block.ffn.lin1.out_features, outputs=(Cut("ffn.lin1"),), inputs=(Cut("ffn.lin2"),)
        ),
    }


ARCHITECTURE = Architecture(
    model_type="distilbert",
    block="TransformerBlock",
    blocks="transformer.layer",
    branches=branches,
    widths=widths,
    modality="text",
    says={"mlp": said_by("hidden_dim")},
    refuse=refuse,
)
