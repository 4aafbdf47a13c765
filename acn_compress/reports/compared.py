"""What compare reports, on a screen and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from acn_compress import figures
from acn_compress.data.read import Read
from acn_compress.figures import milliseconds
from acn_compress.found import Found
from acn_compress.measure.intervals import few_note
from acn_compress.options import BASELINE
from acn_compress.quality import Drop, Quality
from acn_compress.reports import charts, html
from acn_compress.reports.base import Report, few_lines, read_lines
from acn_compress.reports.blocks import Block, Command, Grid, Line, Pairs, grid
from acn_compress.reports.charts import Kind, Rows
from acn_compress.reports.made import Made
from acn_compress.reports.measured import busy_note, faster

# columns, as in `Grid`
SPARE = (
    *("train s", "seeds", "params", "95 %", "noisy change [95 %]", "noisy gain [95 %]", "noisy"),
    *("faster", "ms"),
)


class Budget(Found):
    """What every route may spend."""

    epochs_of_whole: float
    flops_per_example: float
    """Of one training example of the whole network."""
    epochs_at_depth: dict[str, float]
    """That this buys at each depth."""
    epochs_with_prefix: float
    """That it buys a run of the whole with prefix readouts."""

    def __str__(self) -> str:
        epochs = self.epochs_of_whole
        return f"{epochs:g} epoch{'' if epochs == 1 else 's'} of the whole network"


class Whole(Quality):
    """The untouched network."""

    noisy: float | None = None
    noisy_low: float | None = None
    noisy_high: float | None = None
    latency: float
    """Seconds per example."""
    parameters: int | None = None

    def cells(self) -> Iterator[tuple[str, str]]:
        """Names of columns, and what the table says of it in them."""
        yield "depth, route", "whole network"
        yield figures.title(self.metric), f"{self.value:.4f}"
        yield "95 %", _ends(self.low, self.high)
        yield "noisy", "" if self.noisy is None else f"{self.noisy:.4f}"
        yield "ms", milliseconds(self.latency)
        yield "params", figures.millions(self.parameters)


class RouteRun(Found):
    """One training run, read at one depth."""

    route: str
    depth: int
    seed: int
    epochs: float
    seconds: float
    """Of the training."""
    blocks: tuple[int, ...]
    alpha: tuple[float, ...]
    parameters: int
    clean: float
    noisy: float | None = None


class RouteRow(Found):
    """One route at one depth, over all seeds. low, high: its own 95 % interval; drop: below the
    whole network, paired; gains: above drop-last, paired, with 95 % interval."""

    route: str
    depth: int
    seeds: int
    seconds: float
    parameters: int
    latency: float
    """Seconds per example."""
    speedup: dict[str, Any] | None = None
    """To the whole network: ratio, its 95 % interval, and a verdict."""
    clean: float
    clean_spread: float
    clean_low: float | None = None
    clean_high: float | None = None
    clean_drop: Drop | None = None
    clean_gain: float | None = None
    clean_gain_low: float | None = None
    clean_gain_high: float | None = None
    noisy: float | None = None
    noisy_spread: float | None = None
    noisy_low: float | None = None
    noisy_high: float | None = None
    noisy_drop: Drop | None = None
    noisy_gain: float | None = None
    noisy_gain_low: float | None = None
    noisy_gain_high: float | None = None

    def gain(self, kind: str, metric: str) -> str:
        """The gain over the baseline as text; nothing for the baseline itself."""
        return figures.change(self.behind(kind), metric)

    def behind(self, kind: str) -> Drop | None:
        """How far it lies below the baseline; None for the baseline itself."""
        if f"{kind}_gain" not in self:
            return None
        gain, low, high = (self[f"{kind}_gain{end}"] for end in ("", "_low", "_high"))
        return Drop(drop=-gain, low=-high, high=-low)

    def cells(self, metric: str) -> Iterator[tuple[str, str]]:
        """Names of columns, and what the table says of it in them."""
        yield "depth, route", f"{self.depth} {self.route}"
        yield figures.title(metric), f"{self.clean:.4f}"
        yield "95 %", _ends(self.clean_low, self.clean_high)
        yield "change [95 %]", figures.change(self.clean_drop, metric)
        yield "gain [95 %]", self.gain("clean", metric)
        if self.noisy is not None:
            yield "noisy", f"{self.noisy:.4f}"
            yield "noisy change [95 %]", figures.change(self.noisy_drop, metric)
            yield "noisy gain [95 %]", self.gain("noisy", metric)
        yield "ms", milliseconds(self.latency)
        yield "faster", self.faster()
        yield "params", figures.millions(self.parameters)
        yield "seeds", str(self.seeds)
        yield "train s", f"{self.seconds:.0f}"

    def faster(self) -> str:
        """Than the whole network; none where it lies within the noise."""
        timed = self.speedup
        return "" if timed is None else faster(timed["verdict"], timed["ratio"])


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None else f"{low:.4f} .. {high:.4f}"


class Kept(Made):
    """The winner at a depth, written as a model directory."""

    follow = "acn-compress export {out} OUT --format onnx"
    route: str
    depth: int


class Compared(Report):
    """Every route to a depth at the same budget."""

    source: str
    weights_sha256: str
    data: str
    eval_data: str
    read: Read | None = None
    """Which rows and columns of the data."""
    eval_read: Read | None = None
    remarks: tuple[str, ...] = ()
    """About the checkpoint: what was left out of it, or is not as its config says."""
    noise: str | None
    alpha_end: float | None
    pull: float
    options: dict[str, Any]
    budget: Budget
    whole: Whole
    runs: tuple[RouteRun, ...]
    table: tuple[RouteRow, ...]
    machine: dict[str, str]
    busy: float | None = None
    """The largest median over its fastest sample: how far other work disturbed the timing."""
    out: str
    kept: tuple[Kept, ...] = ()
    """The winner at every depth, where they were asked for."""
    command: str | None = None
    """That keeps them, where they were not."""

    def display(self) -> Iterator[Block]:
        """A row per route and depth."""
        budget = f"{self.budget} cost, n = {self.whole.examples:,}"
        yield self._grid(f"compare {self.source}: every route for what {budget}")
        yield from self._notes()
        yield Line(f"whole network: {self.whole.metric} {self.whole}")
        yield Line(self.verdict())
        yield Line(f"written: {self.out}/report.html, compare.json, README.md, compare.png")
        for kept in self.kept:
            yield Line(f"kept {kept.out}: {kept.route} at {kept.depth} blocks, {kept.quality()}")
        if self.command is not None:
            yield Line("to keep the winner at every depth (trained once more, as it was):")
            yield Command(self.command)

    def page(self, use: Sequence[str], command: str) -> str:
        """The report as one file; see `reports.html`."""
        title = f"{self.source}: routes to a smaller depth, n = {self.whole.examples:,}"
        machine = Pairs("", list(self.machine.items()))
        left = [
            part
            for kept in self.kept
            for part in html.blocks(kept.structure, f"What is left in {Path(kept.out).name}")
        ]
        more = [*self.parts(), *left, html.Heading("Where it was measured"), machine]
        return html.page(title, [self.verdict()], more, use=use, command=command)

    def parts(self) -> Iterator[html.Part]:
        """What a page has of it."""
        yield html.Heading("Every route to a depth, for the same budget")
        yield self._grid(f"for what {self.budget} cost, n = {self.whole.examples:,}")
        yield from self._notes()
        yield from self._charts("clean", "")
        if self.whole.noisy is not None:
            yield from self._charts("noisy", f" under {self.noise}")

    def _grid(self, title: str) -> Grid:
        """A row for the whole network, and one per route and depth."""
        depths = [row.depth for row in self.table]
        last = [n for n, depth in enumerate(depths, 1) if depth not in depths[n:]]
        # the columns are those of the routes
        blank = [(name, "") for name, _ in self.table[0].cells(self.whole.metric)]
        rows = [[*blank, *self.whole.cells()]]
        rows += [list(row.cells(self.whole.metric)) for row in self.table]
        return grid(title, rows, sections=[0, *last[:-1]], spare=SPARE)

    def _notes(self) -> Iterator[Line]:
        """How the table is to be read, and what it rests on."""
        yield Line(self._how_read())
        yield from few_lines(self.whole.examples)
        yield from read_lines(self.read, "trained on", remarks=self.remarks)
        yield from read_lines(self.eval_read, "measured on")

    def _charts(self, kind: str, noise: str) -> Iterator[Rows]:
        """Every row against the whole network and against drop-last."""
        drops = [row.get(f"{kind}_drop") for row in self.table]
        if any(drops):  # a report of an older version has none
            yield self._rows(f"Against the whole network{noise}", "the whole network", drops)
        behind = [row.behind(kind) for row in self.table]
        yield self._rows(f"Against {BASELINE} at the same depth{noise}", BASELINE, behind)

    def _rows(self, title: str, than: str, drops: Sequence[Drop | None]) -> Rows:
        metric = self.whole.metric
        dots = []
        for row, drop in zip(self.table, drops, strict=True):
            cost = f"{milliseconds(row.latency)} ms, {figures.millions(row.parameters)}"
            kind: Kind = "baseline" if row.route == BASELINE else "mine"
            dot = charts.lost(f"{row.depth} {row.route}, {cost}", 0.0, drop, metric)
            dots.append(replace(dot, kind=kind))
        note = f"Bars: 95 %, paired. n = {self.whole.examples:,}."
        return Rows(title, charts.against(metric, than), dots, note)

    def verdict(self) -> str:
        """Which routes are ahead of drop-last at each depth beyond their interval."""
        return " ".join(self._judged(depth) for depth in dict.fromkeys(r.depth for r in self.table))

    def winners(self) -> dict[int, str]:
        """By depth: the route that is furthest ahead of drop-last beyond its interval, or else
        that; none where there is nothing to tell it from."""
        plain = [r for r in self.table if r.route == BASELINE]
        best = {r.depth: r.route for r in plain}
        return best | {r.depth: a[0].route for r in plain if (a := self._ahead(r.depth))}

    def _ahead(self, depth: int) -> list[RouteRow]:
        """Rows that are ahead of drop-last beyond their interval, the best first."""
        ahead = [r for r in self.table if r.depth == depth and (r.clean_gain_low or 0) > 0]
        return sorted(ahead, key=lambda r: -(r.clean_gain or 0))

    def _judged(self, depth: int) -> str:
        rows = [r for r in self.table if r.depth == depth and r.clean_gain is not None]
        metric, unit = self.whole.metric, figures.unit(self.whole.metric)
        if not rows:
            return f"{depth} blocks: nothing to compare drop-last with."
        if not (ahead := self._ahead(depth)):
            text = f"{depth} blocks: no route is ahead of {BASELINE} beyond its interval"
            return f"{text}{self._lost(depth, BASELINE)}."
        best, *others = ahead
        also = [r.route for r in others]
        more = f"; also ahead: {', '.join(also)}" if also else ""
        gain = best.gain("clean", metric)
        lost = self._lost(depth, best.route)
        return f"{depth} blocks: {best.route} is ahead of {BASELINE} by {gain} {unit}{more}{lost}."

    def _lost(self, depth: int, route: str) -> str:
        """What became of the quality of the whole network, where that is known."""
        row = next(r for r in self.table if (r.depth, r.route) == (depth, route))
        if row.clean_drop is None:
            return ""
        lost = figures.told(row.clean_drop, self.whole.metric)
        return f"; {route} against the whole network: {lost}"

    def _how_read(self) -> str:
        """What the columns are."""
        unit = figures.unit(self.whole.metric)
        told = f"change: {unit} against the whole network; gain: {unit} above {BASELINE} at that "
        told += "depth; both paired"
        told += f"; noisy: under {self.noise}" if self.noise else ""
        told += "; ms: an example in torch, one thread; faster: than the whole, none = within the "
        return f"{told}noise.{busy_note(self.busy or 0.0)}"

    def markdown(self) -> str:
        """The table as Markdown, with what it means."""
        table = self._grid("")
        lines = [
            f"# {self.source}: routes to a smaller depth at equal training budget",
            "",
            self.verdict(),
            "",
            f"Budget: {self.budget}; n = {self.whole.examples:,}; {self._how_read()}",
            "",
            "| " + " | ".join(table.head) + " |",
            "|" + "---|" * len(table.head),
            *("| " + " | ".join(row) + " |" for row in table.rows),
            "",
            *([told, ""] if (told := few_note(self.whole.examples)) else []),
            "![change against the whole network and drop-last](compare.png)",
            "",
        ]
        return "\n".join(lines)
