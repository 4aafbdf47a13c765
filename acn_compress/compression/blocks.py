"""Which blocks of a network go: those that are missed least, while the others stay as they are or
once they make up for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from acn_compress.compression import refit
from acn_compress.compression.calibration import FEW, Batches, spread
from acn_compress.compression.statistics import answers_of
from acn_compress.compression.writers import rows_that_count, writers
from acn_compress.errors import ConfigError
from acn_compress.measure.budget import forward_flops
from acn_compress.network.network import Network
from acn_compress.network.threads import threads_for
from acn_compress.tasks.base import Batch, features

# rows that blocks are weighed on, times blocks: 64 rows of a network of 12
PASSES = 768
CHECKED = 4  # blocks, of which one is taken out
SHORTLIST = 2 * CHECKED  # from which those are taken that the others are led to make up for
REFITTED = 2  # rows that others are led on, for one that they are weighed on


def weighed_on(net: Network) -> int:
    """Rows that blocks are weighed on: fewer of a deeper network, so that the block forwards of it
    all grow as its depth, and not as the square of it."""
    return max(1, PASSES // net.depth)


def may_go(net: Network, gone: int) -> Sequence[int]:
    """Blocks of which so many may go. A head behind a post-norm network knows its last norm, so
    that block stays where it can."""
    found = net.removable
    return found if net.norm_behind(0) is None or len(found) <= gone else found[:-1]


def without(net: Network, gone: Collection[int]) -> tuple[int, ...]:
    """The positions of the others."""
    return tuple(k for k in range(net.depth) if k not in gone)


class Spent(NamedTuple):
    """What weighing blocks takes, per row: passes of all that lies outside of the blocks, and
    blocks that are run."""

    passes: int
    blocks: int


def weighing(depth: int, may_go: int, gone: int) -> Spent:
    """What `least_missed` takes of a network of so many blocks, of which so many may go and so many
    are taken out."""
    checked = [(depth - n - 1, min(CHECKED, may_go - n)) for n in range(gone)]
    passes = 1 + gone + sum(sets for _, sets in checked)
    return Spent(passes, depth + sum(left * sets for left, sets in checked))


class Looked(NamedTuple):
    """A batch, and y of the whole network behind its last block, which is all that its answers are
    read from: those of a language model are larger by far."""

    given: Batch
    y: Tensor

    @property
    def examples(self) -> int:
        return len(self.y)


Sets = Sequence[Sequence[int]]
Pick = Callable[[Network, Sequence[Looked], Sets], tuple[int, float]]
"""(network, what it was seen to do, sets of blocks, the one that turns the stream least first):
which set is missed least, and what the loss rises by without it while the others stay as they are,
in nats per example."""


def as_they_are(net: Network, seen: Sequence[Looked], sets: Sets) -> tuple[int, float]:
    """The `Pick` of blocks that nobody makes up for, of the first `CHECKED`."""
    rises = _rises(net, seen, sets[:CHECKED])
    at = min(range(len(rises)), key=rises.__getitem__)
    return at, rises[at]


@dataclass
class MadeUpFor:
    """The `Pick` of blocks that the others are led to make up for by a refit: of MiniLM's blocks
    the one to go is not the best before. Beyond half of the depth as if nobody did.

    Args:
        data: that they are led on.
        led: floating-point operations that refits took so far.
        passes, blocks: what was run besides, as in `Spent`, of all examples.
    """

    data: Batches
    led: float = 0.0
    passes: int = 0
    blocks: int = 0

    def __call__(self, net: Network, seen: Sequence[Looked], sets: Sets) -> tuple[int, float]:
        """Of the `CHECKED` of a `SHORTLIST` that are missed least while nobody does."""
        gone = len(sets[0])
        if not writers(net) or gone > net.depth // 2:
            self._count(seen, min(CHECKED, len(sets)), net.depth - gone)
            return as_they_are(net, seen, sets)
        rises = _rises(net, seen, sets[:SHORTLIST])
        checked = sorted(range(len(rises)), key=rises.__getitem__)[:CHECKED]
        self._count(seen, len(rises) + len(checked), net.depth - gone)
        led_on = REFITTED * weighed_on(net)
        best = min(checked, key=lambda number: self.left(net, seen, sets[number], led_on))
        return best, rises[best]

    def left(self, net: Network, seen: Sequence[Looked], gone: Sequence[int], rows: int) -> float:
        """What the loss rises by without some blocks, once the others were led on so many rows."""
        made = net.twin()
        made.keep_(without(net, gone))
        self.led += refit.refit_(made, net, self.data, rows)
        return _divergences(net, seen, [(made, ())])[0]

    def _count(self, seen: Sequence[Looked], sets: int, blocks: int) -> None:
        examples = sum(batch.examples for batch in seen)
        self.passes += examples * (1 + sets)
        self.blocks += examples * sets * blocks


def least_missed(
    net: Network,
    data: Batches,
    may_go: Sequence[int],
    gone: int | None = None,
    pick: Pick = as_they_are,
) -> list[tuple[int, float]]:
    """Blocks in the order in which they are missed least, each found while those before it are gone
    (they interact: two that are worth little alone may be worth all together).

    One pass says how far every block turns the stream. Of those that are left, only those that turn
    it least are looked at: a choice among all takes as many passes as there are pairs of blocks,
    and is no better (docs/method.md).

    Args:
        data: `weighed_on` of it are looked at, evenly spread; labels are not.
        may_go: blocks to order.
        gone: how many of them; None is all.
        pick: decides among all sets with one block more.
    Returns:
        Each with the divergence of the answers without it and those before it from the whole
        network's, in nats per example.
    """
    found: list[tuple[int, float]] = []
    seen, turns = _seen(net, data, weighed_on(net))
    left = sorted(may_go, key=turns.__getitem__)
    for _ in range(len(left) if gone is None else gone):
        before = [block for block, _ in found]
        at, rise = pick(net, seen, [[*before, block] for block in left])
        found.append((left.pop(at), rise))
    return found


class Kept(NamedTuple):
    """A choice of blocks, by position, and the floating-point operations it took."""

    blocks: tuple[int, ...]
    flops: float = 0.0


def best(net: Network, depth: int, data: Batches) -> Kept:
    """Those that `depth` of them can do most with, once they are refitted; that comes after. What
    was found one by one, on few rows, is compared with the first ones on `FEW`.

    Raises:
        ConfigError: if they cannot be refitted.
    """
    if (why := refit.refused(net)) is not None:
        raise ConfigError(why)
    pick, gone = MadeUpFor(data), net.depth - depth
    order = least_missed(net, data, may_go(net, gone), gone, pick)
    seen, _ = _seen(net, data, FEW)
    sets = [block for block, _ in order], range(depth, net.depth)
    least = min(sets, key=lambda blocks: pick.left(net, seen, blocks, FEW))
    looked_at = weighed_on(net) + sum(batch.examples for batch in seen)
    outside, block = forward_flops(net)
    blocks = pick.blocks + looked_at * net.depth
    flops = pick.led + (pick.passes + looked_at) * outside + blocks * block
    return Kept(without(net, least), flops)


def _seen(net: Network, data: Batches, rows: int) -> tuple[list[Looked], list[float]]:
    """The batches, and of every block the sum over tokens of one less the cosine between y in front
    of it and behind (ShortGPT: arXiv 2403.03853)."""
    seen, turns = [], [0.0] * net.depth
    with net.evaluating(), threads_for(net), torch.inference_mode():
        for batch in spread(net, data, rows):
            given = features(batch)
            with net.recording() as prefixes:
                net(**given)
            for i, (before, behind) in enumerate(pairwise(prefixes)):
                turned = 1 - F.cosine_similarity(before.float(), behind.float(), dim=-1)
                turns[i] += float(rows_that_count(turned[..., None], net.counted(given)).sum())
            seen.append(Looked(given, prefixes[-1]))
    return seen, turns


def _rises(net: Network, seen: Sequence[Looked], sets: Sets) -> list[float]:
    """Of every set of blocks that add nothing, the divergence of the answers."""
    return _divergences(net, seen, [(net, gone) for gone in sets])


def _divergences(
    net: Network, seen: Sequence[Looked], others: Sequence[tuple[Network, Sequence[int]]]
) -> list[float]:
    """Of the answers of other networks, of which some blocks add nothing, from those of the one
    that was seen, in nats per example."""
    rises = [0.0] * len(others)
    read, numbers = answers_of(net)
    with net.evaluating(), threads_for(net), torch.inference_mode():
        for batch in seen:
            with net.injecting(batch.y):
                whole = read(net, batch.given).float()
            for number, (other, gone) in enumerate(others):
                with other.evaluating(), other.bypassing(gone):
                    now = read(other, batch.given).float()
                rises[number] += float(_apart(now, whole, numbers))
    examples = sum(batch.examples for batch in seen)
    return [rise / examples for rise in rises]


def _apart(answers: Tensor, whole: Tensor, numbers: bool) -> Tensor:
    """The divergence of answers [rows, classes] from those of the whole network, summed."""
    if numbers:
        return (answers - whole).square().sum() / 2
    return F.kl_div(
        answers.log_softmax(-1), whole.log_softmax(-1), reduction="sum", log_target=True
    )
