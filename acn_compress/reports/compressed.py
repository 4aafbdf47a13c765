"""What compress reports: the verdict in a line, and the table behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from acn_compress.checkpoint.files import size
from acn_compress.events import duration
from acn_compress.found import Found
from acn_compress.measure.candidate import Point
from acn_compress.measure.latency import LatencyTable
from acn_compress.measure.quality import Drop, Quality
from acn_compress.onnx.layout import onnx_file
from acn_compress.onnx.write import OnnxFile
from acn_compress.reports.base import few_lines, read_lines, told
from acn_compress.reports.blocks import Block, Grid, kept
from acn_compress.reports.made import Made
from acn_compress.reports.measured import busy_note, threads

MINE, INT8, FLOAT = "compressed", "its int8 file", "its float file"
POINTS = {"accuracy", "token_accuracy", "f1_samples", "exact_match"}  # told in points


class Limit(Found):
    """One of the user's limits, and what was found."""

    name: str
    asked: float
    found: float
    holds: bool

    @classmethod
    def of(cls, name: str, asked: float, found: float, holds: bool) -> Limit:
        """From numbers."""
        return cls(name=name, asked=float(asked), found=float(found), holds=bool(holds))

    def __str__(self) -> str:
        if self.name == "target_size":
            text = f"asked {size(self.asked)}, found {size(self.found)}"
        elif self.name == "target_params" and self.asked > 1:
            text = f"asked {self.asked:,.0f}, found {self.found:,.0f}"
        else:
            text = f"asked {self.asked:g}, found {self.found:.3g}"
        return f"{self.name}: {text}"


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


class Compressed(Made):
    """What compress reports."""

    follow: ClassVar[str] = "acn-compress evaluate {out} --data {data}"
    decided_on: str
    """Rows on which candidates were compared; those of the table are others."""
    limits: tuple[Limit, ...]
    untrained_drop: Drop | None = None
    """Of what came out, before its training, on the rows that decide."""
    rows: tuple[Row, ...]
    """The original, what came out, its file in the other precision, and the plain baseline."""
    table: LatencyTable
    int8_table: LatencyTable | None = None
    """Of int8, where it took part in the search."""
    scale: float | None = None
    """What foreseen times were multiplied by after some were measured, where time is limited."""
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
        return (
            f"not reached on the rows that are reported: {'; '.join(missed)}. "
            f"{self.out} has the best that was found. Ask for less, or give it (more) --epochs."
        )

    def verdict(self) -> str:
        """What was gained and lost, beside the plain baseline, in a line."""
        whole, mine, *others = self.rows
        faster = whole.milliseconds / mine.milliseconds
        text = f"{faster:.2g}x faster, {mine.parameters / whole.parameters:.0%} of the parameters"
        text += f"{' in int8' if self.chosen.int8 else ''}, {self.change(mine.drop)}{self.unit}"
        for row in others:
            if row.name == FLOAT:
                continue
            how = "untrained" if self.training is None else "with the same training"
            name = f"dropping layers {how}" if row.name.startswith("drop") else row.name
            speed = whole.milliseconds / row.milliseconds
            text += f"; {name} ({speed:.2g}x): {self.change(row.drop)}"
        if self.chosen.int8 and mine.parameters == whole.parameters:
            text += "; nothing had to be taken out"
        return text + "."

    @property
    def unit(self) -> str:
        """Of a change, for people."""
        metric = self.rows[0].quality.metric
        return " points" if metric in POINTS else f" {metric}"

    def change(self, drop: Drop | None) -> str:
        """A drop as a change: above 0 is better."""
        if drop is None:
            return ""
        scale, digits = (100, 1) if self.unit == " points" else (1, 3)
        # adding 0 makes a negative zero a plain one
        value, low, high = (round(-scale * d, digits) + 0 for d in (drop.drop, drop.high, drop.low))
        return f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"

    def display(self) -> Iterator[Block]:
        """The frontier, the table, the verdict and where everything lies."""
        yield self._frontier()
        yield self._table()
        yield from few_lines(self.rows[0].quality.examples)
        yield from read_lines(self.read, "looked at")
        yield from read_lines(self.eval_read, "reported on")
        yield from told(f"decided on {self.decided_on}" + (f"; {self.note}" if self.note else ""))
        t = self.table
        where = f"{t.backend}, {t.batch} per call, {threads(t.threads)}"
        yield from told(f"ms: {where}.{busy_note(self.busy)} {duration(self.seconds)} in all.")
        checked = f"{size(self.onnx.bytes)}, differs from torch by {self.onnx.max_difference:.0e}"
        yield from told(f"written: {self.out}, with {onnx_file()} ({checked})")
        if self.delivered != onnx_file():
            yield from told(f"the limits are about its {self.delivered}")
        if self.int8 is not None:
            yield from told(self.int8)
        blocks = kept(self.structure.blocks, self.structure.source_blocks)
        more = "all candidates and widths: report.json, frontier.png"
        yield from told(f"blocks kept: {blocks}; {more}")
        for limit in self.limits:
            yield from told(f"{'holds' if limit.holds else 'NOT HELD'}: {limit}")
        yield from told(self.verdict())

    def _frontier(self) -> Grid:
        head = ["candidates", "params", "ms", self.rows[0].quality.metric, "change [95 %]"]
        rows = [
            [
                p.blocks_kept + (" <-" if p == self.chosen else ""),
                millions(p.parameters),
                f"{p.milliseconds:.2f}",
                f"{p.quality.value:.4f}",
                self.change(p.drop),
            ]
            for p in self.front
        ]
        return Grid("without training, on the rows that decide", head, rows)

    def _table(self) -> Grid:
        head = ["model", "params", "ms", "faster", self.rows[0].quality.metric, "change [95 %]"]
        whole = self.rows[0]
        rows = [
            [
                row.name,
                millions(row.parameters),
                f"{row.milliseconds:.2f}",
                f"{whole.milliseconds / row.milliseconds:.2f}x",
                f"{row.quality.value:.4f}",
                self.change(row.drop),
            ]
            for row in self.rows
        ]
        return Grid(f"reported on {self.eval_data}, n = {whole.quality.examples:,}", head, rows)


def millions(count: int) -> str:
    """Parameters for people."""
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"
