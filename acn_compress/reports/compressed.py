"""What compress reports: the verdict in a line, and the table behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from acn_compress import figures
from acn_compress.checkpoint.files import size
from acn_compress.events import duration
from acn_compress.figures import millions
from acn_compress.found import Found
from acn_compress.measure.candidate import Point
from acn_compress.measure.latency import LatencyTable
from acn_compress.measure.timing import SMALLEST
from acn_compress.onnx.layout import onnx_file
from acn_compress.onnx.write import OnnxFile
from acn_compress.quality import Drop, Quality, against
from acn_compress.reports import charts, html
from acn_compress.reports.base import few_lines, read_lines
from acn_compress.reports.blocks import Block, Grid, Line, Pairs, grid, kept
from acn_compress.reports.charts import Kind
from acn_compress.reports.made import Made
from acn_compress.reports.measured import busy_note, threads

MINE, INT8, FLOAT = "compressed", "its int8 file", "its float file"
DROPPED, ALONE = "drop to", "int8 alone"  # how names of the baseline begin


def amount(name: str, asked: float, found: float | None = None) -> str:
    """What was asked of a limit, for people, or what was found."""
    value = asked if found is None else found
    if name == "target_size":
        return size(value)
    if name == "target_params" and asked > 1:
        return f"{value:,.0f}"
    return f"{value:g}" if found is None else f"{value:.3g}"


class Limit(Found):
    """One of the user's limits, and what was found."""

    name: str
    asked: float
    found: float
    holds: bool
    low: float | None = None
    """Of a speed-up, its 95 % interval over the rounds in which it was timed."""
    high: float | None = None
    metric: str | None = None
    """Of a drop, what drops."""
    against: str | None = None
    """And what it is from."""
    of_original: bool = False
    """That is the original of the chain."""
    why_source: str | None = None
    """Why it is not, where it was wanted."""

    @classmethod
    def of(cls, name: str, asked: float, found: float, holds: bool, **than: Any) -> Limit:
        """From numbers, and of a drop what it is from."""
        return cls(name=name, asked=float(asked), found=float(found), holds=bool(holds), **than)

    def __str__(self) -> str:
        found = amount(self.name, self.asked, self.found)
        asked = amount(self.name, self.asked)
        if self.metric is not None:
            asked = figures.limit(self.asked, self.metric)
        text = f"asked {asked}, found {found}"
        if self.low is not None and self.high is not None:
            text += f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.name}: {text}" + (f", against {self.than}" if self.against else "")

    @property
    def told(self) -> str:
        """Whether it holds, in a line."""
        return f"{'holds' if self.holds else 'NOT HELD'}: {self}"

    @property
    def settled(self) -> bool:
        """Whether timing can tell what was found from what was asked."""
        if self.low is None or self.high is None:
            return True
        least = (1 - SMALLEST) * self.asked
        return self.low >= least or self.high < least

    @property
    def than(self) -> str:
        """What a drop is from, for a sentence."""
        name = self.against or ""
        return against(name, name if self.of_original else None, self.why_source)


class Row(Found):
    """One model on the rows that are reported, timed beside the others."""

    name: str
    depth: int
    parameters: int
    milliseconds: float
    """Per call."""
    speedup: dict[str, Any]
    """To the original: ratio, its 95 % interval, and a verdict."""
    quality: Quality
    drop: Drop | None
    """From the original, paired."""

    @property
    def is_baseline(self) -> bool:
        """Whether it is what one would do without this tool."""
        return self.name.startswith((DROPPED, ALONE))

    @property
    def faster(self) -> float:
        """How often it runs while the original runs once: the one figure of its speed that is
        said."""
        return float(self.speedup["ratio"])


def _kind(number: int, row: Row) -> Kind:
    """What a row is drawn as."""
    return "original" if number == 0 else "baseline" if row.is_baseline else "mine"


