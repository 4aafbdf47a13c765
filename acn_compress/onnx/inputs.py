"""Inputs that a network accepts, as an ONNX file and a benchmark need them."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor

from acn_compress.checkpoint.source import Source
from acn_compress.data.pictures import MODES, Preparation
from acn_compress.network.network import Network


def inputs_for(
    net: Network, batch: int, length: int, seed: int, size: tuple[int, int] | None = None
) -> dict[str, Tensor]:
    """Random inputs of the model, the last text or clip padded: as `Network.example_inputs`, with
    token types where it takes them.

    Args:
        size: height and width of images; None is what the config says (see `picture_size`).
    """
    inputs = net.example_inputs(batch=batch, length=length, seed=seed, size=size)
    if "attention_mask" not in inputs:
        return inputs
    if batch > 1:
        mask = inputs["attention_mask"]
        mask[-1, -(mask.shape[1] // 3) :] = 0
    if "input_values" in inputs:
        inputs["input_values"] *= inputs["attention_mask"]
        return inputs
    if _takes_types(net):
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    return inputs


def _takes_types(net: Network) -> bool:
    named = inspect.signature(net.model.forward).parameters
    return getattr(net.config, "type_vocab_size", 0) > 1 and "token_type_ids" in named


def picture_size(net: Network, source: Source) -> tuple[int, int] | None:
    """Height and width that the checkpoint's own image processor gives; None where the config's are
    taken. DINOv2's config, say, speaks of 518 x 518, which it was trained on last, and its
    processor crops to 224.

    Raises:
        DataError: if the network does not take what its processor gives.
    """
    found = preparation(net, source)
    return None if found is None else found.size


def preparation(net: Network, source: Source) -> Preparation | None:
    """How the checkpoint wants its images; None for texts, and for images that no processor here
    can prepare.

    Raises:
        DataError: if the network does not take what its processor gives.
    """
    if net.modality != "image" or net.channels not in MODES:
        return None
    return Preparation.of(net, source)
