"""Nomic BERT (arXiv 2402.01613), post-norm as BERT, with Llama's gated MLP and rotary positions."""

from __future__ import annotations

from typing import Any

from acn_compress.architectures.base import Architecture
from acn_compress.architectures.llama import widths
from acn_compress.form import Branch


def branches(block: Any, **kwargs: Any) -> tuple[Branch, ...]:
    return (
        Branch(
            lambda h: block.post_attention_dropout(block.self_attn(h, **kwargs)[0]),
            block.post_attention_layernorm,
        ),
        Branch(lambda h: block.post_mlp_dropout(block.mlp(h)), block.post_mlp_layernorm),
    )


ARCHITECTURE = Architecture(
    model_type="nomic_bert",
    block="NomicBertLayer",
    blocks="layers",
    branches=branches,
    widths=widths,
    modality="text",
)
