"""Reading a checkpoint into a transformers model whose stack runs the equation.

Every load proves, on the checkpoint itself, that alpha = 1 gives the family's own forward bit for
bit, before anything else.
"""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch

from acn_compress.architectures import architecture_of
from acn_compress.checkpoint import weights
from acn_compress.checkpoint.config import config_of as config_of
from acn_compress.checkpoint.config import config_source as config_source
from acn_compress.checkpoint.config import describe as describe
from acn_compress.checkpoint.config import fitting
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.padding import set_padding_
from acn_compress.checkpoint.processors import (
    has_processor,
    load_feature_extractor,
    load_tokenizer,
)
from acn_compress.checkpoint.quiet import quiet
from acn_compress.checkpoint.sentence import read_head
from acn_compress.checkpoint.source import Source
from acn_compress.errors import CheckpointError, DataError
from acn_compress.network import widths, zeros
from acn_compress.network.adopt import adopt
from acn_compress.network.network import Network
from acn_compress.network.plain import plain_class
from acn_compress.tasks import head_named, task_called

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def load(
    src: str | PathLike[str] | PreTrainedModel,
    *,
    config: str | PathLike[str] | None = None,
    task: str | None = None,
    num_labels: int | None = None,
    labels: list[str] | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    verify: bool = True,
) -> PreTrainedModel:
    """Load a checkpoint in whatever form it is, ready to be called as in transformers.

    Args:
        src: model directory, Hub id, weight file, or a transformers model (of which this is a
            copy).
        config: for a weight file: config.json (or its directory), or the name of a timm model.
        task: one of TASKS, to read the network under another head than the checkpoint names. What
            the checkpoint lacks of it, or has in another size, is random.
        num_labels: labels of that head.
        labels: their names.
        revision: of a Hub id.
        device: where the model goes.
        verify: prove alpha = 1 bit-equal to the family's own forward.
    Returns:
        The transformers model (a subclass of its class), in evaluation mode.
    Raises:
        CheckpointError, ModelDirError, UnsupportedError, VerificationError: in one line each.
    """
    names = labels or (None if num_labels is None else [f"LABEL_{i}" for i in range(num_labels)])
    source = find_source(src, config=config, revision=revision)
    return load_source(source, task=task, labels=names, device=device, verify=verify).model


def load_source(
    source: Source,
    *,
    task: str | None = None,
    labels: list[str] | None = None,
    device: str | torch.device = "cpu",
    verify: bool = True,
) -> Network:
    """The network of a source that has been found already; the options are those of `load`.
    `fresh_head` of it says what of its head is random."""
    _, cls, hf_config = describe(source, task)
    with fitting(source.name), quiet():
        _set_head(hf_config, cls, task, labels, source)
        model, found = weights.read(source, cls, hf_config, new_head=task is not None)
        net = replace(adopt(model), fresh=found.fresh, remarks=found.remarks)
        _check_structure(net, source.name)
        zeros.correct_(net)
        if verify:
            net.verify_alpha_one(source.name)
    net = replace(net, told=told(net, source))
    task_here = head_named(plain_class(cls).__name__, net.modality)
    if task_here is not None and task_here.taught:
        net = replace(net, sentence=read_head(source))
    net.model.eval().to(device)
    return net


def _check_structure(net: Network, where: str) -> None:
    """Refuse a structure that is not that of the network it came with."""
    structure, found = net.structure, widths.counts(net)
    claimed = structure.widths or ({},) * len(structure.blocks)
    fits = len(claimed) == net.depth and all(
        claim.items() <= block.items() for claim, block in zip(claimed, found, strict=True)
    )
    if not fits:
        raise CheckpointError(
            f"{where}: the structure (acn) in config.json is not that of the network: it says "
            f"{len(claimed)} blocks of widths {structure.widths}, found {net.depth} of {found}."
        )


def _set_head(
    hf_config: PreTrainedConfig,
    cls: type[PreTrainedModel],
    task: str | None,
    labels: list[str] | None,
    source: Source,
) -> None:
    """Give a config what its head is built for: its classes, and the token by which a decoder finds
    the end of a padded text."""
    made_up = labels is not None and labels == [f"LABEL_{i}" for i in range(hf_config.num_labels)]
    if labels is not None and not made_up:  # names of its own say more
        hf_config.id2label, hf_config.label2id = (
            dict(enumerate(labels)),
            {n: i for i, n in enumerate(labels)},
        )
    if task is not None:
        task_called(task).set_head_(hf_config)
    text = architecture_of(hf_config).modality == "text"
    if text and cls.__name__.endswith("ForSequenceClassification"):
        set_padding_(hf_config, source)


def told(net: Network, source: Source) -> bool | None:
    """Whether a network of clips is told which samples are padding, as its feature extractor says;
    None where there is none."""
    if net.modality != "audio" or not has_processor(source):
        return None
    try:
        return bool(load_feature_extractor(source).return_attention_mask)
    except (AttributeError, DataError):  # said when data is read
        return None


def from_config(
    path: str | PathLike[str], *, labels: list[str] | None = None, task: str | None = None
) -> Network:
    """A network with random weights from a transformers config file (or its directory), in residual
    form."""
    source, file = config_source(path)
    architecture, cls, hf_config = describe(source, task, file)
    _set_head(hf_config, cls, task, labels, source)
    with fitting(str(path)):
        net = adopt(cls(hf_config))
        net.verify_alpha_one(str(path))
    net.unwrap_()
    architecture.init_(net.model)  # only now: a head of zeros would have made the proof say nothing
    net.wrap_()
    return net


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch."""
    from transformers import set_seed

    set_seed(seed)


def new_processor(net: Network, source: Source) -> Any:
    """What prepares the input of a network that was made from a config: a plain image processor, or
    the tokenizer or feature extractor beside the config; None for timm, whose config holds the
    settings of its processor."""
    if net.modality == "text":
        return load_tokenizer(source)
    if net.modality == "audio":
        return load_feature_extractor(source)
    if hasattr(net.config, "pretrained_cfg"):
        return None
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    (height, width), n = net.image_size, net.channels
    return ViTImageProcessorPil(  # which does not ask for torchvision
        size={"height": height, "width": width}, image_mean=[0.5] * n, image_std=[0.5] * n
    )
