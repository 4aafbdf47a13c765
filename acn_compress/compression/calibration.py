"""What a network is looked at with before it is made smaller: some rows of data, or random inputs
of the network's own kind where there are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from acn_compress.network.network import Network

ROWS = 2048  # that are looked at, at most
FEW = 512  # on which a choice is made; there are as many random inputs
TOKENS = 24  # of a random text: about a sentence
BATCH, FEWEST = 32, 8  # examples of a batch, and the fewest batches


class Batches(Protocol):
    """All that is asked of examples, `data.load.Data` for one; labels are not looked at."""

    def __len__(self) -> int: ...
    def batches(self, size: int, *, device: torch.device) -> Iterator[dict[str, Tensor]]: ...


@dataclass(frozen=True)
class RandomInputs:
    """Random pixels or tokens that the network accepts; its tokenizer's frame is not around them.

    Args:
        net: whose inputs they are.
        rows: how many.
        seed: what they are drawn from.
    """

    net: Network
    rows: int = FEW
    seed: int = 0

    def __len__(self) -> int:
        return self.rows

    def batches(self, size: int, *, device: torch.device) -> Iterator[dict[str, Tensor]]:
        """Every example once, always the same ones whatever the size of a batch."""
        inputs = self.net.example_inputs(batch=self.rows, length=TOKENS, seed=self.seed)
        for at in range(0, self.rows, size):
            yield {name: whole[at : at + size].to(device) for name, whole in inputs.items()}


def calibration(net: Network, data: Batches | None, rows: int = FEW, seed: int = 0) -> Batches:
    """The data, or so many random inputs where there is none."""
    return RandomInputs(net, rows, seed) if data is None else data


def named(data: Batches | None) -> str:
    """What was looked at."""
    name = getattr(data, "name", None)
    if data is None:
        return "random inputs, a poor stand-in for rows of yours (--data)"
    return "examples" if name is None else f"rows of {name}"


def batch_size(data: Batches) -> int:
    """Examples of a batch: of few examples small ones, so that some can be held out."""
    return min(BATCH, max(1, len(data) // FEWEST))


def spread(
    net: Network, data: Batches, rows: int = ROWS, stride: int = 1
) -> Iterator[dict[str, Tensor]]:
    """Batches of about `rows` of the examples, evenly spread over the data, which come sorted by
    length.

    Args:
        stride: every so many batches are taken, at least.
    """
    stride, size = max(stride, round(len(data) / rows)), min(batch_size(data), rows)
    for number, batch in enumerate(data.batches(size, device=net.device)):
        if number % stride == stride // 2:
            yield batch
