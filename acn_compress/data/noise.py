"""Corruption of images to measure under, seeded per example."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from acn_compress.errors import DataError

EXAMPLES = "for example gaussian:0.2 or salt-pepper:0.05"


@dataclass(frozen=True)
class Noise:
    """Corruption of an input image, in [0, 1] pixel space before normalisation, seeded per example.

    Args:
        kind: "gaussian" (amount = standard deviation) or "salt-pepper" (amount = share of pixels
            set to 0 or 1).
    """

    kind: str
    amount: float

    @classmethod
    def parse(cls, text: str) -> Noise:
        """From "gaussian:0.2" or "salt-pepper:0.05".

        Raises:
            DataError: if it is neither.
        """
        kind, _, amount = text.partition(":")
        try:
            value = float(amount)
        except ValueError:
            value = -1.0
        most = {"gaussian": float("inf"), "salt-pepper": 1.0}.get(kind, -1.0)
        if not 0 <= value <= most or value == float("inf"):
            raise DataError(
                f"noise '{text}' is not known. Expected gaussian:SD or salt-pepper:SHARE, "
                f"{EXAMPLES}."
            )
        return cls(kind, value)


def add_noise(pixels: Tensor, noise: Noise, index: int) -> Tensor:
    """The same noise for the same example, whatever model or batch asks: [channels, height, width]
    in [0, 1]."""
    generator = torch.Generator().manual_seed(1_000_003 + index)
    if noise.kind == "gaussian":
        return (pixels + noise.amount * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)
    drawn = torch.rand(pixels.shape[-2:], generator=generator)
    pixels = torch.where(drawn < noise.amount / 2, torch.zeros(()), pixels)
    return torch.where(drawn > 1 - noise.amount / 2, torch.ones(()), pixels)
