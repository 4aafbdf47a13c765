"""What one compress works with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from acn_compress.backends.base import Load
from acn_compress.backends.latency import Stopwatch
from acn_compress.checkpoint.scratch import scratch
from acn_compress.checkpoint.source import Source
from acn_compress.compression.calibration import ROWS
from acn_compress.compression.candidates import Candidates
from acn_compress.compression.frontier import Frontier
from acn_compress.compression.notes import Notes
from acn_compress.data.load import Data
from acn_compress.data.splits import Held, held_apart
from acn_compress.events import Progress, Stage
from acn_compress.measure.latency import LatencyTable
from acn_compress.measure.original import Original, held_to
from acn_compress.measure.quality import Scores, measure
from acn_compress.network.network import Network
from acn_compress.onnx.layout import FILES
from acn_compress.onnx.precision import write_int8
from acn_compress.onnx.scores import measure_file
from acn_compress.onnx.write import write_onnx
from acn_compress.options import Compress


def looked_at(how: Compress) -> Compress:
    """The options by which rows are read: without training a few are enough."""
    return how if how.trains else how.changed(limit=min(how.limit or ROWS, ROWS), augment=None)


@dataclass
class Job:
    """The network, the rows, the options, and what was measured.

    Args:
        whole: the network of `source`; not changed.
        notes: what is known, so that an interrupted one can go on.
        calmest: the least milliseconds that the whole network was seen to take while candidates
            were timed.
    """

    source: Source
    how: Compress
    out: Path
    whole: Network
    rows: Held
    notes: Notes
    progress: Progress | None
    calmest: float = math.inf

    @cached_property
    def watch(self) -> Stopwatch:
        """Times networks that are cut from the whole one."""
        how = self.how
        load = Load(how.calls, how.length, how.threads)
        return Stopwatch(self.whole, self.source, load, how.backend, how.chooses_precision)

    @cached_property
    def original(self) -> Original | None:
        """On the rows that decide, if drops are from it."""
        if self.how.max_drop is None or self.how.against == "source":
            return None
        found = Original.of(
            self.source,
            self.rows.deciding,
            lambda other, place: self.rows_for(other, place).deciding,
            known=self.source,
            scores=self.scores,
            net=self.whole,
        )
        return held_to(found, self.how.against, self.scores, self.source, self.rows.deciding)

    @cached_property
    def scores(self) -> Scores:
        """Of the whole network on the rows that decide."""
        return measure(self.whole, self.rows.deciding)

    def rows_for(self, other: Network, place: Source) -> Held:
        """The same rows as another network reads them."""
        return held_apart(looked_at(self.how), other, place, answered=False)

    @cached_property
    def frontier(self) -> Frontier:
        """What can be made of the network, and what of it was measured."""
        original = self.original  # it may not be there, so first
        tables = self._tables()
        self.tell(f"looking at the network with {min(len(self.rows.training), ROWS):,} rows")
        return Frontier(
            Candidates.of(self.whole, self.rows.training),
            tables,
            self.how.timed or not self.how.sized,
            self.rows.deciding,
            self.scores if original is None else original.scores,
            lambda net: self.measured_in_int8(net, self.rows.deciding),
            list(self.notes.found.points),
            lambda points: self.notes.add(points=tuple(points)),
            self.progress,
        )

    def _tables(self) -> dict[bool, LatencyTable]:
        """Of the precisions that take part in the search."""
        known = self.notes.found
        if known.table is None:
            self.tell(f"measuring what the parts of {self.source.name} take in {self.how.backend}")
            tables = self.watch.tables()
            self.notes.add(table=tables[False], int8_table=tables.get(True))
            return tables
        tables = {False: known.table}
        return tables if known.int8_table is None else tables | {True: known.int8_table}

    def measured_in_int8(self, net: Network, data: Data) -> Scores:
        """The scores of a network's int8 file."""
        with scratch() as place:
            file = place / FILES[None]
            write_onnx(net.copy(), file, self.source, seed=self.how.seed)
            return measure_file(write_int8(file), data)

    def measured(self, net: Network, data: Data, int8: bool) -> Scores:
        """The scores of a network, or of its int8 file."""
        return self.measured_in_int8(net, data) if int8 else measure(net, data)

    def tell(self, text: str) -> None:
        """Say what is being done."""
        if self.progress is not None:
            self.progress(Stage(text=text))
