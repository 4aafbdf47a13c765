"""CLIP (arXiv 2103.00020): its two towers, each pre-norm as ViT, and the classifier of images that
is made of one. SigLIP's are alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from acn_compress.architectures.base import Architecture, Cut, Width
from acn_compress.errors import UnsupportedError
from acn_compress.form import Branch

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def branches(block: Any, attention_mask: Any = None, **kwargs: Any) -> tuple[Branch, ...]:
    return (
        Branch(
            lambda h: block.self_attn(
                block.layer_norm1(h), attention_mask=attention_mask, **kwargs
            )[0]
        ),
        Branch(lambda h: block.mlp(block.layer_norm2(h))),
    )


def widths(block: Any) -> dict[str, Width]:
    size = block.self_attn.head_dim
    return {
        "heads": Width(
            units=block.self_attn.q_proj.out_features // size,
            outputs=tuple(Cut(f"self_attn.{name}_proj", size) for name in "qkv"),
            inputs=(Cut("self_attn.out_proj", size),),
        ),
        "mlp": Width(block.mlp.fc1.out_features, (Cut("mlp.fc1"),), (Cut("mlp.fc2"),)),
    }


def tower(name: str) -> Callable[[PreTrainedModel], nn.Module]:
    """Where the blocks start: the tower, in whatever head it is under.

    Raises:
        UnsupportedError: by what it returns, for a model that has both.
    """

    def base(model: Any) -> Any:
        if hasattr(model, "text_model") and hasattr(model, "vision_model"):
            raise UnsupportedError(
                f"{type(model).__name__} is two networks, one of images and one of texts. Choose "
                "--task image-classification, or save one of them as a checkpoint of its own "
                "(model.vision_model.save_pretrained)."
            )
        return getattr(model, name, model)

    return base


def families(model_type: str, block: str) -> tuple[Architecture, ...]:
    """The adapters of a pair of towers: of images, of texts, and of the classifier."""
    images = Architecture(
        model_type=f"{model_type}_vision_model",
        block=block,
        blocks="encoder.layers",
        branches=branches,
        widths=widths,
        modality="image",
        base=tower("vision_model"),
    )
    texts = replace(
        images,
        model_type=f"{model_type}_text_model",
        modality="text",
        base=tower("text_model"),
        embeds=True,
    )
    return images, texts, replace(images, model_type=model_type)


VISION, TEXT, ARCHITECTURE = families("clip", "CLIPEncoderLayer")
