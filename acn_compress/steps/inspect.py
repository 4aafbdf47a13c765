"""inspect: what a checkpoint is, how big, where from. Reads config and headers; the model is built
without memory for weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from acn_compress.architectures import Architecture, base_type
from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint.directory import Source
from acn_compress.errors import CheckpointError, UnsupportedError
from acn_compress.network import widths
from acn_compress.network.network import Network, channels, image_size
from acn_compress.network.registration import plain_class
from acn_compress.network.structure import Structure
from acn_compress.tasks import task_of

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
}  # of safetensors


def inspect(src: str | Path, *, config: str | Path | None = None) -> dict[str, Any]:
    """Describe a checkpoint without loading its weights.

    Args:
        src: model directory, Hub id, or weight file.
        config: for a weight file: config.json (or its directory), or the name of a timm model.
    Returns:
        source, family, supported (and why not), bytes of the weight files, dtype (of most of the
        weights), history (the steps so far), profile (None, or whether it was made from these
        weights); if the family is supported also class, task, parameters, parts (parameters before,
        in and after the blocks: embeddings, blocks, head), input, labels, form, layer, alpha,
            blocks (kept, of source_blocks), widths per block, full_widths (of an unpruned block)
            and sparsity.
    Raises:
        CheckpointError, ModelDirError: if there is no readable checkpoint.
    """
    source = modeldir.find_source(src, config=config)
    name = checkpoint.config_of(source).get("model_type")
    report: dict[str, Any] = {
        "step": "inspect",
        "source": source.name,
        "family": base_type(name) if isinstance(name, str) else None,
        "supported": True,
        "why": None,
        "bytes": source.bytes(),
        "dtype": _dtype(source),
        "history": [
            {key: entry.get(key) for key in ("step", "source", "seed", "finished")}
            for entry in (source.read("provenance.json") or {}).get("steps", [])
        ],
        "profile": _profile(source),
    }
    try:
        return report | _describe(source)
    except UnsupportedError as error:
        return report | {"supported": False, "why": str(error)}


def _describe(source: Source) -> dict[str, Any]:
    """What only a supported family can tell: the model's class, parts and structure."""
    architecture, cls, hf_config = checkpoint.describe(source, None)
    with torch.device("meta"):
        net = Network(cls(hf_config), architecture)
    net.check_blocks()
    stored = source.config.get("acn")
    structure = (
        Structure.residual(net.depth)
        if stored is None
        else Structure.read(stored, f"{source.name}: config.json")
    )
    task = _task(net)
    return {
        "class": plain_class(cls).__name__,
        "task": task,
        "parameters": net.parameters,
        "parts": _parts(net),
        "input": _input(hf_config, architecture),
        "labels": []
        if task is None or not task.endswith("classification")
        else [name for _, name in sorted(hf_config.id2label.items())],
        "form": structure.form,
        "layer": structure.layer,
        "alpha": list(structure.alpha),
        "blocks": list(structure.blocks),
        "source_blocks": structure.source_blocks,
        "widths": list(widths.counts(net)),
        "full_widths": _full_widths(cls, hf_config, architecture),
        "sparsity": structure.sparsity,
    }


def _task(net: Network) -> str | None:
    try:
        return task_of(net)
    except UnsupportedError:
        return None


def _parts(net: Network) -> dict[str, int]:
    """Parameters before, in and after the blocks, in the order the model registers them; tied ones
    count where they come first."""
    inside = {id(p) for p in net.stack.parameters()}
    parts, where = {"embeddings": 0, "blocks": 0, "head": 0}, "embeddings"
    for parameter in net.model.parameters():
        if id(parameter) in inside:
            where = "blocks"
        elif where == "blocks":
            where = "head"
        parts[where] += parameter.numel()
    return parts


def _input(config: Any, architecture: Architecture) -> dict[str, Any]:
    if architecture.modality == "image":
        height, width = image_size(config)
        return {
            "modality": "image",
            "channels": channels(config),
            "height": height,
            "width": width,
        }
    return {
        "modality": "text",
        "vocabulary": config.vocab_size,
        "max_length": getattr(config, "max_position_embeddings", None),
    }


def _full_widths(cls: Any, config: Any, architecture: Architecture) -> dict[str, int]:
    """Widths of a block that was never pruned."""
    with torch.device("meta"):
        return dict(widths.counts(Network(plain_class(cls)(config), architecture))[0])


def _dtype(source: Source) -> str | None:
    """The dtype most weights are stored in, from the safetensors headers; of other files, what the
    config says."""
    if any(path.suffix != ".safetensors" for path in source.weights):
        stated = source.config.get("dtype") or source.config.get("torch_dtype")
        return str(stated) if stated else None
    from safetensors import SafetensorError, safe_open

    elements: Counter[str] = Counter()
    try:
        for path in source.weights:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118  (not a dict)
                    tensor = file.get_slice(key)
                    elements[tensor.get_dtype()] += torch.Size(tensor.get_shape()).numel()
    except SafetensorError as error:
        raise CheckpointError(
            f"{source.name}: the safetensors file is damaged or cut short ({error}). Get it again."
        ) from None
    most = elements.most_common(1)
    return DTYPES.get(most[0][0], most[0][0]) if most else None


def _profile(source: Source) -> dict[str, Any] | None:
    """Whether a profile lies beside the weights, and is theirs (hashing the weights only if there
    is one)."""
    stored = source.read("profile.json")
    return None if stored is None else {"matches": stored.get("weights_sha256") == source.sha256()}
