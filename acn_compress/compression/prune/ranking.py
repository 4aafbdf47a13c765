"""Which units go: their scores are ranked across all widths of the network, or within each. They go
one by one, or together where only some numbers may be left, or all blocks are to be alike."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise, product
from math import gcd, inf

from torch import Tensor

from acn_compress.architectures import Width
from acn_compress.compression.prune.scores import Units
from acn_compress.errors import ConfigError
from acn_compress.network import widths
from acn_compress.network.network import Network


@dataclass(frozen=True)
class Choice:
    """One width of one block: what a unit costs and how much it matters.

    Args:
        block: position of the block.
        name: of the width.
        width: where it lies.
        cost: parameters removed with one unit.
        scores: [units], the higher the more it is worth (per parameter, where a score adds up).
    """

    block: int
    name: str
    width: Width
    cost: int
    scores: Tensor

    @property
    def units(self) -> int:
        return self.width.units

    @cached_property
    def values(self) -> list[float]:
        """The scores as numbers."""
        values: list[float] = self.scores.tolist()
        return values

    @property
    def features(self) -> int:
        """Of a unit, in the narrowest layer that holds it: head_dim, or 1."""
        return min(cut.size for cut in (*self.width.outputs, *self.width.inputs))

    def __str__(self) -> str:
        return f"block {self.block} {self.name}"


Drops = list[list[int]]
"""For every choice the units to remove, in no order."""


def choices(net: Network, scores: Units, per_parameter: bool = False) -> list[Choice]:
    """Every width of every block, with the scores of its units."""
    found = []
    for i, block in enumerate(net.blocks):
        for name, width in net.family.widths(block).items():
            cost = widths.unit_parameters(block, width)
            score = scores[i][name] / cost if per_parameter else scores[i][name]
            found.append(Choice(i, name, width, cost, score))
    return found


@dataclass(frozen=True)
class Together:
    """Units that only go together.

    Args:
        units: by the position of their choice.
        cost: parameters removed with them.
        loss: their scores, each times what it costs.
    """

    units: Mapping[int, Sequence[int]]
    cost: int
    loss: float

    @classmethod
    def of(cls, found: Sequence[Choice], units: Mapping[int, Sequence[int]]) -> Together:
        """Of some units."""
        cost = sum(found[i].cost * len(some) for i, some in units.items())
        loss = sum(found[i].cost * found[i].values[u] for i, some in units.items() for u in some)
        return cls(units, cost, loss)

    @property
    def score(self) -> float:
        """The mean, weighted by what units cost."""
        return self.loss / self.cost


@dataclass(frozen=True)
class Ladder:
    """One width of all blocks: what goes from one number that is left everywhere to the next.

    Args:
        steps: only ever the first so many.
        forced: steps that go in any case, for the blocks to be alike.
    """

    steps: Sequence[Together]
    forced: int = 0

    def after(self, steps: int) -> tuple[int, float]:
        """What is removed by the first so many: parameters, and the loss."""
        some = self.steps[:steps]
        return sum(step.cost for step in some), sum(step.loss for step in some)


def levels(choice: Choice, multiple: int) -> list[int]:
    """The numbers of units that may be left of a width, all but all of them, falling: their
    features are a multiple of `multiple`."""
    step = multiple // gcd(multiple, choice.features)
    return list(range((choice.units - 1) // step * step, 0, -step))


def apart(found: Sequence[Choice], multiple: int = 1) -> list[Together]:
    """What may go: in each width of each block its own units, least worth first."""
    return [
        Together.of(found, {i: units})
        for i, choice in enumerate(found)
        for units in _between(choice, levels(choice, multiple))
    ]


def alike(
    found: Sequence[Choice], multiple: int = 1, allowed: Callable[[str, int], bool] | None = None
) -> list[Ladder]:
    """What may go so that all blocks keep equally many units of a width, each its own; nothing, if
    blocks differ and may not be made alike.

    Args:
        allowed: whether so many units of a width may be left.
    """
    ladders = []
    for name in dict.fromkeys(c.name for c in found):
        same = {i: c for i, c in enumerate(found) if c.name == name}
        narrow = min(same.values(), key=lambda c: c.units)
        uneven = any(c.units != narrow.units for c in same.values())
        left = [narrow.units] * uneven + levels(narrow, multiple)
        left = [n for n in left if allowed is None or allowed(name, n)]
        if uneven and not left:
            return []
        parts = {i: _between(c, left) for i, c in same.items()}
        rungs = [Together.of(found, {i: parts[i][at] for i in parts}) for at in range(len(left))]
        ladders.append(Ladder(rungs, int(uneven)))
    return ladders


def cheapest(found: Sequence[Choice], target: float, ladders: Sequence[Ladder]) -> Drops:
    """The way down the ladders that fills the share at the least loss. Each of the steps is large,
    so that going for the next best one would often end beside it.

    Raises:
        ConfigError: if less or more can go at most or at least.
    """
    total = sum(c.cost * c.units for c in found)
    budget = round(target * total)
    _check_removable(target, sum(s.cost for ladder in ladders for s in ladder.steps), total)
    forced = sum(ladder.after(ladder.forced)[0] for ladder in ladders)
    if forced > budget:
        raise ConfigError(
            f"target_sparsity is {target}, but the source's widths differ from block to block, and "
            f"to make them alike {forced / total:.4f} must go. Choose at least that."
        )
    *coarse, fine = sorted(ladders, key=lambda ladder: len(ladder.steps))
    costs = [0, *accumulate(step.cost for step in fine.steps)]
    losses = [0.0, *accumulate(step.loss for step in fine.steps)]
    best, way = (inf, inf), [ladder.forced for ladder in (*coarse, fine)]
    for taken in product(*(range(x.forced, len(x.steps) + 1) for x in coarse)):
        gone = [ladder.after(steps) for ladder, steps in zip(coarse, taken, strict=True)]
        left = budget - sum(cost for cost, _ in gone)
        steps = bisect_right(costs, left) - 1
        if steps < fine.forced:
            continue
        # less than a step of the finest is missing, or it ended and all that is left is
        missing = 0 if steps < len(fine.steps) else left - costs[-1]
        worth = (missing, losses[steps] + sum(loss for _, loss in gone))
        if worth < best:
            best, way = worth, [*taken, steps]
    drops: Drops = [[] for _ in found]
    for ladder, steps in zip((*coarse, fine), way, strict=True):
        for step in ladder.steps[:steps]:
            for i, units in step.units.items():
                drops[i] += units
    return drops


def _between(choice: Choice, left: Sequence[int]) -> list[list[int]]:
    """The units that go from one number that is left to the next, least worth first."""
    order = choice.scores.argsort(stable=True).tolist()
    gone = [0, *(choice.units - n for n in left)]
    return [order[a:b] for a, b in pairwise(gone)]


def everywhere(
    found: Sequence[Choice], target: float, steps: Sequence[Together] | None = None
) -> Drops:
    """The least important anywhere first, as long as they fit into the share.

    Args:
        steps: what goes together; None is every unit by itself.
    Raises:
        ConfigError: if more than what may go at most would have to.
    """
    steps = apart(found) if steps is None else steps
    total = sum(c.cost * c.units for c in found)
    budget = round(target * total)
    _check_removable(target, sum(step.cost for step in steps), total)
    drops: Drops = [[] for _ in found]
    full: set[tuple[int, ...]] = set()  # where the next step was too large: none leaps over it
    for step in sorted(steps, key=lambda step: step.score):
        if step.cost > budget or (place := tuple(step.units)) in full:
            full.add(tuple(step.units))
            continue
        budget -= step.cost
        for i in place:
            drops[i] += step.units[i]
    return drops


def in_each(found: Sequence[Choice], target: float, multiple: int = 1) -> Drops:
    """The least important of each width, the same share of all, rounded down to whole units.

    Raises:
        ConfigError: if a width would lose all of its units.
    """
    least = min(found, key=lambda c: c.units)
    if (reachable := 1 - 1 / least.units) < target:
        raise ConfigError(
            f"target_sparsity is {target}, but {least} has {least.units} units and one must stay: "
            f"the largest reachable share with scope layer is {_below(reachable)}. "
            "Choose less, or scope global."
        )
    drops = []
    for choice in found:
        # a share like 0.29 of 100 units is 28.999999999999996 in floating point, and means 29
        least_left = choice.units - int(target * choice.units + 1e-6)
        left = [n for n in levels(choice, multiple) if n >= least_left]
        drops.append([unit for units in _between(choice, left) for unit in units])
    return drops


def _check_removable(target: float, removable: int, total: int) -> None:
    if round(target * total) > removable:
        raise ConfigError(
            f"target_sparsity is {target}, but one unit of every width must stay (to remove whole "
            "blocks use truncate): the largest reachable share is "
            f"{_reaching(removable, total)}."
        )


def _reaching(removable: int, total: int) -> float:
    """As few digits as mean this very share, so that the share shown is one that reaches it: a
    little less would leave a whole head more."""
    shares = (int(removable / total * 10**digits) / 10**digits for digits in range(4, 16))
    return next((s for s in shares if round(s * total) == removable), removable / total)


def _below(share: float) -> float:
    """Four digits, rounded down, so that the share shown is one that works."""
    return int(share * 1e4) / 1e4
