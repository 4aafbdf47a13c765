"""How training examples come: in batches of similar size, each with a seed of its own."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from acn_compress.data.load import Data
    from acn_compress.tasks.base import Batch
    from acn_compress.training.taught import Taught


class Drawn(NamedTuple):
    """An example that is drawn.

    Args:
        place: of it.
        seed: of what is random about it in this epoch (its crop, its masked words), whatever batch
            and process it comes to: a resumed run and one of several processes see the same.
    """

    place: int
    seed: int


class Seeded(torch.utils.data.Dataset[dict[str, Any]]):
    """Examples with what their randomness follows from."""

    def __init__(self, data: Data) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, drawn: Drawn) -> dict[str, Any]:
        row = self.data.examples[drawn.place]
        return {**row, "seed": drawn.seed, "place": drawn.place}


def collated(data: Data, taught: Taught | None, rows: list[dict[str, Any]]) -> Batch:
    """A batch to train on, with what the teacher answers to it where that is kept."""
    batch = data.examples.collate(rows, train=True)
    return batch if taught is None else batch | taught.batch([row["place"] for row in rows])


class Bucketed(torch.utils.data.Sampler[Drawn]):
    """Examples in random order, those of similar size in one batch, so that little is padding:
    pools of many batches are drawn, each is sorted by size and cut into batches, and these are
    shuffled. An epoch's order follows from the seed alone.

    Args:
        sizes: [examples].
        batch: examples of one.
        seed: of the order, and of the examples' own.
    """

    POOL = 50  # batches

    def __init__(self, sizes: Tensor, batch: int, seed: int) -> None:
        self.sizes, self.batch, self.seed, self.epoch = sizes, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[Drawn]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.epoch))
        pools = torch.split(torch.randperm(len(self), generator=generator), self.POOL * self.batch)
        batches = [
            b
            for pool in pools
            for b in torch.split(pool[self.sizes[pool].argsort(stable=True)], self.batch)
        ]
        order = [int(i) for i in torch.randperm(len(batches), generator=generator)]
        order.sort(
            key=lambda i: len(batches[i]) < self.batch
        )  # the one that is not full comes last, where it is dropped
        numbers = [int(i) for b in order for i in batches[b]]
        return (Drawn(i, seed_of(self.seed, self.epoch, i)) for i in numbers)


def seed_of(*numbers: int) -> int:
    """One seed from several numbers, the same on every machine."""
    return zlib.crc32(repr(numbers).encode())
