"""Tensors from files into a model, strictly: one that is missing, left over or of another size is
an error. Nothing is unpickled that needs code."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from acn_compress.architectures import architecture_of
from acn_compress.checkpoint.source import Source
from acn_compress.errors import CheckpointError


def read(source: Source, cls: Any, hf_config: Any, new_head: bool) -> tuple[Any, dict[str, Any]]:
    """Weights into a model, through transformers (which renames, ties, shards and places them)."""
    from safetensors import SafetensorError

    # of a head that was asked for anew, tensors of another size begin at random, which `check_keys`
    # holds to the head; any other mismatch is an error already here
    common = {"config": hf_config, "output_loading_info": True, "ignore_mismatched_sizes": new_head}
    try:
        if all(p.suffix == ".safetensors" for p in source.weights) and not source.loose:
            return cast(
                "tuple[Any, dict[str, Any]]",
                cls.from_pretrained(source.directory, local_files_only=True, **common),
            )
        state = plain_state(source)
        hf_config.dtype = hf_config.dtype or next(
            (t.dtype for t in state.values() if t.is_floating_point()), torch.float32
        )
        return cast(
            "tuple[Any, dict[str, Any]]",
            cls.from_pretrained(None, state_dict=state, dtype=hf_config.dtype, **common),
        )
    except SafetensorError as error:
        raise CheckpointError(
            f"{source.name}: the safetensors file is damaged or cut short ({error}). Get it again."
        ) from None
    except RuntimeError as error:
        if "mismatch" not in str(error) or new_head:
            raise
        model, info = read(
            source, cls, hf_config, new_head=True
        )  # transformers' error names no tensor: only to say which
        check_keys(source, model, info, new_head=False)
        raise


def plain_state(source: Source) -> dict[str, Tensor]:
    """Tensors of a loose or legacy file: safetensors, or a pickle that needs no code; common
    wrappers are opened."""
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for path in source.weights:
        if path.suffix == ".safetensors":
            state |= load_file(path)
            continue
        try:
            data = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )  # as torch writes since 1.6
        except pickle.UnpicklingError:
            with path.open("rb") as file:
                if not file.read(4).startswith(
                    (b"PK", b"\x80")
                ):  # neither a zip archive nor a pickle
                    raise CheckpointError(f"{path}: not a PyTorch checkpoint.") from None
            raise CheckpointError(
                f"{path}: this pickle needs code to load, which could do anything; it was not run. Re-save its tensors where you trust it: "
                "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
            ) from None
        except (
            Exception
        ) as error:  # torch raises RuntimeError, EOFError, ... for files that are no checkpoint
            raise CheckpointError(
                f"{path}: not a PyTorch checkpoint ({type(error).__name__}: {str(error).splitlines()[0][:120]})."
            ) from None
        state |= _unwrap_state(data, path)
    return state


def _unwrap_state(data: Any, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model_state_dict", "model", "module"):
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
    if (
        not isinstance(data, dict)
        or not data
        or not all(isinstance(v, Tensor) for v in data.values())
    ):
        raise CheckpointError(
            f"{path}: found no state dict. Expected a dict of tensors, alone or under 'state_dict' or 'model'."
        )
    while prefix := next(
        (p for p in ("module.", "_orig_mod.") if all(k.startswith(p) for k in data)), ""
    ):
        data = {k.removeprefix(prefix): v for k, v in data.items()}
    return cast("dict[str, Tensor]", data)


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
