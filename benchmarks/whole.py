"""A trained network and what is measured on: what commands share that cut one without training."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import machine
from acn_compress.checkpoint.source import Source
from acn_compress.data.load import Data, load_data
from acn_compress.data.splits import eval_split
from acn_compress.found import Found
from acn_compress.measure.quality import Scores, measure, summary
from acn_compress.network.network import Network
from acn_compress.options import Trained
from benchmarks.command import RESULTS, parser


def arguments(text: str | None) -> argparse.ArgumentParser:
    """The options of such a command."""
    command = parser(text)
    command.add_argument("source", type=Path, help="the trained network")
    command.add_argument("--data", required=True, help="folder with the parquet files")
    command.add_argument("--results", type=Path, default=RESULTS)
    return command


@dataclass(frozen=True)
class Whole:
    """The uncut network, and how it does on the test split."""

    source: Source
    how: Trained
    net: Network
    test: Data
    scores: Scores
    seconds: float
    """Of the processor, for measuring it."""

    @classmethod
    def read(cls, place: Path, data: str) -> Whole:
        """From the disk."""
        source, how = find_source(place), Trained(data=data, eval_data=f"{data}:test")
        net = load_source(source)
        test = eval_split(how, net, source)
        assert test is not None
        started = time.process_time()
        scores = measure(net, test)
        return cls(source, how, net, test, scores, time.process_time() - started)

    def rows(self, limit: int, seed: int) -> Data:
        """Training rows that are looked at, drawn from a seed."""
        return load_data(self.how.data, self.net, self.source, role="train", limit=limit, seed=seed)

    def report(
        self, benchmark: str, name: str, rows: Sequence[Found], **more: object
    ) -> dict[str, object]:
        """What is written."""
        return {
            "benchmark": benchmark,
            "source": name,
            "weights_sha256": self.source.sha256(),
            **more,
            "whole": summary(self.scores, self.test.task),
            "machine": machine(),
            "rows": rows,
        }
