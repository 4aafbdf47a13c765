"""inspect: what a checkpoint is, how big, where from. Reads config and headers; the model is built
without memory for weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from acn_compress.architectures import Architecture, base_type, wav2vec2
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint import weights
from acn_compress.checkpoint.adapter import Adapted
from acn_compress.checkpoint.config import fitting
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.original import Again
from acn_compress.checkpoint.provenance import Provenance, history
from acn_compress.checkpoint.quiet import quiet
from acn_compress.checkpoint.source import Source
from acn_compress.checkpoint.tensors import headers
from acn_compress.errors import CheckpointError, UnsupportedError
from acn_compress.events import Progress
from acn_compress.network import widths
from acn_compress.network.network import ENDLESS, Network
from acn_compress.network.plain import plain_class
from acn_compress.network.structure import Structure
from acn_compress.onnx.facts import facts_of
from acn_compress.onnx.layout import beside, file_bytes, find_onnx
from acn_compress.options import Inspect, ModelSpec
from acn_compress.reports.inspected import Inspected, InspectedOnnx, Past, ProfileFound
from acn_compress.tasks import task_or_none

# of safetensors
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def run(
    src: ModelSpec, how: Inspect, progress: Progress | None = None
) -> Inspected | InspectedOnnx:
    """Describe a checkpoint, or an ONNX file, without loading its weights.

    Raises:
        CheckpointError, ModelDirError: if there is neither.
    """
    if isinstance(src, (str, Path)) and how.config is None and (file := find_onnx(src)) is not None:
        return _graph(str(src), file, how)
    source = find_source(src, config=how.config)
    name = checkpoint.config_of(source).get("model_type")
    past = history(source)
    report = Inspected(
        step=how.verb,
        source=source.name,
        family=base_type(name) if isinstance(name, str) else None,
        supported=True,
        why=None,
        bytes=source.bytes(),
        dtype=_dtype(source),
        history=_history(past),
        again=Again.of(source) if past.steps and past.quality is None else None,
        profile=_profile(source),
    )
    try:
        return report.model_copy(update=_describe(source))
    except UnsupportedError as error:
        return report.model_copy(update={"supported": False, "why": str(error)})


def _graph(name: str, file: Path, how: Inspect) -> InspectedOnnx:
    found = facts_of(file)
    note = None if file == Path(name).expanduser() else beside(file) or None
    return InspectedOnnx(
        step=how.verb, source=name, file=str(file), bytes=file_bytes(file), note=note, **found
    )


def _history(past: Provenance) -> tuple[Past, ...]:
    entries = past.plain()["steps"]
    return tuple(Past(**{name: e.get(name) for name in Past.model_fields}) for e in entries)


def _describe(source: Source) -> dict[str, Any]:
    """What only a supported family can tell: the model's class, parts and structure."""
    architecture, cls, hf_config = checkpoint.describe(source, None)
    with fitting(source.name), torch.device("meta"):
        net = Network(cls(hf_config), architecture)
        net.check_blocks()
    stored = source.config.get("acn")
    structure = (
        Structure.residual(net.depth)
        if stored is None
        else Structure.read(stored, f"{source.name}: config.json")
    )
    task = task_or_none(net)
    classes = task is not None and task.classes is not None
    return {
        "class_": plain_class(cls).__name__,
        "task": task.name if task else None,
        "parameters": net.parameters,
        "parts": _parts(net),
        "input": _input(net, source),
        "labels": tuple(name for _, name in sorted(hf_config.id2label.items())) if classes else (),
        "form": structure.form,
        "layer": structure.layer,
        "alpha": structure.alpha,
        "blocks": structure.blocks,
        "source_blocks": structure.source_blocks,
        "widths": widths.counts(net),
        "full_widths": _full_widths(cls, hf_config, architecture),
        "sparsity": _sparsity(source, structure),
        "remark": _misfit(source, cls, hf_config),
    }


def _misfit(source: Source, cls: Any, hf_config: Any) -> str | None:
    """Why every other command refuses the weights, as far as their names and sizes tell it."""
    by_header = all(path.suffix == ".safetensors" for path in source.files)
    if not by_header or not source.files or isinstance(source, Adapted):
        return None
    try:
        with fitting(source.name), quiet():
            weights.check_headers(source, cls, hf_config)
    except CheckpointError as error:
        return str(error)
    return None


def _sparsity(source: Source, structure: Structure) -> float:
    """Share of zeros; where there should be some, the weights themselves are asked."""
    if structure.sparsity == 0:
        return 0.0
    return checkpoint.load_source(source, verify=False).structure.sparsity


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


def _input(net: Network, source: Source) -> dict[str, str | int | None]:
    if net.modality == "image":
        height, width = net.image_size
        return {"modality": "image", "channels": net.channels, "height": height, "width": width}
    if net.modality == "audio":
        samples, step = wav2vec2.frame(net.config)
        said = (source.read("preprocessor_config.json") or {}).get("sampling_rate")
        return {
            "modality": "audio",
            "sampling_rate": said if isinstance(said, int) else None,
            "frame": samples,
            "hop": step,
        }
    longest = net.longest_text
    return {
        "modality": "text",
        "vocabulary": net.config.vocab_size,
        "max_length": longest if longest < ENDLESS else None,
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
    elements: Counter[str] = Counter()
    for tensor in headers(source.weights).values():
        elements[tensor.get_dtype()] += torch.Size(tensor.get_shape()).numel()
    most = elements.most_common(1)
    return DTYPES.get(most[0][0], most[0][0]) if most else None


def _profile(source: Source) -> ProfileFound | None:
    """Whether a profile lies beside the weights, and is theirs (hashing the weights only if there
    is one)."""
    stored = source.read("profile.json")
    if stored is None:
        return None
    return ProfileFound(matches=stored.get("weights_sha256") == source.sha256())
