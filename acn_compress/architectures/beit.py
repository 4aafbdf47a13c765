"""BEiT (arXiv 2106.08254): ViT's block with LayerScale. A bias by distance, where a block has its
own, has a number for every head: heads then stay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from acn_compress.architectures import dinov2, vit
from acn_compress.architectures.base import Width
from acn_compress.form import Branch


def branches(
    block: Any,
    attention_mask: Any = None,
    interpolate_pos_encoding: bool = False,
    resolution: Any = None,
    **kwargs: Any,
) -> tuple[Branch, ...]:
    def mask(tokens: int) -> Any:
        if block.relative_position_bias is None:
            return attention_mask
        window = tuple(side // block.patch_size for side in resolution)
        _keep_index(block.relative_position_bias, window)
        bias = block.relative_position_bias(window, interpolate_pos_encoding, dim_size=tokens)
        return bias if attention_mask is None else bias + attention_mask

    def attend(h: Any) -> Any:
        mixed = block.attention(
            block.layernorm_before(h), attention_mask=mask(h.shape[1]), **kwargs
        )[0]
        return block.drop_path(block.lambda_1 * block.dropout(mixed))

    def feed(h: Any) -> Any:
        return block.drop_path(block.lambda_2 * block.dropout(block.mlp(block.layernorm_after(h))))

    return Branch(attend), Branch(feed)


def _keep_index(bias: Any, window: tuple[int, ...]) -> None:
    """transformers keeps what it looks distances up with for all passes; made in inference mode
    no gradient could go through it later."""
    import torch

    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            bias.generate_relative_position_index(window)


def widths(block: Any) -> dict[str, Width]:
    scales = dict(block.named_parameters(recurse=False))
    attention, mlp = (name if name in scales else None for name in ("lambda_1", "lambda_2"))
    found = vit.widths(block, (attention, mlp))
    return found if block.relative_position_bias is None else {"mlp": found["mlp"]}


def refuse(config: Any) -> str | None:
    if getattr(config, "use_shared_relative_position_bias", False):
        return (
            "its blocks share one bias by distance (use_shared_relative_position_bias), "
            "as only BEiT's pre-training does: use a fine-tuned checkpoint."
        )
    return None


ARCHITECTURE = replace(
    vit.ARCHITECTURE,
    model_type="beit",
    block="BeitLayer",
    branches=branches,
    widths=widths,
    record_depth_=dinov2.record_depth_,
    refuse=refuse,
)
