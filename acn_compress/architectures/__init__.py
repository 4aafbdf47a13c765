"""The families this package knows, by `config.model_type`. Adding one: a file beside this one, and a line in the dict."""

from __future__ import annotations

from typing import Any

from acn_compress.architectures import (
    bert,
    deit,
    dinov2,
    dinov2_with_registers,
    distilbert,
    electra,
    gpt2,
    llama,
    mistral,
    qwen2,
    qwen3,
    roberta,
    timm,
    vit,
)
from acn_compress.architectures.base import Architecture, Cut, Width
from acn_compress.errors import UnsupportedError

__all__ = ["ARCHITECTURES", "Architecture", "Cut", "Width", "architecture_of", "base_type"]

ARCHITECTURES: dict[str, Architecture] = {
    family.ARCHITECTURE.model_type: family.ARCHITECTURE
    for family in (bert, deit, dinov2, dinov2_with_registers, distilbert, electra, gpt2, llama, mistral, qwen2, qwen3, roberta, timm, vit)
}

PREFIX = "acn_"  # of the model type of a compressed model


def base_type(model_type: str) -> str:
    """The transformers family behind a model type: "acn_vit" and "vit" give "vit"."""
    return model_type.removeprefix(PREFIX)


def architecture_of(config: Any, where: str = "this model") -> Architecture:
    """The adapter for a transformers config.

    Raises:
        UnsupportedError: listing the known families.
    """
    name = base_type(config.model_type)
    if name not in ARCHITECTURES:
        raise UnsupportedError(
            f"{where} is of type '{name}', which acn-compress has no adapter for. Known: {', '.join(sorted(ARCHITECTURES))}."
        )
    architecture = ARCHITECTURES[name]
    if why := architecture.refuse(config):
        raise UnsupportedError(f"{where}: {why}")
    return architecture
