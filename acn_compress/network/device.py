"""Which device a network runs on."""

from __future__ import annotations

import torch
from torch import Tensor

from acn_compress import processes
from acn_compress.errors import ConfigError

WITHOUT_FLOAT64 = {"mps"}  # types of devices


def find_device(name: str) -> str:
    """A device that can be used, from its name or "auto" (an accelerator if there is one).

    Raises:
        ConfigError: if it cannot be used here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and processes.world() > 1:
        _check_one_each(name)
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ConfigError(
            f"device '{name}' cannot be used here ({reason}). Use cpu or auto."
        ) from None
    return name


def exact(tensor: Tensor) -> Tensor:
    """The same in float64: where it is, or on the CPU if its device has no such numbers."""
    place = "cpu" if tensor.device.type in WITHOUT_FLOAT64 else tensor.device
    return tensor.to(place).double()


def plus_(sums: Tensor | None, more: Tensor) -> Tensor:
    """A sum in float64, in place: what is added is not copied in it. None is a sum of nothing."""
    return exact(more) if sums is None else sums.add_(more.to(sums.device))


def wait_for(device: torch.device) -> None:
    """Until a device has computed what it was asked for: an accelerator answers before that."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _check_one_each(name: str) -> None:
    """Every process has the accelerator of its own number."""
    wanted, found = processes.local_world(), torch.cuda.device_count()
    if name != "cuda":
        raise ConfigError(
            f"device is {name}, but every process has its own. Say cuda, cpu or auto."
        )
    if wanted > found:
        raise ConfigError(
            f"{wanted} processes on this machine, but {found} GPUs. Launch one for each, or say "
            "--device cpu."
        )
