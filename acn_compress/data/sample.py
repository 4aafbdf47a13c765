"""Which rows are read where not all of them are: a sample drawn from a seed, with every class in
its share. The first rows of a sorted table would be those of one class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Rows = np.ndarray[tuple[int], np.dtype[np.int64]]


def drawn(rows: int, count: int, seed: int) -> Rows:
    """`count` of `rows` rows, each as likely, in their order."""
    return np.sort(np.random.default_rng(seed).permutation(rows)[:count])


def stretch(rows: int, count: int, seed: int) -> Rows:
    """`count` rows that follow each other, for texts that go on in the next row."""
    start = int(np.random.default_rng(seed).integers(rows - count + 1))
    return np.arange(start, start + count)


def stratified(classes: Sequence[str], count: int, seed: int) -> Rows:
    """`count` rows in their order, of every class as large a share as it has of all rows, and at
    least one if there is room for one of each."""
    names, member, sizes = np.unique(np.asarray(classes), return_inverse=True, return_counts=True)
    rng, take = np.random.default_rng(seed), shares(sizes, count)
    chosen = [
        rng.permutation(np.flatnonzero(member == number))[: take[number]]
        for number in range(len(names))
    ]
    rows: Rows = np.sort(np.concatenate(chosen))
    return rows


def place_of(row: int, chosen: Sequence[int] | Rows | None) -> int:
    """Where a row of a sample lies in the data, where the user looks for it; `chosen` are the rows
    of the sample, None where it is all of them."""
    return row if chosen is None else int(chosen[row])


def shares(sizes: np.ndarray[tuple[int], np.dtype[np.int64]], count: int) -> Rows:
    """How many of each class: the largest remainders are rounded up."""
    wanted = sizes * (count / sizes.sum())
    take: Rows = np.floor(wanted).astype(np.int64)
    if count >= len(sizes):
        take = np.maximum(take, 1)
    while take.sum() > count:
        take[np.argmax(np.where(take > 1, take - wanted, -np.inf))] -= 1
    while take.sum() < count:
        take[np.argmax(np.where(take < sizes, wanted - take, -np.inf))] += 1
    return take
