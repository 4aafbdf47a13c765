"""DINOv2 (arXiv 2304.07193): pre-norm, LayerScale belongs to the branch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acn_compress.architectures import vit
from acn_compress.architectures.base import Architecture, Cut, Width
from acn_compress.form import Branch

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

SCALES = ("layer_scale1.lambda1", "layer_scale2.lambda1")  # of attention and MLP


def branches(block: Any, attention_mask: Any = None, **kwargs: Any) -> tuple[Branch, ...]:
    return (
        Branch(
            lambda h: block.drop_path(
                block.layer_scale1(
                    block.attention(block.norm1(h), attention_mask=attention_mask, **kwargs)[0]
                )
            )
        ),
        Branch(lambda h: block.drop_path(block.layer_scale2(block.mlp(block.norm2(h))))),
    )


def widths(block: Any) -> dict[str, Width]:
    if not hasattr(block.mlp, "gate_proj"):
        return vit.widths(block, SCALES)
    gated = (Cut("mlp.gate_proj"), Cut("mlp.up_proj"))
    written = (Cut("mlp.down_proj", scale=SCALES[1]),)
    return {
        "heads": vit.heads(block, SCALES[0]),
        "mlp": Width(block.mlp.down_proj.in_features, outputs=gated, inputs=written),
    }


def record_depth_(config: PreTrainedConfig, depth: int) -> None:
    """The config also names every block, for use as a backbone."""
    config.stage_names = ["stem", *(f"stage{i}" for i in range(1, depth + 1))]
    config.set_output_features_output_indices(out_features=None, out_indices=None)


def say_mlp_(config: Any, units: int) -> None:
    """Only whole multiples of the stream, and none of SwiGLU's rounded two thirds of them."""
    ratio, rest = divmod(units, config.hidden_size)
    if rest or config.use_swiglu_ffn:
        raise ValueError("mlp_ratio is a whole number")
    config.mlp_ratio = ratio


ARCHITECTURE = Architecture(
    model_type="dinov2",
    block="Dinov2Layer",
    blocks="encoder.layer",
    branches=branches,
    widths=widths,
    modality="image",
    says={"heads": vit.say_heads_, "mlp": say_mlp_},
    record_depth_=record_depth_,
)
