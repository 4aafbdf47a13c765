"""What run and validate report."""

from __future__ import annotations

from collections.abc import Iterator

from acn_compress.checkpoint.files import size
from acn_compress.data.read import Read
from acn_compress.events import duration
from acn_compress.found import Found
from acn_compress.measure.intervals import few_note
from acn_compress.measure.quality import Drop
from acn_compress.measure.timing import FIRST, NO_DIFFERENCE, UNCLEAR
from acn_compress.onnx.layout import find_onnx
from acn_compress.reports.base import Report, few_lines, read_lines, told
from acn_compress.reports.blocks import Block, Grid, Line, Pairs
from acn_compress.reports.compared import Compared
from acn_compress.reports.measured import busy_note

BASELINE = "baseline: "  # how the names of the baseline's models begin


class Validated(Report):
    """A recipe without a fault."""

    recipe: str
    name: str
    steps: int

    def display(self) -> Iterator[Block]:
        """One line."""
        yield Line(f"{self.recipe}: valid, {self.steps} steps.")


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
    noisy: float | None = None
    torch: Speed | None = None
    onnx: Speed | None = None

    @property
    def is_baseline(self) -> bool:
        """It is a model of the plain baseline."""
        return self.name.startswith(BASELINE)

    def cells(self, noise: str | None) -> list[str]:
        """The row as text."""
        noisy = [] if self.noisy is None else [f"{self.noisy:.4f}"]
        return [
            self.name,
            f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]",
            "" if self.drop is None else str(self.drop),
            *(noisy if noise else []),
            "" if self.parameters is None else f"{self.parameters:,}",
            size(self.bytes),
            *("" if t is None else f"{1000 * t.median:.2f}" for t in (self.torch, self.onnx)),
            self.speed_up(),
        ]

    def speed_up(self) -> str:
        """In ONNX Runtime (or torch), or none where it lies within the noise."""
        timed = self.onnx or self.torch
        if timed is None or timed.verdict == FIRST:
            return ""
        short = {NO_DIFFERENCE: "none", UNCLEAR: "unclear"}
        return short.get(timed.verdict) or f"{timed.ratio:.2f}x"


class Gain(Found):
    """How far the chain's last model lies above the baseline's."""

    gain: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.gain:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


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


class Ran(Report, Table):
    """What run reports."""

    recipe: str
    out: str
    data: str
    noise: str | None
    steps: tuple[Done, ...]
    final: str
    """The last model directory."""
    baseline: str | None
    exports: tuple[str, ...]
    verdicts: tuple[str, ...] = ()
    """What steps of compress came to."""
    complaints: tuple[str, ...] = ()
    """What was asked of them and does not hold."""
    compare: Compared | None
    seconds: float

    def head(self) -> list[str]:
        """Of the table."""
        noisy = [f"under {self.noise}"] if self.noise else []
        start = ["model", f"{self.metric} [95 %]", "drop [95 %, paired]", *noisy]
        return [*start, "parameters", "bytes", "torch ms", "ONNX ms", "speed-up"]

    def complaint(self) -> str | None:
        """What steps did not reach."""
        return " ".join(self.complaints) or None

    def verdict(self) -> str:
        """The chain's last model beside the last baseline, in one sentence; also when we lose."""
        if (gain := self.gain) is None:
            return ""
        ours = next(r for r in self.rows if r.path == self.final)
        theirs = next(r for r in self.rows if r.path == self.baseline)
        said = "ahead" if gain.low > 0 else "behind" if gain.high < 0 else "a draw"
        text = f"{ours.name} against {theirs.name}, same training budget: {self.metric} {gain}"
        text += f" (paired, 95 %), {said}"
        if ours.noisy is not None and theirs.noisy is not None:
            text += f"; under noise {ours.noisy:.4f} against {theirs.noisy:.4f}"
        return text + "."

    def speed_note(self) -> str:
        """How the last column is to be read."""
        note = "speed-up: in ONNX Runtime against the original; none = within the noise."
        return note + busy_note(self.busy)

    def display(self) -> Iterator[Block]:
        """The table, the verdict, where everything lies, what to do next."""
        how = f"n = {self.examples:,}; speed with batch 1, one thread"
        last = sum(not row.is_baseline for row in self.rows) - 1
        rows = [row.cells(self.noise) for row in self.rows]
        section = last if last < len(rows) - 1 else None
        yield Grid(f"{self.recipe}: {self.eval_data}, {how}", self.head(), rows, section)
        for text in self.verdicts:
            yield from told(text)
        if said := self.verdict():
            yield Line(said)
        yield from few_lines(self.examples)
        yield from read_lines(self.eval_read, "measured on", remarks=self.remarks)
        yield Line(f"{self.speed_note()} {len(self.steps)} steps, {duration(self.seconds)}.")
        if self.compare is not None:
            yield from self.compare.display()
        onnx = [("ONNX", find_onnx(export) or export) for export in self.exports]
        table = ("this table", f"{self.out}/README.md, table.json")
        yield Pairs("", [("model", self.final), *onnx, table])
        mine = f"acn-compress run {self.recipe} --source CHECKPOINT --data DATA"
        yield Line(f"next: acn-compress inspect {self.final}, or your own: {mine}")
        target = self.exports[-1] if self.exports else self.final
        yield Line(f"      acn-compress benchmark {self.rows[0].path} {target}")

    def markdown(self) -> str:
        """The table as Markdown, with where everything lies."""
        head = self.head()
        on = f"Measured on {self.eval_data}, n = {self.examples:,}"
        lines = [f"# {self.recipe}", "", f"{on}; speed with batch 1, one thread."]
        lines += ["", "| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
        lines += ["| " + " | ".join(row.cells(self.noise)) + " |" for row in self.rows]
        lines += [
            "",
            *self.verdicts,
            *self.complaints,
            self.verdict(),
            "",
            self.speed_note(),
            few_note(self.examples),
            "",
        ]
        if self.compare is not None:
            route = "Every route to that depth with that budget: [compare](compare/README.md)."
            lines += [route, ""]
        lines += ["| folder | seconds |", "|---|---:|"]
        lines += [f"| `{step.folder}` | {step.seconds} |" for step in self.steps]
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        return "\n".join([*lines, "", f"Machine: {machine}.", ""])
