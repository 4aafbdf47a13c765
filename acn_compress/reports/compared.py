"""What compare reports, on a screen and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from acn_compress import figures
from acn_compress.data.read import Read
from acn_compress.figures import milliseconds
from acn_compress.found import Found
from acn_compress.measure.intervals import few_note
from acn_compress.options import BASELINE
from acn_compress.quality import Quality
from acn_compress.reports import html
from acn_compress.reports.base import Report, few_lines, read_lines
from acn_compress.reports.blocks import Block, Command, Line, Pairs, grid
from acn_compress.reports.charts import Chart, Dot, Kind
from acn_compress.reports.made import Made

SPARE = ("train s", "seeds", "noisy gain [95 %]", "noisy", "ms")  # columns, as in `Grid`


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
    latency: float
    """Seconds per example."""


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
    """One route at one depth, over all seeds. Gains: above drop-last, paired, with 95 %
    interval."""

    route: str
    depth: int
    seeds: int
    seconds: float
    parameters: int
    latency: float
    """Seconds per example, the fastest of 20 rounds."""
    clean: float
    clean_spread: float
    clean_gain: float | None = None
    clean_gain_low: float | None = None
    clean_gain_high: float | None = None
    noisy: float | None = None
    noisy_spread: float | None = None
    noisy_gain: float | None = None
    noisy_gain_low: float | None = None
    noisy_gain_high: float | None = None

    def gain(self, kind: str, metric: str) -> str:
        """The gain over the baseline as text; nothing for the baseline itself."""
        if f"{kind}_gain" not in self:
            return ""
        value, low, high = (self[f"{kind}_gain{end}"] for end in ("", "_low", "_high"))
        return figures.span(value, low, high, metric)


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
    out: str
    kept: tuple[Kept, ...] = ()
    """The winner at every depth, where they were asked for."""
    command: str | None = None
    """That keeps them, where they were not."""

    def display(self) -> Iterator[Block]:
        """A row per route and depth."""
        budget = f"{self.budget} cost"
        title = f"compare {self.source}: every route for what {budget}"
        rows = [list(self._row(row)) for row in self.table]
        last = [n for n, row in enumerate(self.table[:-1]) if row.depth != self.table[n + 1].depth]
        yield grid(title, rows, sections=last, spare=SPARE)
        whole = self.whole
        noisy = "" if whole.noisy is None else f", under {self.noise} {whole.noisy:.4f}"
        latency = f"{milliseconds(whole.latency)} ms per example"
        yield Line(self._how_read())
        yield Line(f"whole network: {whole.metric} {whole}{noisy}, {latency}")
        yield from few_lines(whole.examples)
        yield from read_lines(self.read, "trained on", remarks=self.remarks)
        yield from read_lines(self.eval_read, "measured on")
        yield Line(self.verdict())
        yield Line(f"written: {self.out}/report.html, compare.json, README.md, compare.png")
        for kept in self.kept:
            yield Line(f"kept {kept.out}: {kept.route} at {kept.depth} blocks, {kept.quality()}")
        if self.command is not None:
            yield Line("to keep the winner at every depth (trained once more, as it was):")
            yield Command(self.command)

    def page(self, command: str) -> str:
        """The report as one file; see `reports.html`."""
        title = f"{self.source}: routes to a smaller depth, n = {self.whole.examples:,}"
        machine = Pairs("", list(self.machine.items()))
        more = [*self.parts(), html.Heading("Where it was measured"), machine]
        return html.page(title, [self.verdict()], more, command=command)

    def parts(self) -> Iterator[html.Part]:
        """What a page has of it."""
        whole = self.whole
        yield html.Heading("Every route to a depth, for the same budget")
        yield grid(
            f"for what {self.budget} cost",
            [list(self._row(row)) for row in self.table],
            spare=SPARE,
        )
        yield Line(self._how_read())
        yield Line(f"whole network: {whole.metric} {whole}, {milliseconds(whole.latency)} ms")
        yield from few_lines(whole.examples)
        yield from read_lines(self.read, "trained on", remarks=self.remarks)
        yield from read_lines(self.eval_read, "measured on")
        yield self._chart("clean", whole.value)
        if whole.noisy is not None:
            yield self._chart("noisy", whole.noisy)

    def _chart(self, kind: str, whole: float) -> Chart:
        """Quality over time of every route at every depth."""
        metric = self.whole.metric
        name = figures.title(metric) + (", %" if metric in figures.POINTS else "")
        value = figures.scaled(whole, metric)
        dots = [Dot("whole, untouched", 1000 * self.whole.latency, value, value, value, "original")]
        dots += [self._dot(row, kind) for row in self.table]
        title = "Quality over time" + ("" if kind == "clean" else f" under {self.noise}")
        note = "Bars: 95 % of the difference from drop-last at that depth, paired."
        return Chart(title, "ms per example, torch", name, dots, note=note, legend=kind == "clean")

    def _dot(self, row: RouteRow, kind: str) -> Dot:
        """Its interval is that of the gain, laid around the baseline."""
        value, gain = row[kind], row.get(f"{kind}_gain")
        base = value - (gain or 0.0)
        low = value if gain is None else base + row[f"{kind}_gain_low"]
        high = value if gain is None else base + row[f"{kind}_gain_high"]
        value, low, high = (figures.scaled(v, self.whole.metric) for v in (value, low, high))
        what: Kind = "baseline" if gain is None else "mine"
        return Dot(f"{row.depth} {row.route}", 1000 * row.latency, value, low, high, what)

    def _row(self, row: RouteRow) -> Iterator[tuple[str, str]]:
        metric = self.whole.metric
        yield "depth, route", f"{row.depth} {row.route}"
        yield figures.title(metric), f"{row.clean:.4f}"
        yield "gain [95 %]", row.gain("clean", metric)
        if row.noisy is not None:
            yield "noisy", f"{row.noisy:.4f}"
            yield "noisy gain [95 %]", row.gain("noisy", metric)
        yield "ms", milliseconds(row.latency)
        yield "seeds", str(row.seeds)
        yield "train s", f"{row.seconds:.0f}"

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
            return f"{depth} blocks: no route is ahead of drop-last beyond its interval."
        best, *others = ahead
        also = [r.route for r in others]
        more = f"; also ahead: {', '.join(also)}" if also else ""
        gain = best.gain("clean", metric)
        return f"{depth} blocks: {best.route} is ahead of drop-last by {gain} {unit}{more}."

    def _how_read(self) -> str:
        """What the columns are."""
        gain = f"gain: {figures.unit(self.whole.metric)} above drop-last at that depth, paired"
        return gain + (f"; noisy: under {self.noise}." if self.noise else ".")

    def markdown(self) -> str:
        """The table as Markdown, with what it means."""
        whole = self.whole
        noisy = "" if whole.noisy is None else f", under {self.noise} {whole.noisy:.4f}"
        rows = [list(self._row(row)) for row in self.table]
        lines = [
            f"# {self.source}: routes to a smaller depth at equal training budget",
            "",
            self.verdict(),
            "",
            f"Whole network: {whole.metric} {whole.value:.4f}{noisy} (n = {whole.examples:,}).",
            f"Budget: {self.budget}; {self._how_read()}",
            "",
            "| " + " | ".join(name for name, _ in rows[0]) + " |",
            "|" + "---|" * len(rows[0]),
            *("| " + " | ".join(cell for _, cell in row) + " |" for row in rows),
            "",
            "ms: one example in torch on one thread, the fastest of 20 interleaved rounds; the "
            f"whole network: {milliseconds(whole.latency)}. {few_note(whole.examples)}".strip(),
            "",
            "![quality over latency](compare.png)",
            "",
        ]
        return "\n".join(lines)
