"""Which units go: their scores are ranked across all widths of the network, or within each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from acn_compress.architectures import Width
from acn_compress.compression.prune.scores import Units
from acn_compress.errors import ConfigError
from acn_compress.network import widths
from acn_compress.network.network import Network
from acn_compress.options import Scope


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


def everywhere(found: Sequence[Choice], target: float) -> Drops:
    """The least important anywhere first, as long as they fit into the share.

    Raises:
        ConfigError: if more than all units but one of each width would have to go.
    """
    total = sum(c.cost * c.units for c in found)
    removable = sum(c.cost * (c.units - 1) for c in found)
    budget = round(target * total)
    if budget > removable:
        raise ConfigError(
            f"target_sparsity is {target}, but one unit of every width must stay (to remove whole "
            "blocks use truncate): the largest reachable share is "
            f"{_reaching(removable, total)}."
        )
    order = sorted(
        (float(score), i, unit) for i, c in enumerate(found) for unit, score in enumerate(c.scores)
    )
    drops: Drops = [[] for _ in found]
    for _, i, unit in order:
        if found[i].cost <= budget and len(drops[i]) < found[i].units - 1:
            drops[i].append(unit)
            budget -= found[i].cost
    return drops


def in_each(found: Sequence[Choice], target: float) -> Drops:
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
    # a share like 0.29 of 100 units is 28.999999999999996 in floating point, and means 29
    return [c.scores.argsort(stable=True)[: int(target * c.units + 1e-6)].tolist() for c in found]


def _reaching(removable: int, total: int) -> float:
    """As few digits as mean this very share, so that the share shown is one that reaches it: a
    little less would leave a whole head more."""
    shares = (int(removable / total * 10**digits) / 10**digits for digits in range(4, 16))
    return next((s for s in shares if round(s * total) == removable), removable / total)


def _below(share: float) -> float:
    """Four digits, rounded down, so that the share shown is one that works."""
    return int(share * 1e4) / 1e4


RANKINGS: dict[Scope, Callable[[Sequence[Choice], float], Drops]] = {
    "global": everywhere,
    "layer": in_each,
}
