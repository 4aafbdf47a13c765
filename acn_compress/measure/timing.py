"""Timing that other work on the machine cannot turn into a claim: calls are interleaved round by
round, and a difference that is not larger than its own noise is not called one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

SAMPLE = 0.005  # seconds a sample takes at least: shorter calls are repeated within it
SMALLEST = (
    0.05  # a ratio closer to 1 than this is not called a difference, however narrow its interval
)
NO_DIFFERENCE = "no difference beyond noise"
FIRST = "the measure of the others"
UNCLEAR = "unclear: the machine was busy"
# a median above this many times its fastest sample: something else used the processor
BUSY = 2.0


def interleave(
    calls: Sequence[Callable[[], Any]],
    repeats: int,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> list[list[float]]:
    """Seconds of every call, [calls][repeats]: round by round, so that what disturbs the machine
    disturbs all; order rotated; a sample is the mean of as many calls as fill `SAMPLE` seconds."""
    loops = []
    for call in calls:
        started = clock()
        for _ in range(warmup):
            call()
        loops.append(max(1, min(1000, math.ceil(SAMPLE * warmup / max(clock() - started, 1e-9)))))
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(repeats):
        for i in range(len(calls)):
            at = (i + number) % len(calls)
            started = clock()
            for _ in range(loops[at]):
                calls[at]()
            seconds[at].append((clock() - started) / loops[at])
    return seconds


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """median, q1, q3 and min of the samples of one call, in seconds."""
    q1, median, q3 = np.quantile(seconds, (0.25, 0.5, 0.75))
    return {
        "median": float(median),
        "q1": float(q1),
        "q3": float(q3),
        "min": float(np.min(seconds)),
    }


def judge(
    seconds: Sequence[float],
    first: Sequence[float],
    is_first: bool = False,
    quantile: float = 0.5,
) -> dict[str, Any]:
    """The ratio of medians, or of another quantile (first / this: above 1 is faster), its bootstrap
    95 % interval over rounds, and a verdict.

    Samples whose median is above `BUSY` times the fastest are not judged. A difference is called
    one only if the interval excludes 1, the ratio is not within `SMALLEST` of 1, and the fastest
    samples say the same: other work on the machine only ever adds time, so a gain that the fastest
    samples do not show is that work's.
    """
    if is_first:
        return {
            "ratio": 1.0,
            "ratio_low": 1.0,
            "ratio_high": 1.0,
            "verdict": FIRST,
        }
    mine, theirs = np.asarray(seconds), np.asarray(first)
    rng = np.random.default_rng(0)
    rounds = rng.integers(0, len(mine), (2000, len(mine)))
    ratios = np.quantile(theirs[rounds], quantile, 1) / np.quantile(mine[rounds], quantile, 1)
    ratio = float(np.quantile(theirs, quantile) / np.quantile(mine, quantile))
    low, high = np.quantile(ratios, (0.025, 0.975))
    fastest = float(np.min(theirs) / np.min(mine))
    if max(np.median(s) / np.min(s) for s in (mine, theirs)) > BUSY:
        verdict = UNCLEAR
    elif low <= 1 <= high or abs(ratio - 1) < SMALLEST or (fastest - 1) * (ratio - 1) <= 0:
        verdict = NO_DIFFERENCE
    else:
        verdict = f"faster {ratio:.2f}x" if ratio > 1 else f"slower {1 / ratio:.2f}x"
    return {"ratio": ratio, "ratio_low": float(low), "ratio_high": float(high), "verdict": verdict}


@contextmanager
def fixed_threads(number: int) -> Iterator[None]:
    """Inside, torch computes with this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
