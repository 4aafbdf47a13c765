"""The frontier of a trained network: what can be made of it at which price, each candidate measured
without training on rows held out for that, and which of them keeps within the user's limits.

At every price there are two candidates: one that may lose whole blocks beside heads and features,
and one whose blocks all stay. Which is better depends on the network and is measured. Where int8
takes part, the better of the two that cost as much in int8 is measured there too: it has more heads
and features left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from acn_compress.compression.calibration import FEW
from acn_compress.compression.candidates import Candidates
from acn_compress.compression.search import Kept, Plan, Search, options
from acn_compress.data.load import Data
from acn_compress.events import Progress, Stage
from acn_compress.measure.candidate import Point
from acn_compress.measure.latency import LatencyTable
from acn_compress.measure.quality import Scores, measure, paired, summary
from acn_compress.network import widths
from acn_compress.network.network import Network
from acn_compress.options import Bound
from acn_compress.quality import Drop

# of time in a price, the rest being size; where both are limited
MIXES = (0.0, 0.25, 0.5, 0.75, 1.0)
SHARES = (0.85, 0.7, 0.55, 0.42, 0.3, 0.2)  # of the price of the whole network
NAMES = (("table", False), ("int8_table", True))
ALIKE = 0.02  # of the price of the whole network: between prices that are hardly different
HALVINGS = 2  # of the gap between the last candidate that keeps a drop and the first that does not


@dataclass(frozen=True)
class Limits:
    """What a candidate has to keep within; None is no limit.

    Args:
        max_drop: below the network that drops are from, in the metric's own units,
        bound: and what of the drop must be: the upper end of its interval, or itself.
        milliseconds: of a call.
        parameters: of the network.
        bytes: of its weights on disk.
    """

    max_drop: float | None = None
    bound: Bound = "upper"
    milliseconds: float | None = None
    parameters: float | None = None
    bytes: float | None = None

    def keeps_drop(self, drop: Drop) -> bool:
        """Whether a drop is small enough."""
        return self.max_drop is None or drop.within(self.max_drop, self.bound)

    @property
    def only_drop(self) -> bool:
        """Whether nothing but the drop is limited: the fastest that keeps it is wanted."""
        return self.milliseconds is None and not self.by_size

    @property
    def by_size(self) -> bool:
        """Whether size is limited."""
        return self.parameters is not None or self.bytes is not None


@dataclass
class Frontier:
    """All that was measured of a network's candidates.

    Args:
        candidates: what can be made.
        tables: milliseconds of its parts; of int8 (True) too, where it takes part.
        by_time: what is cheap is fast; otherwise small.
        data: rows that decide.
        reference: what drops are from on them: the whole network, or the original.
        quantized: measures a network in int8 on those rows.
        points: measured so far.
        keep: called with every point that is new.
    """

    candidates: Candidates
    tables: Mapping[bool, LatencyTable]
    by_time: bool
    data: Data
    reference: Scores
    quantized: Callable[[Network], Scores]
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

    def best(self, plans: Sequence[Plan]) -> Point:
        """The plan whose loss on the rows that decide is least."""
        float_, int8 = [p for p in plans if not p.int8], [p for p in plans if p.int8]
        points = [self._measured(plan) for plan in float_]
        if int8:  # exporting takes longer than measuring: only the better one
            better = min(int8, key=lambda p: self._measured(p._replace(int8=False)).quality.loss)
            points.append(self._measured(better))
        return min(points, key=lambda point: point.quality.loss)

    def within(self, limits: Limits) -> Point:
        """The best candidate within the limits of time and size: of the plans that use them up, and
        of all that was measured, as a cheaper one may be better."""
        best = self.best(self.fitting(limits))
        others = [point for point in self.points if self._fits(point, limits)]
        return min([best, *others], key=lambda point: point.quality.loss)

    def fitting(self, limits: Limits) -> list[Plan]:
        """The plans within the limits of time and size whose loss is foreseen to rise least: one
        that may lose blocks and one that keeps all, as far as there are such."""
        both = limits.milliseconds is not None and limits.by_size
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

    def _fits(self, plan: Plan | Point, limits: Limits) -> bool:
        parameters = self.candidates.parameters(plan.blocks)
        found = (
            (limits.milliseconds, self.milliseconds(plan)),
            (limits.parameters, parameters),
            (limits.bytes, parameters * self.width(plan.int8)),
        )
        return all(limit is None or value <= limit for limit, value in found)

    def keeping(self, limits: Limits) -> list[Point]:
        """What was measured and keeps the drop, the cheapest first, once the gap from that to the
        next cheaper was halved. One that is dearer is among them if its loss, which scatters less
        than the metric, is lower than that of all that is cheaper in its precision, whether that
        keeps the drop or not: of many that are tried one would keep it by chance."""
        apart = ALIKE * self.most  # the two candidates of a price cost nearly the same
        for _ in range(HALVINGS):
            keeping = (self.cost(p) for p in self.points if limits.keeps_drop(p.drop))
            high = min(keeping, default=self.most)
            cheaper = [c for p in self.points if (c := self.cost(p)) < high - apart]
            low = max(cheaper, default=self.least)
            if high - low > apart:
                self.at((low + high) / 2)
        found, best = list[Point](), {False: math.inf, True: math.inf}
        for point in sorted(self.points, key=self.cost):
            better = point.quality.loss < best[point.int8]
            if limits.keeps_drop(point.drop) and (better or not found):
                found.append(point)
            best[point.int8] = min(best[point.int8], point.quality.loss)
        return found

    def cost(self, point: Point) -> float:
        """Of a candidate, in what the search counts."""
        if self.by_time:
            return point.milliseconds / self.slowest
        share = point.parameters / self.candidates.net.parameters
        return share * self.width(point.int8) / self.width()

    def smallest(self) -> Plan:
        """The cheapest candidate."""
        search = min(self._searches(self._main), key=lambda search: search.least)
        return search.within(search.least)

    @property
    def slowest(self) -> float:
        """Milliseconds of the whole network, as the table has it."""
        return self.tables[False].milliseconds(widths.counts(self.candidates.net))

    def width(self, int8: bool = False) -> float:
        """Bytes of a parameter on disk; of the files of the whole network, where it is in int8."""
        size = self.candidates.net.dtype.itemsize
        return size * self.tables[int8].bytes / self.tables[False].bytes if int8 else size

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
        tables = {name: self.tables[int8].plain() for name, int8 in NAMES if int8 in self.tables}
        return {**tables, "points": [point.plain() for point in self.points]}

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

    def milliseconds(self, plan: Plan | Point) -> float:
        """Of a call, as the table foresees it."""
        return self.foreseen(plan.blocks, plan.int8)

    def foreseen(self, blocks: Sequence[Kept | None], int8: bool = False) -> float:
        """Likewise, of blocks that keep so many units."""
        kept = [block for block in blocks if block is not None]
        return self.tables[int8].milliseconds(kept)

    def _searches(self, mix: float) -> list[Search]:
        """For a price that is time to a share `mix` and size otherwise, each as a share of the
        whole network's: with all blocks, and with more and more of them gone."""
        if mix not in self._made:
            self._made[mix] = [s for int8 in self.tables for s in self._searches_in(int8, mix)]
        return self._made[mix]

    def _searches_in(self, int8: bool, mix: float) -> list[Search]:
        table, parameters = self.tables[int8], self.candidates.size
        time = mix / self.slowest
        size = (1 - mix) / self.candidates.net.parameters * self.width(int8) / self.width()

        def price(block: int, kept: Mapping[str, int]) -> float:
            return time * table.block(kept) + size * parameters(block, kept)

        outside = time * table.outside + size * parameters.outside
        able, gone = options(self.candidates.worth(), price), self.candidates.gone
        return [Search(able, outside, int8=int8)] + [
            Search(able, outside, frozenset(block for block, _ in gone[:n]), gone[n - 1][1], int8)
            for n in range(1, len(gone) + 1)
        ]

    def _measured(self, plan: Plan) -> Point:
        for known in self.points:
            if (known.blocks, known.int8) == (plan.blocks, plan.int8):
                return known
        made = self.candidates.make(plan.blocks, FEW)
        scores = self.quantized(made) if plan.int8 else measure(made, self.data)
        point = Point(
            blocks=plan.blocks,
            int8=plan.int8,
            milliseconds=self.milliseconds(plan),
            parameters=self.candidates.parameters(plan.blocks),
            foreseen=plan.loss,
            quality=summary(scores, self.data.task),
            drop=paired(scores, self.reference),
        )
        self.points.append(point)
        self.keep(self.points)
        if self.progress is not None:
            self.progress(Stage(text=f"candidate {len(self.points)}: {point}"))
        return point


def _best(found: Sequence[tuple[Search, Plan]]) -> list[Plan]:
    """Of plans without some blocks the one that is foreseen to lose least, and of those with all;
    in float and in int8."""
    kinds: dict[tuple[bool, bool], list[Plan]] = {}
    for search, plan in found:
        kinds.setdefault((search.int8, not search.gone), []).append(plan)
    return [min(plans, key=lambda plan: plan.loss) for plans in kinds.values()]
