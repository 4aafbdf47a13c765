"""The frontier of a trained network: what can be made of it at which price, each candidate measured
without training on rows held out for that, and which of them keeps within the user's limits.

At every price there are two candidates: one that may lose whole blocks beside heads and features,
and one whose blocks all stay. Which is better depends on the network and is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from acn_compress.compression.calibration import FEW
from acn_compress.compression.candidates import Candidates, Parameters
from acn_compress.compression.search import Kept, Plan, Search
from acn_compress.data.load import Data
from acn_compress.events import Progress, Stage
from acn_compress.found import Found
from acn_compress.measure.latency import LatencyTable
from acn_compress.measure.quality import Drop, Quality, Scores, measure, paired, summary
from acn_compress.options import Bound

SHARES = (0.85, 0.7, 0.55, 0.42, 0.3, 0.2)  # of the price of the whole network
HALVINGS = 2  # of the gap between the last candidate that keeps a drop and the first that does not


class Point(Found):
    """One candidate, measured without training."""

    blocks: tuple[dict[str, int] | None, ...]
    """Of every block the units it keeps; null where it goes."""
    price: float
    """Foreseen, in what the search counts."""
    milliseconds: float
    """Foreseen by the latency table."""
    parameters: int
    foreseen: float
    """What the loss was foreseen to rise by, in nats per example."""
    quality: Quality
    """On the rows that decide."""
    drop: Drop
    """From the whole network, paired."""

    @property
    def depth(self) -> int:
        """Blocks that stay."""
        return sum(block is not None for block in self.blocks)


@dataclass(frozen=True)
class Limits:
    """What a candidate has to keep within; None is no limit.

    Args:
        max_drop: below the whole network, in the metric's own units,
        bound: and what of the drop must be: the upper end of its interval, or itself.
        milliseconds: of a call.
        parameters: of the network.
    """

    max_drop: float | None = None
    bound: Bound = "upper"
    milliseconds: float | None = None
    parameters: float | None = None

    def keeps_drop(self, drop: Drop) -> bool:
        """Whether a drop is small enough."""
        found = drop.high if self.bound == "upper" else drop.drop
        return self.max_drop is None or found <= self.max_drop

    @property
    def only_drop(self) -> bool:
        """Whether nothing but the drop is limited: the fastest that keeps it is wanted."""
        return self.milliseconds is None and self.parameters is None


@dataclass
class Frontier:
    """All that was measured of a network's candidates.

    Args:
        candidates: what can be made.
        table: milliseconds of its parts.
        by_time: the search counts milliseconds; otherwise parameters.
        data: rows that decide.
        whole: the whole network on them.
        points: measured so far.
        keep: called with every point that is new.
    """

    candidates: Candidates
    table: LatencyTable
    by_time: bool
    data: Data
    whole: Scores
    points: list[Point] = field(default_factory=list)
    keep: Callable[[list[Point]], None] = lambda points: None
    progress: Progress | None = None

    def explore(self) -> None:
        """Measure candidates over the whole range of prices."""
        for share in SHARES:
            if (budget := share * self.most) >= self.least:
                self.at(budget)

    def at(self, budget: float) -> Point:
        """The better candidate of a price, by the loss on the rows that decide.

        Raises:
            ConfigError: if nothing is as cheap.
        """
        found = [self._measured(plan) for plan in self._plans(budget)]
        return min(found, key=lambda point: point.quality.loss)

    def within(self, limits: Limits) -> Point | None:
        """The best candidate that keeps within all limits, as far as is known without training:
        of the largest price that time and size allow; where only the drop is limited, the cheapest
        that keeps it. None where no candidate does."""
        if limits.only_drop:
            return self._cheapest(limits)
        budget = self.affordable(limits)
        if budget is None:
            return None
        point = self.at(budget)
        return point if limits.keeps_drop(point.drop) else None

    def affordable(self, limits: Limits) -> float | None:
        """The largest price at which a candidate keeps time and size; None if there is none."""
        low, high = self.least, self.most
        if self._fits(high, limits):
            return high
        if not self._fits(low, limits):
            return None
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if self._fits(middle, limits) else (low, middle)
        return low

    def plan(self, budget: float) -> tuple[Kept | None, ...]:
        """What stays at a price: of all blocks something, if that is as cheap."""
        return list(self._plans(budget))[-1].blocks

    def smallest(self) -> tuple[Kept | None, ...]:
        """What stays of the cheapest candidate."""
        return self._searches[0].within(self.least).blocks

    @property
    def most(self) -> float:
        """Price of the whole network."""
        return self._searches[-1].most

    @property
    def least(self) -> float:
        """Price of the cheapest candidate."""
        return min(search.least for search in self._searches)

    def plain(self) -> dict[str, object]:
        """As JSON: the table, and all that was measured."""
        return {"table": self.table.plain(), "points": [point.plain() for point in self.points]}

    def front(self) -> list[Point]:
        """The points that no other is at most as dear and at least as good as, the dearest
        first."""
        best: list[Point] = []
        for point in sorted(self.points, key=lambda p: (p.price, p.quality.loss)):
            if not best or point.quality.loss < best[-1].quality.loss:
                best.append(point)
        return best[::-1]

    def _cheapest(self, limits: Limits) -> Point | None:
        """The cheapest that keeps the drop, with the gap to the next cheaper one halved."""
        for _ in range(HALVINGS):
            keeping = [p for p in self.points if limits.keeps_drop(p.drop)]
            high = min((p.price for p in keeping), default=self.most)
            low = max((p.price for p in self.points if p.price < high), default=self.least)
            if high - low > 0.02 * self.most:
                self.at((low + high) / 2)
        keeping = [p for p in self.points if limits.keeps_drop(p.drop)]
        return min(keeping, key=lambda p: p.price, default=None)

    def _fits(self, budget: float, limits: Limits) -> bool:
        return all(
            self.milliseconds(plan.blocks) <= (limits.milliseconds or np.inf)
            and self.candidates.parameters(plan.blocks) <= (limits.parameters or np.inf)
            for plan in self._plans(budget)
        )

    def _plans(self, budget: float) -> Iterator[Plan]:
        """Of a price, with and without all blocks; one where they are the same."""
        able = [search for search in self._searches if search.least <= budget]
        found = [search.within(budget) for search in able]
        yield from (p for i, p in enumerate(found) if p.blocks not in [q.blocks for q in found[:i]])

    def milliseconds(self, blocks: Sequence[Kept | None]) -> float:
        """Of a call, as the table foresees it."""
        return self.table.milliseconds([block for block in blocks if block is not None])

    @cached_property
    def _searches(self) -> list[Search]:
        if self.by_time:
            price, outside = (lambda i, kept: self.table.block(kept)), self.table.outside
        else:
            parameters = Parameters.of(self.candidates.net)
            price, outside = parameters, parameters.outside
        may_go = [True, False] if any(w is not None for w in self.candidates.without) else [False]
        return [Search(self.candidates.worth(blocks), price, outside) for blocks in may_go]

    def _measured(self, plan: Plan) -> Point:
        if (known := next((p for p in self.points if p.blocks == plan.blocks), None)) is not None:
            return known
        scores = measure(self.candidates.make(plan.blocks, FEW), self.data)
        point = Point(
            blocks=plan.blocks,
            price=plan.price,
            milliseconds=self.milliseconds(plan.blocks),
            parameters=self.candidates.parameters(plan.blocks),
            foreseen=plan.loss,
            quality=summary(scores, self.data.task),
            drop=paired(scores, self.whole),
        )
        self.points.append(point)
        self.keep(self.points)
        if self.progress is not None:
            self.progress(Stage(text=f"candidate {len(self.points)}: {told(point)}"))
        return point


def told(point: Point) -> str:
    """A point in a line."""
    blocks = len(point.blocks)
    return (
        f"{point.depth} of {blocks} blocks, {point.parameters:,} parameters, "
        f"{point.milliseconds:.2f} ms foreseen: {point.quality.metric} {point.quality.value:.4f}, "
        f"drop {point.drop}"
    )
