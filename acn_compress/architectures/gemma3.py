"""Gemma 3 (arXiv 2503.19786), the text model; EmbeddingGemma is one that sees both ways. Llama's
block with a norm behind each branch too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from acn_compress.architectures import llama
from acn_compress.architectures.base import Width
from acn_compress.form import Branch

NORMS = {"heads": "post_attention_layernorm", "mlp": "post_feedforward_layernorm"}


def branches(block: Any, **kwargs: Any) -> tuple[Branch, ...]:
    def attend(h: Any) -> Any:
        mixed = block.self_attn(hidden_states=block.input_layernorm(h), **kwargs)[0]
        return block.post_attention_layernorm(mixed)

    def feed(h: Any) -> Any:
        return block.post_feedforward_layernorm(block.mlp(block.pre_feedforward_layernorm(h)))

    return Branch(attend), Branch(feed)


def widths(block: Any) -> dict[str, Width]:
    return {name: w.written(norm=NORMS[name]) for name, w in llama.widths(block).items()}


ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    model_type="gemma3_text",
    block="Gemma3DecoderLayer",
    branches=branches,
    widths=widths,
)
