"""How far a latency table is from what it predicts: networks of random widths and depths, predicted
and then timed.

    python -m benchmarks.latency MODEL [--loads 1x32,8x128] [--backend onnx]

A load is examples per call x tokens of a text. The widths of every block are drawn evenly from one
unit to all, every other network has fewer blocks. All are timed interleaved with the whole network,
and the error is that of the share of the whole network's time (goal: within 10 %), so that the
machine of the table need not be as quiet as that of the check. Writes latency-NAME.json.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from acn_compress.backends import BACKENDS
from acn_compress.backends.base import Load
from acn_compress.backends.latency import Stopwatch, busy, milliseconds
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import machine
from acn_compress.checkpoint.source import Source
from acn_compress.found import Found
from acn_compress.measure.latency import LatencyTable, Sizes
from acn_compress.network import widths
from acn_compress.network.network import Network
from benchmarks.command import RESULTS, parser, rounded, write

GOAL = 0.1


class Row(Found):
    """One network, in milliseconds, and its share of the whole network's."""

    sizes: list[dict[str, int]]
    predicted: float
    measured: float
    predicted_share: float
    measured_share: float
    error: float
    """Of the share, relative to the measured one."""


class Checked(Found):
    """A table, and what it predicted."""

    table: LatencyTable
    seconds: float
    """That the table took."""
    processor_seconds: float
    whole_predicted: float
    whole_measured: float
    busy: float
    """Of the check: the largest median over its fastest sample."""
    rows: list[Row]
    worst: float
    mean: float


@dataclass(frozen=True)
class Check:
    """What is checked, and how."""

    net: Network
    source: Source
    backend: str
    networks: int
    rounds: int
    seed: int

    def drawn(self) -> list[Sizes]:
        """Random networks, every other one with fewer blocks."""
        rng, whole = random.Random(self.seed), widths.counts(self.net)
        found = []
        for number in range(self.networks):
            depth = rng.randint(1, max(1, len(whole) - 1)) if number % 2 else len(whole)
            blocks = whole[:depth]
            found.append(tuple({k: rng.randint(1, n) for k, n in b.items()} for b in blocks))
        return found

    def __call__(self, load: Load) -> Checked:
        """A table of one load, and its check."""
        started, worked = time.perf_counter(), time.process_time()
        watch = Stopwatch(self.net, self.source, load, self.backend)
        table = watch.table()
        took, work = time.perf_counter() - started, time.process_time() - worked
        sizes = [tuple(widths.counts(self.net)), *self.drawn()]
        seconds = watch.seconds([watch.plan(blocks) for blocks in sizes], self.rounds)
        whole, *times = milliseconds(seconds)
        expected = table.milliseconds(sizes[0])
        rows = [
            row(blocks, table.milliseconds(blocks), expected, milliseconds, whole)
            for blocks, milliseconds in zip(sizes[1:], times, strict=True)
        ]
        errors = [abs(r.error) for r in rows]
        return Checked(
            table=table,
            seconds=took,
            processor_seconds=work,
            whole_predicted=expected,
            whole_measured=whole,
            busy=busy(seconds),
            rows=rows,
            worst=max(errors),
            mean=float(np.mean(errors)),
        )


def row(
    sizes: Sizes, predicted: float, whole_predicted: float, measured: float, whole_measured: float
) -> Row:
    """Of one network."""
    expected, found = predicted / whole_predicted, measured / whole_measured
    return Row(
        sizes=list(sizes),
        predicted=predicted,
        measured=measured,
        predicted_share=expected,
        measured_share=found,
        error=expected / found - 1,
    )


def in_words(load: Load, found: Checked) -> str:
    """Lines for the screen."""
    lines = [
        f"{len(r.sizes)} blocks: {r.predicted:.2f} ms predicted, {r.measured:.2f} measured; "
        f"of the whole {r.predicted_share:.1%} and {r.measured_share:.1%}: {r.error:+.1%}"
        for r in found.rows
    ]
    last = (
        f"{load.batch} x {load.length}: worst {found.worst:.1%}, mean {found.mean:.1%} "
        f"(busy {found.busy:.2f}); the table took {found.seconds:.0f} s, "
        f"{found.processor_seconds:.0f} s of the processor"
    )
    return "\n".join([*lines, last])


def load_of(text: str, threads: int) -> Load:
    """The load that `text` (1x32) says."""
    batch, length = map(int, text.split("x"))
    return Load(batch, length, threads)


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("source", type=Path, help="the network")
    command.add_argument("--loads", default="1x32,8x128")
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("--backend", choices=BACKENDS, default="onnx")
    command.add_argument("--networks", type=int, default=10)
    command.add_argument("--rounds", type=int, default=15)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--out", type=Path, help="default: results/latency-NAME.json")
    options = command.parse_args()
    source = find_source(options.source)
    how = options.backend, options.networks, options.rounds, options.seed
    check, found = Check(load_source(source), source, *how), {}
    for text in options.loads.split(","):
        load = load_of(text, options.threads)
        found[text] = check(load)
        print(in_words(load, found[text]), flush=True)
    report = {
        "benchmark": "latency",
        "source": options.source.name,
        "weights_sha256": source.sha256(),
        "seed": options.seed,
        "goal": GOAL,
        "machine": machine(),
        "loads": found,
    }
    out = options.out or RESULTS / f"latency-{options.source.name}.json"
    write(out, rounded(report))


if __name__ == "__main__":
    main()
