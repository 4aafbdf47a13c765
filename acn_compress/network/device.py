"""Which device a network runs on."""

from __future__ import annotations

import torch

from acn_compress.errors import ConfigError


def find_device(name: str) -> str:
    """A device that can be used, from its name or "auto" (an accelerator if there is one).

    Raises:
        ConfigError: if it cannot be used here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        raise ConfigError(
            f"device '{name}' cannot be used here ({reason}). Use cpu or auto."
        ) from None
    return name
