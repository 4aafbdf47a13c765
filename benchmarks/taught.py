"""What keeping a teacher's answers saves (`--cache-teacher`).

    python -m benchmarks.taught [--out benchmarks/results/taught.json]

Trainings of a ViT of 12 blocks (the widths of ViT-Tiny, 17 tokens) and of its first half, taught by
the whole one on random images, with the teacher asked in every step and with its answers kept:
seconds of the processor for the whole training over several epochs, asking once included, and for
an epoch alone. Rounds of both by turns; medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from acn_compress.checkpoint.provenance import machine
from acn_compress.data.load import Data
from acn_compress.network.network import Network
from acn_compress.options import Trained
from acn_compress.tasks import TASKS
from acn_compress.training.fit import fit
from benchmarks.command import RESULTS, parser, write
from benchmarks.overhead import BATCH, Images, network

EXAMPLES, EPOCHS, ROUNDS = 128, 4, 2
STUDENTS: dict[str, tuple[int, dict[str, Any]]] = {
    "12 of 12 blocks, answers": (12, {}),
    "6 of 12 blocks, answers": (6, {}),
    "6 of 12 blocks, answers and hidden states": (6, {"hidden_weight": 1.0}),
}


class Placed(Images):
    """Examples that say their places."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"index": index, **super().__getitem__(index)}


def student(depth: int) -> Network:
    """The first blocks."""
    net = network("residual")
    net.keep_(range(depth))
    return net


def seconds(depth: int, how: dict[str, Any], epochs: int, cached: bool) -> float:
    """Of a training."""
    net, teacher = student(depth), network("residual")
    data = Data("random", TASKS["image-classification"], Placed(EXAMPLES))
    options = Trained(batch_size=BATCH, epochs=epochs, cache_teacher=cached, **how)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as cache:
        datasets.config.HF_DATASETS_CACHE = Path(cache)
        fit(net, data, options, teacher=teacher)
    return time.process_time() - started


def rows() -> Iterator[tuple[str, dict[str, float]]]:
    """Of every student: medians of the rounds."""
    for name, (depth, how) in STUDENTS.items():
        found: dict[tuple[int, bool], list[float]] = {}
        for _ in range(ROUNDS):
            for epochs in (1, EPOCHS):
                for cached in (False, True):
                    taken = seconds(depth, how, epochs, cached)
                    found.setdefault((epochs, cached), []).append(taken)
        middle = {key: statistics.median(values) for key, values in found.items()}
        epoch = {c: (middle[EPOCHS, c] - middle[1, c]) / (EPOCHS - 1) for c in (False, True)}
        yield (
            name,
            {
                "seconds": middle[EPOCHS, False],
                "seconds_kept": middle[EPOCHS, True],
                "saved_of_a_training": 1 - middle[EPOCHS, True] / middle[EPOCHS, False],
                "saved_of_an_epoch": 1 - epoch[True] / epoch[False],
            },
        )


def main() -> None:
    """The command."""
    command: argparse.ArgumentParser = parser(__doc__)
    command.add_argument("--out", type=Path, default=RESULTS / "taught.json", help="the JSON file")
    options = command.parse_args()
    found = {}
    for name, row in rows():
        found[name] = {key: round(value, 3) for key, value in row.items()}
        print(name, found[name], flush=True)
    sizes = {"examples": EXAMPLES, "epochs": EPOCHS, "batch": BATCH, "rounds": ROUNDS}
    write(options.out, {"machine": machine(), "sizes": sizes, "students": found})


if __name__ == "__main__":
    main()
