"""A model from a checkpoint's tensors, strictly: one that is missing, left over, of another size or
not finite is an error. What transformers itself leaves out is left out, and said.

transformers gets tensors and a config, never a directory to look around in.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from acn_compress.architectures import architecture_of
from acn_compress.checkpoint.adapter import Adapted
from acn_compress.checkpoint.source import Source
from acn_compress.checkpoint.tensors import (
    Stored,
    elements,
    quantised,
    stored_dtype,
    without_numbers,
)
from acn_compress.errors import CheckpointError
from acn_compress.network.plain import plain_class

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

# of pretraining, where the model read has no such part: poolers, the next-sentence head
UNUSED = re.compile(r"(^|\.)pooler\.|^cls\.seq_relationship\.")
POOLER = "add_pooling_layer"  # what transformers calls the choice


@dataclass(frozen=True)
class Read:
    """What there is to say about a checkpoint that has been read.

    Args:
        fresh: tensors of a new head that were not in it, or had another size.
        remarks: sentences about what in it was left out, or is not as config.json says.
    """

    fresh: tuple[str, ...]
    remarks: tuple[str, ...]


def read(
    source: Source, cls: type[PreTrainedModel], hf_config: PreTrainedConfig, new_head: bool
) -> tuple[PreTrainedModel, Read]:
    """Weights into a model, through transformers (which renames, ties and places them).

    Raises:
        CheckpointError: if they are not all of the model, and finite.
    """
    source.sha256()  # of what is read now
    state, stated = source.tensors(), hf_config.dtype
    _check_plain(source, state)
    parts = _parts(cls, state)
    _check_size(source, cls, hf_config, state)
    model, info = _from_tensors(source, state, cls, hf_config, parts)
    remarks = tuple(_remarks(state, info, stated, model, parts))
    if isinstance(source, Adapted):
        model, own = source.merged(model)
        remarks += (f"The adapter is merged into {source.directory}.",)
        info |= {
            "missing_keys": set(info["missing_keys"]) - own,
            "mismatched_keys": {key for key in info["mismatched_keys"] if key[0] not in own},
            "unexpected_keys": [],  # the head that the adapter's stands for
        }
    source.check_unchanged()
    fresh = _check_keys(source, model, info, new_head)
    _check_numbers(source, model)
    return model, Read(fresh, remarks)


def check_headers(source: Source, cls: type[PreTrainedModel], hf_config: PreTrainedConfig) -> None:
    """Hold the headers of safetensors files against a config, as `read` does their tensors: by
    names and sizes, without memory for weights.

    Raises:
        CheckpointError: as `read`.
    """
    found = source.tensors()
    _check_plain(source, found)
    state = {name: without_numbers(value) for name, value in found.items()}
    parts: dict[str, Any] = {**_parts(cls, state), "device_map": "meta"}
    _check_size(source, cls, hf_config, state)
    model, info = _from_tensors(source, state, cls, hf_config, parts)
    _check_keys(source, model, info, new_head=False)


def _check_plain(source: Source, state: Stored) -> None:
    if name := quantised(state):
        raise CheckpointError(
            f"{source.name}: {name} is quantised. Expected plain floating-point weights: use the "
            "checkpoint it was made from."
        )


def _from_tensors(
    source: Source,
    state: Stored,
    cls: type[PreTrainedModel],
    hf_config: PreTrainedConfig,
    parts: dict[str, Any],
) -> tuple[PreTrainedModel, dict[str, Any]]:
    # a tensor of another size begins at random here; `_check_keys` holds that to a new head
    model, info = cls.from_pretrained(
        None,
        config=hf_config,
        state_dict=state,
        dtype=stored_dtype(state, hf_config.dtype),
        generation_config=_generation(source, cls),
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        trust_remote_code=False,
        **parts,
    )
    model.config.name_or_path = str(source.directory)
    return cast("tuple[PreTrainedModel, dict[str, Any]]", (model, info))


def _generation(source: Source, cls: type[PreTrainedModel]) -> GenerationConfig | None:
    """How the model generates, as transformers finds it: in a file of its own, else in the
    config."""
    from transformers import GenerationConfig

    if source.loose or not cls.can_generate():
        return None
    stored = source.read("generation_config.json")
    if stored is None:
        return GenerationConfig.from_model_config(source.config)
    return GenerationConfig.from_dict(stored)


def _parts(cls: type[PreTrainedModel], state: Stored) -> dict[str, bool]:
    """A checkpoint saved without its pooler (a sentence encoder, say) is read without one, where
    transformers would make one up."""
    known = inspect.signature(plain_class(cls).__init__).parameters
    lacks = POOLER in known and not any("pooler." in key for key in state)
    return {POOLER: False} if lacks else {}


def _check_size(
    source: Source, cls: type[PreTrainedModel], hf_config: PreTrainedConfig, state: Stored
) -> None:
    """Refuse a config of a far larger model before memory is taken for it."""
    with torch.device("meta"):
        wanted = sum(p.numel() for p in cls(copy.deepcopy(hf_config)).parameters())
    stored = sum(elements(value) for value in state.values())
    if wanted > 4 * stored + (1 << 24):
        raise CheckpointError(
            f"{source.name}: the weights do not fit config.json: it describes a model of "
            f"{wanted:,} "
            f"parameters, the weight files hold {stored:,}."
        )


def _check_keys(
    source: Source, model: PreTrainedModel, info: dict[str, Any], new_head: bool
) -> tuple[str, ...]:
    """Refuse weights that are not all of the model; returns the tensors of a new head that the
    checkpoint did not have."""
    prefix = f"{model.base_model_prefix}."

    def of_head(key: str) -> bool:
        inside = key.startswith(prefix) or model.base_model is model
        return new_head and (
            "pooler" in key or key.startswith((f"{prefix}head", "classifier.")) or not inside
        )  # "head" is timm's, and CLIP's classifier is a base of its own

    missing, leftovers = sorted(info["missing_keys"]), architecture_of(model.config).leftovers
    extra = [] if new_head else sorted(info["unexpected_keys"])
    for what, keys in (
        ("the model needs, but the file lacks", [k for k in missing if not of_head(k)]),
        (
            "have no place in the model",
            [k for k in extra if not k.endswith(leftovers) and not UNUSED.search(k)],
        ),
    ):
        if keys:
            raise CheckpointError(
                f"{source.name}: {len(keys)} tensors {what}: {_few(keys)}. "
                f"Does {type(model).__name__} fit these weights?"
            )
    resized = {key: sizes for key, *sizes in info.get("mismatched_keys") or ()}
    for key in sorted(resized):
        if not of_head(key):
            stored, wanted = (tuple(size) for size in resized[key])
            inside = key.startswith(prefix) or model.base_model is model
            anew = " A head of another size is trained anew by acn-compress finetune with --task."
            raise CheckpointError(
                f"{source.name}: the weights do not fit config.json: {key} is {stored} in the "
                f"file, but {wanted} by config.json.{'' if inside else anew}"
            )
    return tuple(sorted({*missing, *resized}))


def _check_numbers(source: Source, model: PreTrainedModel) -> None:
    """Refuse weights that are not finite."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{source.name}: {name} holds values that are not finite (NaN or infinity), as a "
                "diverged training leaves them. Use an earlier checkpoint."
            )


def _remarks(
    state: Stored,
    info: dict[str, Any],
    stated: Any,
    model: PreTrainedModel,
    parts: dict[str, bool],
) -> Iterable[str]:
    unused = sorted(key for key in info["unexpected_keys"] if UNUSED.search(key))
    if unused:
        yield f"Not read, as the model has no use for them: {_few(unused)}."
    if parts:
        yield "The checkpoint has no pooler, so the model has none."
    if stated is not None and stated != model.dtype:
        said, found = (str(d).removeprefix("torch.") for d in (stated, model.dtype))
        yield f"config.json says {said}, the weights are {found} and stay so."


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
