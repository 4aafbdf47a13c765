"""What stays of every block under a budget: what the loss rises by without the rest, against what
keeping it costs in milliseconds or parameters.

Both add up over blocks (ZipLM, arXiv 2302.04089), so that the best choice for every budget at once
is a knapsack over the blocks, solved by dynamic programming over a price cut into `STEPS`. A block
keeps some units of each of its widths, or goes as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from acn_compress.errors import ConfigError

STEPS = 4000  # that the price of all blocks is cut into
LEVELS = 48  # numbers of units of a width that are looked at, at most

Array = np.ndarray[Any, np.dtype[np.float64]]
Choices = np.ndarray[Any, np.dtype[np.int64]]
Kept = dict[str, int]  # units of every width
Price = Callable[[int, Mapping[str, int]], float]


@dataclass(frozen=True)
class Worth:
    """What the loss rises by without parts of one block.

    Args:
        units: by width [units + 1]: with so many units kept, those that are missed least gone.
        whole: without the block; None where it has to stay.
    """

    units: Mapping[str, Array]
    whole: float | None


class Plan(NamedTuple):
    """What stays.

    Args:
        blocks: of every block the units it keeps; None where it goes.
        price: of all that stays, and of what lies outside the blocks.
        loss: what the loss is foreseen to rise by.
    """

    blocks: tuple[Kept | None, ...]
    price: float
    loss: float


class _Option(NamedTuple):
    """What one block may keep; see `Plan`."""

    kept: Kept | None
    price: float
    loss: float


@dataclass(frozen=True)
class Search:
    """The best plan for every budget.

    Args:
        worth: of every block.
        price: (block, units of its widths) -> what keeping them costs.
        outside: what is paid whatever stays.
    """

    worth: Sequence[Worth]
    price: Price
    outside: float

    @property
    def most(self) -> float:
        """Price of the whole network."""
        return self.outside + sum(self.price(i, _all(w)) for i, w in enumerate(self.worth))

    @property
    def least(self) -> float:
        """Price of the cheapest plan."""
        best, _ = self._solved
        return self.outside + self._step * int(np.argmax(np.isfinite(best)))

    def within(self, budget: float) -> Plan:
        """The plan whose loss rises least among those that cost at most the budget.

        Raises:
            ConfigError: if there is none.
        """
        best, chosen = self._solved
        at = min(round((budget - self.outside) / self._step), STEPS)
        if at < 0 or not np.isfinite(best[at]):
            raise ConfigError(
                f"no plan costs as little as {budget:.4g}: the cheapest costs {self.least:.4g} "
                f"and the whole network {self.most:.4g}."
            )
        found: list[_Option] = []
        for options, choice in zip(reversed(self._options), reversed(chosen), strict=True):
            found.append(options[choice[at]])
            at -= self._steps(found[-1].price)
        found.reverse()
        price = self.outside + sum(o.price for o in found)
        return Plan(tuple(o.kept for o in found), price, sum(o.loss for o in found))

    @cached_property
    def _options(self) -> list[list[_Option]]:
        """Of every block, the whole of it first. No option is dearer and worse than another."""
        stays = max(range(len(self.worth)), key=lambda i: self._missed(i))
        return [
            _undominated([*self._thinner(i), *self._without(i, stays)])
            for i in range(len(self.worth))
        ]

    def _missed(self, block: int) -> float:
        whole = self.worth[block].whole
        return np.inf if whole is None else whole

    def _thinner(self, block: int) -> list[_Option]:
        units = self.worth[block].units
        levels = [_levels(len(rises) - 1) for rises in units.values()]
        made = (dict(zip(units, numbers, strict=True)) for numbers in product(*levels))
        return [
            _Option(kept, self.price(block, kept), sum(float(units[w][n]) for w, n in kept.items()))
            for kept in made
        ]

    def _without(self, block: int, stays: int) -> list[_Option]:
        """One block stays at least: the one that is missed most."""
        whole = self.worth[block].whole
        return [] if whole is None or block == stays else [_Option(None, 0.0, whole)]

    @property
    def _step(self) -> float:
        return (self.most - self.outside) / STEPS

    def _steps(self, price: float) -> int:
        """To the nearest, so that a plan misses its budget by less than half a step per block."""
        return round(price / self._step)

    @cached_property
    def _solved(self) -> tuple[Array, list[Choices]]:
        """Of every budget the least rise, and per block which option gives it."""
        best, chosen = np.zeros(STEPS + 1), list[Choices]()
        for options in self._options:
            now = np.full(STEPS + 1, np.inf)
            choice = np.zeros(STEPS + 1, np.int64)
            for number, option in enumerate(options):
                if (taken := self._steps(option.price)) > STEPS:
                    continue
                rise = best[: STEPS + 1 - taken] + option.loss
                better = rise < now[taken:]
                now[taken:][better], choice[taken:][better] = rise[better], number
            best = now
            chosen.append(choice)
        return best, chosen


def _all(worth: Worth) -> Kept:
    """All units."""
    return {width: len(rises) - 1 for width, rises in worth.units.items()}


def _levels(units: int) -> list[int]:
    """Numbers of units to look at: all, or evenly spread ones; never none."""
    return sorted({round(n) for n in np.linspace(1, units, min(units, LEVELS))}, reverse=True)


def _undominated(options: list[_Option]) -> list[_Option]:
    """Those that no other is at most as dear and as bad as, the dearest first."""
    kept: list[_Option] = []
    for option in sorted(options, key=lambda o: (o.price, o.loss)):
        if not kept or option.loss < kept[-1].loss:
            kept.append(option)
    return kept[::-1]