class Compressed(Made):
    """What compress reports."""

    follow: ClassVar[str] = "acn-compress evaluate {out} --data {data}"
    decided_on: str
    """Rows on which candidates were compared; those of the table are others."""
    limits: tuple[Limit, ...]
    untrained_drop: Drop | None = None
    """Of what came out, before its training, on the rows that decide."""
    harmed: bool = False
    """Its training did harm on those, so what came out is untrained."""
    baseline_harmed: bool = False
    """That of the plain baseline did, so that is untrained."""
    rows: tuple[Row, ...]
    """The original, what came out, its file in the other precision, and the plain baseline."""
    table: LatencyTable
    int8_table: LatencyTable | None = None
    """Of int8, where it took part in the search."""
    scale: float | None = None
    """What foreseen times were multiplied by after some were measured, where time is limited."""
    calmest: float | None = None
    """Milliseconds of the original in the calmest moment in which candidates were timed, where
    milliseconds are limited."""
    busy: float
    frontier: tuple[Point, ...]
    """All candidates that were measured."""
    front: tuple[Point, ...]
    """Those that no other is at most as dear and as good as."""
    chosen: Point
    parameters_before: int
    onnx: OnnxFile
    delivered: str
    """The file that the limits are about, within the directory."""
    int8: str | None = None
    """What came of the int8 file, where one was asked for."""
    machine: dict[str, str] | None = None
    seconds: float

    @property
    def held(self) -> bool:
        """Whether every limit holds."""
        return all(limit.holds for limit in self.limits)

    def complaint(self) -> str | None:
        """Which limits do not hold."""
        missed = [str(limit) for limit in self.limits if not limit.holds]
        if not missed:
            return None
        moved = self._moved()
        return (
            f"not reached on the rows that are reported: {'; '.join(missed)}. "
            + (f"{moved} " if moved else "")
            + f"{self.out} has the best that was found. Ask for less, or give it (more) --epochs."
        )

    def warning(self) -> str | None:
        """What was not measured, or a speed that was and cannot be told from what was asked."""
        unsure = [str(limit) for limit in self.limits if limit.holds and not limit.settled]
        if not unsure:
            return super().warning()
        return (
            f"{'; '.join(unsure)}: other work disturbed the timing so much that it may be less. "
            f"Time it again when the machine is quiet: acn-compress benchmark {self.source} "
            f"{self.out}"
        )

    def _moved(self) -> str:
        """What is to be said where the machine got faster or slower between choosing and the last
        timing, and milliseconds are limited."""
        now, then = self.rows[0].milliseconds, self.calmest
        if then is None or abs(now / then - 1) <= SMALLEST:
            return ""
        than = "busier" if now > then else "calmer"
        return (
            f"The machine is {than} than while candidates were chosen: the original took "
            f"{then:.3g} ms then, {now:.3g} now."
        )

    def brief(self) -> str:
        """The verdict, with the rows that it is on."""
        blocks = kept(self.structure.blocks, self.structure.source_blocks)
        n = self.rows[0].quality.examples
        return f"blocks {blocks}; {self.verdict()} n = {n:,} rows that did not decide."

    @property
    def baseline(self) -> Row | None:
        """The last blocks dropped, or int8 alone; None where there was nothing to drop."""
        return next((row for row in self.rows if row.is_baseline), None)

    @property
    def trained(self) -> str:
        """How the baseline was."""
        if self.training is None or self.baseline_harmed:
            return "untrained"
        # where ours did not keep it, it is not the same any more
        return "trained" if self.harmed else "with the same training"

    def verdict(self) -> str:
        """What was gained and lost, beside the plain baseline, in a line."""
        whole, mine, *others = self.rows
        unit = figures.unit(whole.quality.metric)
        share = mine.parameters / whole.parameters
        text = f"{mine.faster:.2g}x faster, {share:.0%} of the parameters"
        text += f"{' in int8' if self.chosen.int8 else ''}, {self.change(mine.drop)} {unit}"
        text += f"{', untrained' if self.harmed else ''}"
        for row in others:
            if row.name == FLOAT:
                continue
            name = row.name
            if row == self.baseline and name.startswith(DROPPED):
                name = f"dropping layers {self.trained}"
            text += f"; {name} ({row.faster:.2g}x): {self.change(row.drop)}"
        if self.chosen.int8 and mine.parameters == whole.parameters:
            text += "; nothing had to be taken out"
        return text + "."

    def change(self, drop: Drop | None) -> str:
        """A drop as a change: above 0 is better."""
        return figures.change(drop, self.rows[0].quality.metric)

    def display(self) -> Iterator[Block]:
        """The frontier, the table, the verdict and where everything lies."""
        yield self._frontier([p for p in self.frontier if p in (*self.front, self.chosen)])
        yield Line(self._chosen_by())
        yield self._table()
        yield from few_lines(self.rows[0].quality.examples)
        yield from read_lines(self.read, "looked at")
        yield from read_lines(self.eval_read, "reported on")
        yield from self._notes()
        checked = f"{size(self.onnx.bytes)}, differs from torch by {self.onnx.max_difference:.0e}"
        yield Line(f"written: {self.out}, with {onnx_file()} ({checked})")
        if self.delivered != onnx_file():
            yield Line(f"the limits are about its {self.delivered}")
        if self.int8 is not None:
            yield Line(self.int8)
        blocks = kept(self.structure.blocks, self.structure.source_blocks)
        more = "all of it to mail: report.html; candidates: report.json, frontier.png"
        yield Line(f"blocks kept: {blocks}; {more}")
        yield Line(f"quality: {self.quality()}")
        yield Line(self.verdict())
        yield self.next()

    def page(self, use: Sequence[str], command: str) -> str:
        """The report as one file; see `reports.html`."""
        whole = self.rows[0]
        metric = whole.quality.metric
        rows = [
            charts.lost(r.name, r.milliseconds, r.drop, metric, _kind(n, r))
            for n, r in enumerate(self.rows)
        ]
        points = [
            charts.lost(p.blocks_kept, p.milliseconds, p.drop, metric, "candidate")
            for p in self.frontier
        ]
        dots = [*rows, *points]
        counts = [model.parameters for part in (self.rows, self.frontier) for model in part]
        small = [replace(d, x=c / 1e6) for d, c in zip(dots, counts, strict=True)]
        note = f"n = {whole.quality.examples:,}. Circles: candidates, untrained, on the rows that "
        note += f"decide (n = {self.chosen.quality.examples:,})"
        parts: list[html.Part] = [
            self._table(),
            *few_lines(whole.quality.examples),
            *read_lines(self.eval_read, "reported on"),
            *self._notes(),
            charts.losses(
                "Quality over time", "ms per call", metric, dots, f"{note}, as foreseen."
            ),
            charts.losses(
                "Quality over parameters",
                "parameters, millions",
                metric,
                small,
                f"{note}.",
                legend=False,
            ),
            html.Heading("What was tried"),
            self._frontier(self.frontier),
            Line(self._chosen_by()),
            *read_lines(self.read, "looked at"),
            *html.blocks(self.structure),
        ]
        if self.machine is not None:
            machine = Pairs("", list(self.machine.items()))
            parts += [html.Heading("Where it was measured"), machine]
        title = f"{Path(self.out).name}: {self.source or 'a model'}, compressed"
        verdict = [self.verdict(), self.complaint() or ""]
        return html.page(title, verdict, parts, use=use, command=command)

    def _notes(self) -> Iterator[Line]:
        """How it was decided and timed, and which limits hold."""
        yield Line(f"decided on {self.decided_on}" + (f"; {self.note}" if self.note else ""))
        harmed = [
            (self.harmed, "what came out"),
            (self.baseline_harmed, "the baseline of dropped layers"),
        ]
        if names := " and ".join(name for did, name in harmed if did):
            yield Line(
                f"The training did harm on the rows that decide, so untrained: {names}. "
                "Try a lower --lr or more data."
            )
        t = self.table
        where = f"{t.backend}, {t.batch} per call, {threads(t.threads)}"
        yield Line(f"ms: {where}.{busy_note(self.busy)} {duration(self.seconds)} in all.")
        if moved := self._moved():
            yield Line(moved)
        for limit in self.limits:
            yield Line(limit.told)

    def _chosen_by(self) -> str:
        """Why that candidate, where others of the table look better."""
        scatters = f"loss scatters less than {figures.title(self.rows[0].quality.metric)}"
        if any(limit.name != "max_drop" for limit in self.limits):
            return f"<- chosen: the least loss within the limits of time and size; {scatters}."
        return (
            "<- chosen: the cheapest that keeps the drop when finished, or else the one that "
            f"loses least; of dearer ones only those of less loss were tried: {scatters}."
        )

    def _frontier(self, points: Sequence[Point]) -> Grid:
        metric = self.rows[0].quality.metric
        rows = [
            [
                ("candidates", p.blocks_kept + (" <-" if p == self.chosen else "")),
                ("params", millions(p.parameters)),
                ("ms", f"{p.milliseconds:.2f}"),
                ("loss", f"{p.quality.loss:.4f}"),
                (figures.title(metric), f"{p.quality.value:.4f}"),
                ("change [95 %]", self.change(p.drop)),
            ]
            for p in sorted(points, key=lambda p: -p.milliseconds)
        ]
        held = next((limit for limit in self.limits if limit.against is not None), None)
        than = self._source() if held is None else held.than
        n = self.chosen.quality.examples
        title = f"without training, on the rows that decide, n = {n:,}"
        if (more := len(self.frontier) - len(points)) > 0:
            title += f" ({more} dearer ones of no less loss: report.html)"
        return grid(f"{title}; change: against {than}", rows, spare=["params"])

    def _source(self) -> str:
        """What the rows are measured against."""
        source, original = self.source or "", self.original
        return against(source, source if original and original.name == source else None)

    def _table(self) -> Grid:
        whole = self.rows[0]
        rows = [
            [
                ("model", row.name),
                ("params", millions(row.parameters)),
                ("ms", f"{row.milliseconds:.2f}"),
                ("faster", f"{row.faster:.2f}x"),
                (figures.title(whole.quality.metric), f"{row.quality.value:.4f}"),
                ("change [95 %]", self.change(row.drop)),
            ]
            for row in self.rows
        ]
        title = f"reported on {self.eval_data}, n = {whole.quality.examples:,}"
        title += f"; change: against {self._source()}"
        return grid(title, rows, spare=["ms", "params"])
