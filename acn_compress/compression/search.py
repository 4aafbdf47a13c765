"""What stays of every block under a budget: what the loss rises by without the rest, against what
keeping it costs in milliseconds or parameters.

Both add up over blocks (ZipLM, arXiv 2302.04089), so that the best choice for every budget at once
is a knapsack over the blocks, solved by dynamic programming over a price cut into `STEPS`. What
whole blocks are worth does not add up: which of them are gone is given, and the others keep some
units of each width.
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


Worth = Mapping[str, Array]
"""Of one block, by width [units + 1]: what the loss rises by with so many units kept, those that
are missed least gone."""


class Plan(NamedTuple):
    """What stays.

    Args:
        blocks: of every block the units it keeps; None where it goes.
        price: of all that stays, and of what lies outside the blocks.
        loss: what the loss is foreseen to rise by.
        int8: what stays is quantized.
    """

    blocks: tuple[Kept | None, ...]
    price: float
    loss: float
    int8: bool = False


class Option(NamedTuple):
    """What one block may keep; see `Plan`."""

    kept: Kept | None
    price: float
    loss: float


GONE = Option(None, 0.0, 0.0)


def options(worth: Sequence[Worth], price: Price) -> list[list[Option]]:
    """Of every block, the whole of it first. No option is dearer and worse than another.

    Args:
        price: (block, units of its widths) -> what keeping them costs.
    """
    return [_undominated(_thinner(i, units, price)) for i, units in enumerate(worth)]


@dataclass(frozen=True)
class Search:
    """The best plan for every budget.

    Args:
        options: of every block.
        outside: what is paid whatever stays.
        gone: blocks that go as a whole,
        rise: and what the loss rises by without them.
        int8: of what prices are.
    """

    options: Sequence[Sequence[Option]]
    outside: float
    gone: frozenset[int] = frozenset()
    rise: float = 0.0
    int8: bool = False

    @property
    def most(self) -> float:
        """Price of the dearest plan."""
        return self.outside + sum(options[0].price for options in self._left)

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
        found: list[Option] = []
        for options, choice in zip(reversed(self._left), reversed(chosen), strict=True):
            found.append(options[choice[at]])
            at -= self._steps(found[-1].price)
        found.reverse()
        price = self.outside + sum(o.price for o in found)
        loss = self.rise + sum(o.loss for o in found)
        return Plan(tuple(o.kept for o in found), price, loss, self.int8)

    @cached_property
    def _left(self) -> list[Sequence[Option]]:
        return [(GONE,) if i in self.gone else options for i, options in enumerate(self.options)]

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
        for options in self._left:
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


def _thinner(block: int, worth: Worth, price: Price) -> list[Option]:
    """With some units of every width."""
    levels = [_levels(len(rises) - 1) for rises in worth.values()]
    made = (dict(zip(worth, numbers, strict=True)) for numbers in product(*levels))
    return [
        Option(kept, price(block, kept), sum(float(worth[w][n]) for w, n in kept.items()))
        for kept in made
    ]


def _levels(units: int) -> list[int]:
    """Numbers of units to look at: all, or evenly spread ones; never none."""
    return sorted({round(n) for n in np.linspace(1, units, min(units, LEVELS))}, reverse=True)


def _undominated(options: list[Option]) -> list[Option]:
    """Those that no other is at most as dear and as bad as, the dearest first."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.price, o.loss)):
        if not kept or option.loss < kept[-1].loss:
            kept.append(option)
    return kept[::-1]
