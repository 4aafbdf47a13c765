"""ViT (arXiv 2010.11929), pre-norm: h + attn(LN(h)), then + mlp(LN(.))."""

from __future__ import annotations

from typing import Any

from acn_compress.architectures.base import Architecture, Cut, Width, said_by
from acn_compress.form import Branch


def branches(block: Any, attention_mask: Any = None, **kwargs: Any) -> tuple[Branch, ...]:
    return (
        Branch(
            lambda h: block.dropout(
                block.attention(block.layernorm_before(h), attention_mask, **kwargs)[0]
            )
        ),
        Branch(lambda h: block.dropout(block.mlp(block.layernorm_after(h)))),
    )


def heads(block: Any, scale: str | None = None) -> Width:
    size = block.attention.head_dim
    return Width(
        units=block.attention.q_proj.out_features // size,
        outputs=tuple(Cut(f"attention.{name}_proj", size) for name in "qkv"),
        inputs=(Cut("attention.o_proj", size, scale=scale),),
    )


def widths(block: Any, scales: tuple[str | None, str | None] = (None, None)) -> dict[str, Width]:
    """`scales`: the LayerScale of DINOv2's two branches."""
    return {
        "heads": heads(block, scales[0]),
        "mlp": Width(
            units=block.mlp.fc1.out_features,
            outputs=(Cut("mlp.fc1"),),
            inputs=(Cut("mlp.fc2", scale=scales[1]),),
        ),
    }


def say_heads_(config: Any, units: int) -> None:
    """With `head_dim`, which is hidden_size / num_attention_heads where a config has none."""
    config.head_dim = (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    config.num_attention_heads = units


ARCHITECTURE = Architecture(
    model_type="vit",
    block="ViTLayer",
    blocks="layers",
    branches=branches,
    widths=widths,
    modality="image",
    says={"heads": say_heads_, "mlp": said_by("intermediate_size")},
)
