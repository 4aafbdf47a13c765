"""Llama (arXiv 2302.13971), pre-norm with RMS norms: h + attn(norm(h)), then + mlp(norm(.));
SwiGLU, rotary positions.

Query heads share keys and values in groups (arXiv 2305.13245): the unit of "heads" is one key/value
head with its query heads.
"""

from __future__ import annotations

from typing import Any

from acn_compress.architectures import vit
from acn_compress.architectures.base import Architecture, Cut, Width, said_by
from acn_compress.form import Branch

DEPTH_FIELDS = ("num_hidden_layers", "layer_types")


def branches(block: Any, **kwargs: Any) -> tuple[Branch, ...]:
    """Also Qwen2's, Qwen3's and Mistral's: mask, positions and cache come by name and only concern
    the attention."""
    return (
        Branch(lambda h: block.self_attn(hidden_states=block.input_layernorm(h), **kwargs)[0]),
        Branch(lambda h: block.mlp(block.post_attention_layernorm(h))),
    )


def widths(block: Any) -> dict[str, Width]:
    """Of every block with these names. Norms of queries and keys are one per head_dim (Qwen3,
    Gemma 3): they stay."""
    attention, mlp = block.self_attn, block.mlp
    size = attention.head_dim
    queries = size * getattr(attention, "num_key_value_groups", 1)
    return {
        "heads": Width(
            units=attention.k_proj.out_features // size,
            outputs=(
                Cut("self_attn.q_proj", queries),
                Cut("self_attn.k_proj", size),
                Cut("self_attn.v_proj", size),
            ),
            inputs=(Cut("self_attn.o_proj", queries),),
        ),
        "mlp": Width(
            units=mlp.down_proj.in_features,
            outputs=(Cut("mlp.gate_proj"), Cut("mlp.up_proj")),
            inputs=(Cut("mlp.down_proj"),),
        ),
    }


def say_heads_(config: Any, groups: int) -> None:
    """Also Qwen2's, Qwen3's and Mistral's: key/value heads, each with its query heads."""
    queries = config.num_attention_heads // config.num_key_value_heads
    vit.say_heads_(config, groups * queries)
    config.num_key_value_heads = groups


def say_dividing_heads_(config: Any, groups: int) -> None:
    """transformers wants Llama's heads to divide its stream, whatever their size."""
    heads = config.num_attention_heads // config.num_key_value_heads * groups
    if config.hidden_size % heads:
        raise ValueError("num_attention_heads does not divide hidden_size")
    say_heads_(config, groups)


SAYS = {"heads": say_heads_, "mlp": said_by("intermediate_size")}

ARCHITECTURE = Architecture(
    model_type="llama",
    block="LlamaDecoderLayer",
    blocks="layers",
    branches=branches,
    widths=widths,
    modality="text",
    depth_fields=DEPTH_FIELDS,
    says={**SAYS, "heads": say_dividing_heads_},
)
