"""What a shallower network starts from, before it is trained: some blocks of a trained one,
refitted to do the work of all.

The first blocks are what `truncate` keeps, and a cut there is exact. What is trained afterwards may
start from others. In a pre-norm network all blocks add to one stream, so one that adds little can
be left out wherever it lies. In a post-norm network every block replaces what it read; there the
blocks are spread, and the last one stays, which the head knows. docs/method.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from acn_compress.checkpoint.source import Source
from acn_compress.compression import blocks, refit, walk
from acn_compress.compression.blocks import (
    Kept,
    least_missed,
    may_go,
    weighed_on,
    weighing,
    without,
)
from acn_compress.compression.calibration import FEW
from acn_compress.data.load import Data
from acn_compress.data.splits import training_split
from acn_compress.measure.budget import forward_flops, training_flops
from acn_compress.network.network import Network
from acn_compress.options import Keep, Trained

EXAMPLES = 64  # that a refit needs
DEEP = 0.25  # share of the blocks up to which choosing them was worth its cost (docs/method.md)
CHEAP = 0.1  # of the training that follows: what "auto" lets choosing cost
SHARE = 0.25  # of the training that follows: about what a refit may cost


def cut_(
    net: Network,
    depth: int,
    keep: Keep,
    how: Trained,
    source: Source | None,
    reference: Network | None = None,
    *,
    refitted: bool | None = False,
    examples: int | None = None,
) -> float:
    """Cut the network to `depth` of its blocks, physically, in place.

    Args:
        keep: of `KEEP`.
        how, source, reference: what will be trained on, as in `job.run_job`; "best" and the refit
            look at a few examples of it.
        refitted: solve the kept blocks' output layers so that they follow the whole network
            (`refit.refit_`), on as many examples as cost a quarter of the training, at most 2048;
            with fewer than 64 they stay. None does it where it can be done.
        examples: how many there are to train on, where that is known; they are read and counted
            otherwise, where it matters.
    Returns:
        The floating-point operations that this took.
    """
    refitted = refit.refused(net) is None if refitted is None else refitted
    start = Start(net, depth, how, source, reference, refitted, examples)
    kept, spent = KEEP[keep](start)
    if not refitted:
        net.keep_(kept)
        return spent
    whole, affordable = net.twin(), SHARE * start.training  # counted on the network as it was
    net.keep_(kept)
    return spent + _refit_(start, whole, affordable)


@dataclass(frozen=True)
class Start:
    """A cut that is to be made: what a choice of its blocks may look at.

    Args: as in `cut_`.
    """

    net: Network
    depth: int
    how: Trained
    source: Source | None
    reference: Network | None
    refitted: bool
    examples: int | None

    @cached_property
    def training(self) -> float:
        """Floating-point operations of the training that follows."""
        examples = self.examples or len(self._split(self.how))
        blocks = self.net.depth
        price = training_flops(self.net, depth=self.depth, teacher_depth=blocks)
        return self.how.epochs * examples * price

    @property
    def search(self) -> float:
        """Operations per example of taking blocks out one after the other until `depth` are left,
        while the others stay as they are."""
        outside, block = forward_flops(self.net)
        gone = self.net.depth - self.depth
        spent = weighing(self.net.depth, len(may_go(self.net, gone)), gone)
        return spent.passes * outside + spent.blocks * block

    def few(self, number: int) -> Data:
        """So many of the examples that will be trained on."""
        return self._split(self.how.changed(limit=number, augment=None))

    def _split(self, how: Trained) -> Data:
        return training_split(how, self.net, self.source, self.reference)


def first(start: Start) -> Kept:
    """The first ones."""
    return Kept(tuple(range(start.depth)))


def even(start: Start) -> Kept:
    """Evenly spaced, the first and the last among them; of one, the first."""
    spaced = np.linspace(0, start.net.depth - 1, start.depth).round()
    return Kept(tuple(int(i) for i in spaced))


def best(start: Start) -> Kept:
    """What is left when the block without which the answers change least is taken out again and
    again; where what is left will be refitted, what can do most then (`blocks.best`)."""
    if start.depth == start.net.depth:
        return first(start)
    if not start.refitted:
        return _missed_least(start)
    return blocks.best(start.net, start.depth, start.few(FEW))


def _missed_least(start: Start) -> Kept:
    """While the others stay as they are."""
    net, data, gone = start.net, start.few(weighed_on(start.net)), start.net.depth - start.depth
    out = {block for block, _ in least_missed(net, data, may_go(net, gone), gone)}
    return Kept(without(net, out), len(data) * start.search)


def auto(start: Start) -> Kept:
    """In a pre-norm network the best, as they are, for a cut to a quarter of the blocks or less
    whose training costs at least ten times what choosing does; in a post-norm one evenly spaced if
    they are refitted. Otherwise the first."""
    if start.net.norm_behind(0) is not None:
        return even(start) if start.refitted else first(start)
    deep = start.depth <= DEEP * start.net.depth
    cheap = deep and weighed_on(start.net) * start.search <= CHEAP * start.training
    return _missed_least(start) if cheap else first(start)


KEEP: dict[str, Callable[[Start], Kept]] = {
    "first": first,
    "even": even,
    "best": best,
    "auto": auto,
}


def _refit_(start: Start, whole: Network, affordable: float) -> float:
    """Refit the network that was cut from `whole`, on as many examples as can be afforded. Returns
    the operations that took."""
    if not (price := walk.price(start.net, whole)):
        return 0.0
    number = min(int(affordable / price), refit.EXAMPLES, start.how.limit or refit.EXAMPLES)
    return refit.refit_(start.net, whole, start.few(number)) if number >= EXAMPLES else 0.0
