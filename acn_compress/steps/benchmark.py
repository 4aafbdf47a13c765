"""benchmark: seconds and bytes side by side."""

from __future__ import annotations

from collections.abc import Sequence

from acn_compress.backends.base import Load
from acn_compress.backends.race import race
from acn_compress.events import Progress
from acn_compress.network.device import find_device
from acn_compress.options import Benchmark, ModelSpec
from acn_compress.reports.measured import Benchmarked


def run(
    sources: Sequence[ModelSpec], how: Benchmark, progress: Progress | None = None
) -> Benchmarked:
    """Time models against the first one, in every backend that runs them."""
    load = Load(how.batch_size, how.length, how.threads)
    return race(
        sources,
        how.backends,
        load,
        repeats=how.repeats,
        warmup=how.warmup_rounds,
        device=find_device(how.device),
    )
