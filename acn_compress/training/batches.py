"""How training examples come: numbered, in batches of similar size, and with randomness that
follows from the batch alone."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from acn_compress.data.load import Data


class Numbered(torch.utils.data.Dataset[tuple[int, dict[str, Any]]]):
    """Examples with their numbers."""

    def __init__(self, data: Data) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[int, dict[str, Any]]:
        return index, self.data.examples[index]


class Bucketed(torch.utils.data.Sampler[int]):
    """Examples in random order, those of similar size in one batch, so that little is padding:
    pools of many batches are drawn, each is sorted by size and cut into batches, and these are
    shuffled. An epoch's order follows from the seed alone."""

    POOL = 50  # batches

    def __init__(self, sizes: Tensor, batch: int, seed: int) -> None:
        self.sizes, self.batch, self.seed, self.epoch = sizes, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[int]:
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
        return iter([int(i) for b in order for i in batches[b]])


class Collate:
    """What is random in a training batch (crops, masked words) follows from the batch, so that a
    resumed run sees the same."""

    def __init__(self, data: Data, seed: int) -> None:
        self._data, self._seed = data, seed

    def __call__(self, rows: list[tuple[int, dict[str, Any]]]) -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(self._seed, *(index for index, _ in rows)))
            return self._data.examples.collate([row for _, row in rows], train=True)


def seed_of(*numbers: int) -> int:
    """One seed from several numbers, the same on every machine."""
    return zlib.crc32(repr(numbers).encode())
