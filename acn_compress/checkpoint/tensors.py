"""Tensors from weight files, by name. Nothing is unpickled that needs code."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from acn_compress.errors import CheckpointError

# what DataParallel and torch.compile put in front of every name
WRAPPED = re.compile(r"^(module\.|_orig_mod\.)+")
LFS = b"version https://git-lfs"
# by the names that safetensors gives them
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Slice(Protocol):
    """A tensor still in its safetensors file; indexing it reads."""

    def __getitem__(self, index: object) -> Tensor: ...
    def get_shape(self) -> list[int]: ...
    def get_dtype(self) -> str: ...


Stored = Mapping[str, Tensor | Slice]


def read_files(paths: Iterable[Path]) -> Stored:
    """The tensors of weight files. Those of safetensors files are not read before they are used.

    Raises:
        CheckpointError: for a damaged file, a pickle that needs code, a tensor stored twice.
    """
    state: dict[str, Tensor | Slice] = {}
    for path in paths:
        found = _safetensors(path) if path.suffix == ".safetensors" else read_pickle(path)
        if twice := state.keys() & found.keys():
            raise CheckpointError(f"{path}: {min(twice)} is in another weight file too.")
        state |= found
    return _unwrapped(state)


def headers(paths: Iterable[Path]) -> dict[str, Slice]:
    """The tensors of safetensors files; none is read before it is used.

    Raises:
        CheckpointError: as `read_files`.
    """
    found: dict[str, Slice] = {}
    for path in paths:
        found |= _safetensors(path)
    return found


def _safetensors(path: Path) -> dict[str, Slice]:
    from safetensors import SafetensorError, safe_open

    _check_fetched(path)
    try:
        file: Any = safe_open(path, framework="pt")  # its methods have no types
        return {key: cast(Slice, file.get_slice(key)) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: the safetensors file is damaged or cut short ({error}). Get it again."
        ) from None


def read_pickle(path: Path) -> dict[str, Tensor]:
    """Of a file that torch.save wrote, alone or under a common wrapper."""
    _check_fetched(path)
    zipped = zipfile.is_zipfile(path)  # as torch writes since 1.6
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError:
        raise CheckpointError(_why_not_unpickled(path)) from None
    except Exception as error:  # RuntimeError, EOFError, ... for files that are no checkpoint
        reason = (str(error).splitlines() or [""])[0][:120]
        raise CheckpointError(
            f"{path}: not a PyTorch checkpoint ({type(error).__name__}: {reason})."
        ) from None
    return _state_dict(data, path)


def _check_fetched(path: Path) -> None:
    """Refuse what git leaves in the place of a large file that it was not asked to fetch."""
    with path.open("rb") as file:
        if file.read(len(LFS)) == LFS:
            raise CheckpointError(
                f"{path}: is a Git-LFS pointer, and not the weights. Get them with: git lfs pull"
            )


def _why_not_unpickled(path: Path) -> str:
    with path.open("rb") as file:
        if not file.read(4).startswith((b"PK", b"\x80")):  # neither a zip archive nor a pickle
            return f"{path}: not a PyTorch checkpoint."
    return (
        f"{path}: this pickle needs code to load, which could do anything; it was not run. "
        "Re-save its tensors where you trust it: "
        "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
    )


def _state_dict(data: object, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model_state_dict", "model", "module"):
        if isinstance(data, dict) and isinstance(data.get(key), dict):
            data = data[key]
    if not isinstance(data, dict) or not data or not _all_named_tensors(data):
        raise CheckpointError(
            f"{path}: found no state dict. Expected a dict of tensors, alone or under 'state_dict' "
            "or 'model'."
        )
    return data


def _all_named_tensors(data: dict[object, object]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in data.items())


def _unwrapped(state: Stored) -> Stored:
    """Without the prefixes of DataParallel and torch.compile, where every name has one."""
    if state and all(WRAPPED.match(key) for key in state):
        return {WRAPPED.sub("", key): value for key, value in state.items()}
    return state


def stored_dtype(state: Stored, stated: torch.dtype | None = None) -> torch.dtype:
    """The type the weights are stored in: the one stated, if any of them are, else that of most
    elements; float32 if there are none."""
    sizes: Counter[torch.dtype] = Counter()
    for value in state.values():
        dtype, shape = _header(value)
        if dtype is not None:
            sizes[dtype] += shape.numel()
    if stated in sizes:
        return cast(torch.dtype, stated)
    return sizes.most_common(1)[0][0] if sizes else torch.float32


def quantised(state: Stored) -> str | None:
    """The name of a tensor of numbers that only mean something with their scales; None if there is
    none."""
    return next((name for name, value in state.items() if _is_quantised(value)), None)


def _is_quantised(value: Tensor | Slice) -> bool:
    if isinstance(value, Tensor):
        return value.dtype == torch.int8 or (
            value.dtype.itemsize == 1 and value.is_floating_point()
        )
    name = value.get_dtype()
    return name not in FLOATS and name.startswith(("I8", "F8", "F6", "F4"))


def elements(value: Tensor | Slice) -> int:
    """Numbers in a tensor."""
    return _header(value)[1].numel()


def without_numbers(value: Tensor | Slice) -> Tensor:
    """A tensor of the same type and size that takes no memory."""
    dtype, shape = _header(value)
    return torch.empty(shape, dtype=dtype or torch.int64, device="meta")


def _header(value: Tensor | Slice) -> tuple[torch.dtype | None, torch.Size]:
    """Type (None for one that is no plain floating-point number) and shape."""
    if isinstance(value, Tensor):
        return value.dtype if value.dtype in FLOATS.values() else None, value.shape
    return FLOATS.get(value.get_dtype()), torch.Size(value.get_shape())
