"""DeBERTa v2 and v3 (arXiv 2006.03654, 2111.09543), post-norm as BERT; scores also come from
embeddings of the distance, which every block projects with its own heads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from acn_compress.architectures import bert
from acn_compress.architectures.base import Cut, Width
from acn_compress.form import Branch

PROJECTIONS = ("query_proj", "key_proj", "value_proj", "pos_key_proj", "pos_query_proj")


def branches(
    block: Any,
    attention_mask: Any = None,
    query_states: Any = None,
    relative_pos: Any = None,
    rel_embeddings: Any = None,
    **kwargs: Any,
) -> tuple[Branch, ...]:
    """The model gives `query_states` only to blocks that it runs more than once, which it never
    does."""
    attention = block.attention

    def attend(h: Any) -> Any:
        mixed = attention.self(
            h, attention_mask, relative_pos=relative_pos, rel_embeddings=rel_embeddings
        )[0]
        return attention.output.dropout(attention.output.dense(mixed))

    return Branch(attend, attention.output.LayerNorm), bert.mlp(block)


def widths(block: Any) -> dict[str, Width]:
    attention = block.attention.self
    size = attention.attention_head_size
    heads = Width(
        units=attention.query_proj.out_features // size,
        outputs=tuple(
            Cut(f"attention.self.{name}", size) for name in PROJECTIONS if hasattr(attention, name)
        ),
        inputs=(Cut("attention.output.dense", size),),
    )
    return {"heads": heads, "mlp": bert.features(block)}


def fix_widths_(block: Any) -> None:
    attention = block.attention.self
    attention.all_head_size = attention.query_proj.out_features
    attention.num_attention_heads = attention.all_head_size // attention.attention_head_size


def refuse(config: Any) -> str | None:
    if (getattr(config, "conv_kernel_size", None) or 0) > 0:
        return (
            "it has a convolution beside its first block (conv_kernel_size), which reads that "
            "block's input again: only DeBERTa without one is supported, as all of v3 are."
        )
    return bert.refuse(config)


ARCHITECTURE = replace(
    bert.family("deberta-v2", "DebertaV2Layer"),
    branches=branches,
    widths=widths,
    fix_widths_=fix_widths_,
    tuples=True,
    refuse=refuse,
)
