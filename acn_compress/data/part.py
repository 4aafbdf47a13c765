"""Some of the examples of a split, as a split of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from acn_compress.data.examples import Examples
from acn_compress.data.load import Data


class _Part:
    """Implements `data.Examples`."""

    def __init__(self, examples: Examples, places: Sequence[int]) -> None:
        self.labels, self.collate = examples.labels, examples.collate
        self.stamp = getattr(examples, "stamp", "")
        sizes = examples.sizes
        self.sizes = None if sizes is None else sizes[list(places)]
        self._examples, self._places = examples, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._examples[self._places[index]]


def part(data: Data, places: Sequence[int], name: str | None = None) -> Data:
    """The examples at some places."""
    alike = None if data.alike is None else data.alike[list(places)]
    examples = _Part(data.examples, places)
    return replace(data, name=name or data.name, examples=examples, alike=alike)


def evenly(data: Data, count: int) -> Data:
    """At most `count` examples, evenly spread: the first may all be of one class."""
    return part(data, range(0, len(data), -(-len(data) // count)))


def shares(data: Data, sizes: Sequence[float], seed: int) -> list[Data]:
    """Disjoint parts that hold these shares of the examples, drawn from a seed, each in the order
    of the whole."""
    order = np.random.default_rng(seed).permutation(len(data))
    ends = np.round(np.cumsum(sizes) * len(data)).astype(int)
    drawn = np.split(order, ends)[: len(sizes)]
    return [
        part(data, np.sort(places).tolist(), f"{data.name}, {len(places):,} rows of {len(data):,}")
        for places in drawn
    ]
