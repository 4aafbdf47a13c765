"""What run and validate report."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from acn_compress import figures
from acn_compress.checkpoint.files import size
from acn_compress.checkpoint.published import published
from acn_compress.data.read import Read
from acn_compress.events import duration
from acn_compress.found import Found
from acn_compress.measure.intervals import few_note
from acn_compress.network.structure import Structure
from acn_compress.onnx.layout import find_onnx
from acn_compress.quality import Drop
from acn_compress.reports import charts, html
from acn_compress.reports.base import Report, few_lines, read_lines
from acn_compress.reports.blocks import Block, Command, Line, Pairs, grid
from acn_compress.reports.charts import Chart, Dot, Kind
from acn_compress.reports.compared import Compared
from acn_compress.reports.measured import Profiled, busy_note, faster

BASELINE = "baseline: "  # how the names of the baseline's models begin

SPARE = ("torch ms", "size", "noisy", "params", "ONNX ms")  # columns, as in `Grid`


class Validated(Report):
    """A recipe without a fault."""

    recipe: str
    name: str
    steps: int

    def display(self) -> Iterator[Block]:
        """One line."""
        yield Line(f"{self.recipe}: valid, {figures.counted(self.steps, 'step')}.")


class Speed(Found):
    """Seconds per example, and the ratio to the original (above 1 is faster)."""

    median: float
    ratio: float
    ratio_low: float
    ratio_high: float
    verdict: str


class Row(Found):
    """One model of a run."""

    name: str
    path: str
    value: float
    low: float
    high: float
    drop: Drop | None = None
    """To the original."""
    format: str
    parameters: int | None
    bytes: int
    """On disk; 0 of a baseline that was not kept."""
    noisy: float | None = None
    torch: Speed | None = None
    onnx: Speed | None = None

    @property
    def is_baseline(self) -> bool:
        """It is a model of the plain baseline."""
        return self.name.startswith(BASELINE)

    def cells(self, metric: str) -> Iterator[tuple[str, str]]:
        """Names of columns, and what the row says in them."""
        yield "model", self.name
        yield figures.title(metric), f"{self.value:.4f}"
        yield "change [95 %]", figures.change(self.drop, metric)
        if self.noisy is not None:
            yield "noisy", f"{self.noisy:.4f}"
        yield "params", figures.millions(self.parameters)
        yield "size", size(self.bytes) if self.bytes else ""
        for name, timed in (("torch ms", self.torch), ("ONNX ms", self.onnx)):
            yield name, "" if timed is None else figures.milliseconds(timed.median)
        yield "faster", self.faster()

    def faster(self) -> str:
        """Than the original, in ONNX Runtime (or torch); none where it lies within the noise."""
        timed = self.onnx or self.torch
        return "" if timed is None else faster(timed.verdict, timed.ratio)


class Gain(Found):
    """How far the chain's last model lies above the baseline's."""

    gain: float
    low: float
    high: float


class Table(Found):
    """Every model of a run on the same examples, timed side by side."""

    metric: str
    eval_data: str
    eval_read: Read | None = None
    """Which rows and columns of it."""
    remarks: tuple[str, ...] = ()
    """About the original: what was left out of it, or is not as its config says."""
    examples: int
    machine: dict[str, str]
    busy: float
    gain: Gain | None = None
    """Of the chain over the plain baseline, where there is one."""
    rows: tuple[Row, ...]


class Done(Found):
    """One step of a run."""

    folder: str
    seconds: float
    reused: bool
    result: str = ""
    """What came of it."""


class Ran(Report, Table):
    """What run reports."""

    recipe: str
    """Its name."""
    named: str | None = None
    """How it was asked for: a file, or the name of a packaged one; none that was made in Python."""
    out: str
    data: str
    noise: str | None
    steps: tuple[Done, ...]
    final: str
    """The last model directory."""
    delivered: str | None = None
    """The int8 file of it that keeps the limits of compress, where that is not its float one."""
    notes: tuple[str, ...] = ()
    """What was decided on the rows that are measured on, and what on others."""
    baseline: str | None
    exports: tuple[str, ...]
    verdicts: tuple[str, ...] = ()
    """What steps of compress came to."""
    complaints: tuple[str, ...] = ()
    """What was asked of them and does not hold."""
    compare: Compared | None
    seconds: float

    def complaint(self) -> str | None:
        """What steps did not reach."""
        return " ".join(self.complaints) or None

    def verdict(self) -> str:
        """The chain's last model beside the original, and beside the last baseline; also when we
        lose."""
        last = self.delivered or self.final
        ours = next((r for r in self.rows if r.path == last), None)
        if ours is None or ours.drop is None:
            return self._lead()
        text = f"{ours.name}: {self._changed(ours)} {figures.unit(self.metric)} against the "
        text += f"original, n = {self.examples:,}"
        if self.baseline is None:
            theirs = [row for row in self.rows if row.is_baseline]
            text += "".join(f"; {row.name}: {self._changed(row)}" for row in theirs)
        return f"{text}. {self._lead()}".strip()

    def _changed(self, row: Row) -> str:
        """Speed, size and quality of a model."""
        speed, share = row.faster(), (row.parameters or 0) / (self.rows[0].parameters or 1)
        short = {"": "not timed", "none": "no faster beyond noise", "unclear": "speed unclear"}
        told = short.get(speed, f"{speed} as fast")
        return f"{told}, {share:.0%} of the parameters, {figures.change(row.drop, self.metric)}"

    def _lead(self) -> str:
        """How far the chain is ahead of the baseline."""
        if (gain := self.gain) is None:
            return ""
        ours = next(r for r in self.rows if r.path == self.final)
        theirs = next(r for r in self.rows if r.path == self.baseline)
        said = "ahead" if gain.low > 0 else "behind" if gain.high < 0 else "a draw"
        apart = figures.span(gain.gain, gain.low, gain.high, self.metric)
        text = f"{ours.name} against {theirs.name}, same training budget: {apart} "
        text += f"{figures.unit(self.metric)} (paired, 95 %), {said}"
        if ours.noisy is not None and theirs.noisy is not None:
            text += f"; under noise {ours.noisy:.4f} against {theirs.noisy:.4f}"
        return text + "."

    def speed_note(self) -> str:
        """How the columns are to be read."""
        note = "change: against the original, paired; faster: likewise, in ONNX Runtime"
        noisy = f"; noisy: under {self.noise}" if self.noise else ""
        return f"{note}; none = within the noise{noisy}.{busy_note(self.busy)}"

    def display(self) -> Iterator[Block]:
        """The table, the verdict, where everything lies, what to do next."""
        how = f"n = {self.examples:,}; speed with batch 1, one thread"
        last = sum(not row.is_baseline for row in self.rows) - 1
        rows = [list(row.cells(self.metric)) for row in self.rows]
        title = f"{self.recipe}: {self.eval_data}, {how}"
        yield grid(title, rows, sections=[last], spare=SPARE)
        if said := self.verdict():
            yield Line(said)
        yield from few_lines(self.examples)
        yield from self._measured_on()
        mine = sum(Path(step.folder).name.startswith("baseline-") for step in self.steps)
        count = figures.counted(len(self.steps), "step") + (
            f" ({mine} of the baseline)" * (mine > 0)
        )
        yield Line(f"{self.speed_note()} {count} and this table, {duration(self.seconds)}.")
        if self.compare is not None:
            yield from self.compare.display()
        onnx = [("ONNX", find_onnx(export) or export) for export in self.exports]
        table = ("this table", f"{self.out}/report.html, README.md, table.json")
        yield Pairs("", [("model", self.final), *onnx, table])
        target = self.exports[-1] if self.exports else self.final
        against = "acn-compress benchmark {source} {target}"
        yield Command.of(against, source=self.rows[0].path, target=target)
        if self.named is not None:
            own = f"acn-compress run {shlex.quote(self.named)} --source CHECKPOINT --data DATA"
            yield Command(own, "or your own: ")

    def _measured_on(self) -> Iterator[Line]:
        """Which rows, and what was decided on them."""
        whole = self.eval_read is None or self.eval_read.examples == self.examples
        what = "measured on" if whole else f"measured on {self.examples:,} rows of"
        yield from read_lines(self.eval_read, what, remarks=self.remarks)
        yield from map(Line, self.notes)

    def page(
        self,
        structure: Structure | None,
        profile: Profiled | None,
        use: Sequence[str],
        command: str,
    ) -> str:
        """The report as one file; see `reports.html`.

        Args:
            structure: of the last model, where this package made it.
            profile: what a step of profile found, where there was one.
        """
        title = f"{self.recipe}: {self.eval_data}, n = {self.examples:,}"
        rows = [list(row.cells(self.metric)) for row in self.rows]
        parts: list[html.Part] = [
            grid("speed with batch 1, one thread", rows, spare=SPARE),
            *few_lines(self.examples),
            *self._measured_on(),
            Line(self.speed_note()),
            *self._charts(),
            *([] if profile is None else [html.Heading("Why this depth"), *profile.parts()]),
            *([] if self.compare is None else self.compare.parts()),
            *([] if structure is None else html.blocks(structure)),
            html.Heading("Where it was measured"),
            Pairs("", list(self.machine.items())),
        ]
        verdict = [self.verdict(), *self.complaints]
        return html.page(title, verdict, parts, use=use, command=command)

    def _charts(self) -> Iterator[Chart]:
        """Quality over time and over size; a model that was not timed is named."""
        onnx = sum(row.onnx is not None for row in self.rows)
        backend = "onnx" if onnx >= sum(row.torch is not None for row in self.rows) else "torch"
        timed = [(row, row.onnx if backend == "onnx" else row.torch) for row in self.rows]
        dots = [self._dot(row, 1000 * t.median) for row, t in timed if t is not None]
        untimed = ", ".join(row.name for row, t in timed if t is None)
        note = f"Not timed there: {untimed}." if untimed else ""
        where = "ONNX Runtime" if backend == "onnx" else "torch"
        yield charts.losses(
            "Quality over time", f"ms per example, {where}", self.metric, dots, note
        )
        sizes = [self._dot(row, row.bytes / 1e6) for row in self.rows if row.bytes]
        yield charts.losses("Quality over size", "MB on disk", self.metric, sizes, legend=False)

    def _dot(self, row: Row, x: float) -> Dot:
        kind: Kind = "baseline" if row.is_baseline else "mine"
        return charts.lost(row.name, x, row.drop, self.metric, kind)

    def markdown(self) -> str:
        """The table as Markdown, with where everything lies."""
        rows = [list(row.cells(self.metric)) for row in self.rows]
        table = grid("", rows)
        head = table.head
        on = f"Measured on {self.eval_data}, n = {self.examples:,}"
        lines = [f"# {self.recipe}", "", f"{on}; speed with batch 1, one thread."]
        lines += ["", "| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
        lines += ["| " + " | ".join(row) + " |" for row in table.rows]
        lines += [
            "",
            self.verdict(),
            *self.complaints,
            "",
            *self.notes,
            self.speed_note(),
            few_note(self.examples),
            "",
        ]
        if self.compare is not None:
            route = "Every route to that depth with that budget: [compare](compare/README.md)."
            lines += [route, ""]
        lines += ["| folder | seconds | what came of it |", "|---|---:|---|"]
        lines += [
            published(f"| `{Path(s.folder).name}` | {s.seconds} | {s.result} |") for s in self.steps
        ]
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        return "\n".join([*lines, "", f"Machine: {machine}.", ""])
