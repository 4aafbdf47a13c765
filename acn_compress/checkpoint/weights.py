"""A model from a checkpoint's tensors, strictly: one that is missing, left over or of another size
is an error. transformers gets tensors and a config, never a directory to look around in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from acn_compress.architectures import architecture_of
from acn_compress.checkpoint.source import Source
from acn_compress.checkpoint.tensors import Stored, stored_dtype
from acn_compress.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel


def read(
    source: Source, cls: Any, hf_config: Any, new_head: bool
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Weights into a model, through transformers (which renames, ties and places them)."""
    source.sha256()  # of what is read now
    state = source.tensors()
    try:
        found = _from_tensors(source, state, cls, hf_config, new_head)
        source.check_unchanged()
        return found
    except RuntimeError as error:
        if "mismatch" not in str(error) or new_head:
            raise
        # transformers' error names no tensor: only to say which
        model, info = _from_tensors(source, state, cls, hf_config, new_head=True)
        check_keys(source, model, info, new_head=False)
        raise


def _from_tensors(
    source: Source, state: Stored, cls: Any, hf_config: Any, new_head: bool
) -> tuple[PreTrainedModel, dict[str, Any]]:
    # of a head that was asked for anew, tensors of another size begin at random, which `check_keys`
    # holds to the head; any other mismatch is an error already here
    model, info = cls.from_pretrained(
        None,
        config=hf_config,
        state_dict=state,
        dtype=stored_dtype(state, hf_config.dtype),
        generation_config=_generation(source, cls),
        ignore_mismatched_sizes=new_head,
        output_loading_info=True,
        trust_remote_code=False,
    )
    model.config.name_or_path = str(source.directory)
    return cast("tuple[PreTrainedModel, dict[str, Any]]", (model, info))


def _generation(source: Source, cls: Any) -> GenerationConfig | None:
    """How the model generates, as transformers finds it: in a file of its own, else in the
    config."""
    from transformers import GenerationConfig

    if source.loose or not cls.can_generate():
        return None
    stored = source.read("generation_config.json")
    if stored is None:
        return GenerationConfig.from_model_config(source.config)
    return GenerationConfig.from_dict(stored)


def check_keys(source: Source, model: Any, info: dict[str, Any], new_head: bool) -> tuple[str, ...]:
    """Refuse weights that are not all of the model; returns the tensors of a new head that the
    checkpoint did not have."""
    prefix = f"{model.base_model_prefix}."
    leftovers = architecture_of(model.config).leftovers

    def of_head(key: str) -> bool:
        inside = key.startswith(prefix) or model.base_model is model
        return new_head and (
            "pooler" in key or key.startswith(f"{prefix}head") or not inside
        )  # "head" is timm's

    missing, resized = (
        sorted(info["missing_keys"]),
        {key: sizes for key, *sizes in info.get("mismatched_keys") or ()},
    )
    for what, keys in (
        ("the model needs, but the file lacks", [k for k in missing if not of_head(k)]),
        (
            "have no place in the model",
            []
            if new_head
            else sorted(k for k in info["unexpected_keys"] if not k.endswith(leftovers)),
        ),
    ):
        if keys:
            shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
            raise CheckpointError(
                f"{source.name}: {len(keys)} tensors {what}: {shown}. Does {type(model).__name__} fit these weights?"
            )
    for key in sorted(resized):
        if not of_head(key):
            stored, wanted = (tuple(size) for size in resized[key])
            raise CheckpointError(
                f"{source.name}: the weights do not fit config.json: {key} is {stored} in the file, but {wanted} by config.json. "
                "A head of another size is trained anew by acn-compress finetune with --task."
            )
    return tuple(sorted({*missing, *resized}))
