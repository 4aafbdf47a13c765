"""GPT-2 (Radford et al., 2019), pre-norm: h + attn(ln_1(h)), then + mlp(ln_2(.)). Its linear layers
are transposed (Conv1D)."""

from __future__ import annotations

from typing import Any

from acn_compress.architectures.base import Architecture, Cut, Width, said_by
from acn_compress.form import Branch


def branches(
    block: Any,
    past_key_values: Any = None,
    attention_mask: Any = None,
    encoder_hidden_states: Any = None,
    encoder_attention_mask: Any = None,
    **kwargs: Any,
) -> tuple[Branch, ...]:
    """The encoder's arguments are always None: models with cross-attention are refused."""
    return (
        Branch(
            lambda h: block.attn(
                block.ln_1(h),
                past_key_values=past_key_values,
                attention_mask=attention_mask,
                **kwargs,
            )[0]
        ),
        Branch(lambda h: block.mlp(block.ln_2(h))),
    )


def widths(block: Any) -> dict[str, Width]:
    size = block.attn.head_dim
    return {
        "heads": Width(
            units=block.attn.c_proj.nx // size,
            outputs=(Cut("attn.c_attn", size, parts=3),),
            inputs=(Cut("attn.c_proj", size),),
        ),
        "mlp": Width(
            units=block.mlp.c_fc.nf, outputs=(Cut("mlp.c_fc"),), inputs=(Cut("mlp.c_proj"),)
        ),
    }


def fix_widths_(block: Any) -> None:
    attention = block.attn
    attention.split_size = attention.c_proj.nx
    attention.num_heads = attention.split_size // attention.head_dim


def refuse(config: Any) -> str | None:
    if config.add_cross_attention:
        return (
            "it has cross-attention (add_cross_attention), which reads an encoder: "
            "only GPT-2 on its own is supported."
        )
    if config.scale_attn_by_inverse_layer_idx:
        return (
            "its attention is scaled by the position of the block "
            "(scale_attn_by_inverse_layer_idx), which changes when blocks go."
        )
    return None


ARCHITECTURE = Architecture(
    model_type="gpt2",
    block="GPT2Block",
    blocks="h",
    branches=branches,
    widths=widths,
    modality="text",
    says={"mlp": said_by("n_inner")},
    fix_widths_=fix_widths_,
    leftovers=(".attn.masked_bias",),
    refuse=refuse,
)
