"""The frontier of a trained network: what can be made of it at which price, each candidate measured
without training on rows held out for that, and which of them keeps within the user's limits.

At every price there are two candidates: one that may lose whole blocks beside heads and features,
and one whose blocks all stay. Which is better depends on the network and is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from acn_compress.compression.calibration import FEW
from acn_compress.compression.candidates import Candidates
from acn_compress.compression.search import Kept, Plan, Search, options
from acn_compress.data.load import Data
from acn_compress.events import Progress, Stage
from acn_compress.measure.candidate import Point
from acn_compress.measure.latency import LatencyTable
from acn_compress.measure.quality import Drop, Scores, measure, paired, summary
from acn_compress.network import widths
from acn_compress.options import Bound

# of time in a price, the rest being size; where both are limited
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
SHARES = (0.85, 0.7, 0.55, 0.42, 0.3, 0.2)  # of the price of the whole network
HALVINGS = 2  # of the gap between the last candidate that keeps a drop and the first that does not


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
        return self.max_drop is None or drop.within(self.max_drop, self.bound)

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
        by_time: what is cheap is fast; otherwise small.
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
    _made: dict[float, list[Search]] = field(default_factory=dict)

    def explore(self) -> None:
        """Measure candidates over the whole range of prices."""
        for share in SHARES:
            if (budget := share * self.most) >= self.least:
                self.at(budget)

    def at(self, budget: float) -> Point:
        """The better candidate of a price, measured.

        Raises:
            ConfigError: if nothing is as cheap.
        """
        return self.best(self._plans(self._main, budget))

    def best(self, plans: Iterable[Plan]) -> Point:
        """The plan whose loss on the rows that decide is least."""
        return min(map(self._measured, plans), key=lambda point: point.quality.loss)

    def fitting(self, limits: Limits) -> list[Plan]:
        """The plans within the limits of time and size whose loss is foreseen to rise least: one
        that may lose blocks and one that keeps all, as far as there are such."""
        both = limits.milliseconds is not None and limits.parameters is not None
        mixes = MIXES if both else (self._main,)
        found = [
            (search, plan)
            for mix in mixes
            for search in self._searches(mix)
            if (plan := self._largest(search, limits)) is not None
        ]
        return _best(found)

    def _largest(self, search: Search, limits: Limits) -> Plan | None:
        """The plan of the largest price that keeps time and size; None if there is none."""
        low, high = search.least, search.most
        if not self._fits(search.within(low), limits):
            return None
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (
                (middle, high) if self._fits(search.within(middle), limits) else (low, middle)
            )
        return search.within(low)

    def _fits(self, plan: Plan, limits: Limits) -> bool:
        return (
            limits.milliseconds is None or self.milliseconds(plan.blocks) <= limits.milliseconds
        ) and (
            limits.parameters is None
            or self.candidates.parameters(plan.blocks) <= limits.parameters
        )

    def cheapest(self, limits: Limits) -> Point | None:
        """Of what was measured the cheapest that keeps the drop, once the gap to the next cheaper
        was halved; None where none does."""
        for _ in range(HALVINGS):
            keeping = [self.cost(p) for p in self.points if limits.keeps_drop(p.drop)]
            high = min(keeping, default=self.most)
            low = max((c for p in self.points if (c := self.cost(p)) < high), default=self.least)
            if high - low > 0.02 * self.most:
                self.at((low + high) / 2)
        keeping_ = [p for p in self.points if limits.keeps_drop(p.drop)]
        return min(keeping_, key=self.cost, default=None)

    def cost(self, point: Point) -> float:
        """Of a candidate, in what the search counts."""
        whole = self.milliseconds(widths.counts(self.candidates.net))
        if self.by_time:
            return point.milliseconds / whole
        return point.parameters / self.candidates.net.parameters

    def smallest(self) -> tuple[Kept | None, ...]:
        """What stays of the cheapest candidate."""
        search = min(self._searches(self._main), key=lambda search: search.least)
        return search.within(search.least).blocks

    @property
    def most(self) -> float:
        """Price of the whole network, which is 1 but for rounding."""
        return self._searches(self._main)[0].most

    @property
    def least(self) -> float:
        """Price of the cheapest candidate."""
        return min(search.least for search in self._searches(self._main))

    @property
    def _main(self) -> float:
        return 1.0 if self.by_time else 0.0

    def plain(self) -> dict[str, object]:
        """As JSON: the table, and all that was measured."""
        return {"table": self.table.plain(), "points": [point.plain() for point in self.points]}

    def front(self) -> list[Point]:
        """The points that no other is at most as dear and at least as good as, the dearest
        first."""
        best: list[Point] = []
        for point in sorted(self.points, key=lambda p: (self.cost(p), p.quality.loss)):
            if not best or point.quality.loss < best[-1].quality.loss:
                best.append(point)
        return best[::-1]

    def _plans(self, mix: float, budget: float) -> list[Plan]:
        """Of a price, with and without all blocks."""
        able = [search for search in self._searches(mix) if search.least <= budget]
        return _best([(search, search.within(budget)) for search in able])

    def milliseconds(self, blocks: Sequence[Kept | None]) -> float:
        """Of a call, as the table foresees it."""
        return self.table.milliseconds([block for block in blocks if block is not None])

    def _searches(self, mix: float) -> list[Search]:
        """For a price that is time to a share `mix` and size otherwise, each as a share of the
        whole network's: with all blocks, and with more and more of them gone."""
        if mix in self._made:
            return self._made[mix]
        table, parameters = self.table, self.candidates.size
        time = mix / self.milliseconds(widths.counts(self.candidates.net))
        size = (1 - mix) / self.candidates.net.parameters

        def price(block: int, kept: Mapping[str, int]) -> float:
            return time * table.block(kept) + size * parameters(block, kept)

        outside = time * table.outside + size * parameters.outside
        able, gone = options(self.candidates.worth(), price), self.candidates.gone
        self._made[mix] = [Search(able, outside)] + [
            Search(able, outside, frozenset(block for block, _ in gone[:n]), gone[n - 1][1])
            for n in range(1, len(gone) + 1)
        ]
        return self._made[mix]

    def _measured(self, plan: Plan) -> Point:
        if (known := next((p for p in self.points if p.blocks == plan.blocks), None)) is not None:
            return known
        scores = measure(self.candidates.make(plan.blocks, FEW), self.data)
        point = Point(
            blocks=plan.blocks,
            milliseconds=self.milliseconds(plan.blocks),
            parameters=self.candidates.parameters(plan.blocks),
            foreseen=plan.loss,
            quality=summary(scores, self.data.task),
            drop=paired(scores, self.whole),
        )
        self.points.append(point)
        self.keep(self.points)
        if self.progress is not None:
            self.progress(Stage(text=f"candidate {len(self.points)}: {point}"))
        return point


def _best(found: Sequence[tuple[Search, Plan]]) -> list[Plan]:
    """Of plans without some blocks the one that is foreseen to lose least, and of those with
    all."""
    best: list[Plan] = []
    for shallow in (True, False):
        plans = [plan for search, plan in found if bool(search.gone) == shallow]
        best += [min(plans, key=lambda plan: plan.loss)] if plans else []
    return best
