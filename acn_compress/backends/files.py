"""ONNX files side by side on real rows: what they answer beside the source, and what a call
takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from acn_compress.backends.base import Load
from acn_compress.backends.latency import busy, clock_for, milliseconds
from acn_compress.data.load import Data
from acn_compress.found import Found
from acn_compress.measure.original import Original
from acn_compress.measure.quality import Scores, paired, summary
from acn_compress.measure.timing import interleave
from acn_compress.onnx.scores import measure_file
from acn_compress.onnx.session import Session
from acn_compress.quality import Below, Drop, Quality

ROUNDS = 15


class MeasuredFile(Found):
    """A file on rows of data, timed beside the others."""

    quality: Quality
    drop: Drop
    """From the source in torch, paired."""
    original: Below | None = None
    """The original of the chain, on the same rows."""
    milliseconds: float
    """Of a call, as `benchmark` makes it: one example, one thread."""
    busy: float
    """How far other work disturbed the timing of all files: the largest median over its fastest
    sample."""


def measure_files(
    files: Sequence[Path],
    data: Data,
    source: Scores,
    original: Original | None = None,
    *,
    batch_size: int = 64,
    seed: int = 0,
) -> list[MeasuredFile]:
    """Measure and time files side by side.

    Args:
        data: the rows.
        source: what the network in torch scores on them.
        original: what the original of the chain does.
        batch_size: examples that are run at once where they are measured.
        seed: of the intervals.
    """
    scores = [measure_file(file, data, batch_size=batch_size) for file in files]
    times, disturbed = time_files(files)
    return [
        MeasuredFile(
            quality=summary(own, data.task, seed=seed),
            drop=paired(own, source, seed=seed),
            original=None if original is None else original.below(own),
            milliseconds=ms,
            busy=disturbed,
        )
        for own, ms in zip(scores, times, strict=True)
    ]


def time_files(files: Sequence[Path]) -> tuple[list[float], float]:
    """Milliseconds of a call of each file, interleaved; and how far other work disturbed them."""
    load = Load()
    running = [Session(file, load.threads) for file in files]
    feeds = running[0].feeds(load.batch, load.length)
    calls = [lambda s=session: s.run(None, feeds) for session in running]
    seconds = np.asarray(interleave(calls, ROUNDS, clock=clock_for(load.threads)))
    return milliseconds(seconds), busy(seconds)
