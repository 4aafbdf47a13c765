"""benchmark: seconds and bytes side by side. Threads are fixed, variants interleaved round by round, and a difference that is
not larger than its own noise is not called one."""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acn_compress import checkpoint, modeldir
from acn_compress.budget import flops_per_example
from acn_compress.errors import ConfigError
from acn_compress.onnx_model import file_bytes, inputs_for, session, write_onnx

SAMPLE = 0.005  # seconds a sample takes at least: shorter calls are repeated within it
SMALLEST = 0.05  # a ratio closer to 1 than this is not called a difference, however narrow its interval
NO_DIFFERENCE = "no difference beyond noise"
UNCLEAR = "unclear: the machine was busy"
BUSY = 2.0  # a median above this many times its fastest sample means that something else used the processor


@dataclass
class Variant:
    """One thing to time."""

    source: str
    backend: str
    call: Callable[[], Any]
    facts: dict[str, Any]


def benchmark(
    sources: Sequence[str | Path],
    *,
    batch_size: int = 1,
    threads: int = 1,
    repeats: int = 30,
    warmup: int = 3,
    length: int = 128,
    backends: tuple[str, ...] = ("torch", "onnx"),
) -> dict[str, Any]:
    """Time models against the first one.

    Args:
        sources: model directories, Hub ids, directories with a model.onnx, or .onnx files.
        batch_size: examples per call.
        threads: of torch and of ONNX Runtime.
        repeats: rounds; in each, every variant runs once, in a new order.
        length: tokens per text, or fewer where the model takes no more.
        backends: "torch" and "onnx"; a model directory is exported for "onnx", an .onnx file has no "torch" row.
    Returns:
        rows: source, backend, median, q1, q3, min (seconds per call), ratio to the first source with the same backend and its
        95 % interval, verdict, parameters, flops (per example), bytes; the machine; and busy: the largest median over its fastest
        sample, which tells how far other work disturbed the timing.
    Raises:
        AcnError: in one line.
    """
    unknown = [b for b in backends if b not in {"torch", "onnx"}]
    if unknown or not backends:
        raise ConfigError(f"backend '{', '.join(unknown)}' is not known. Known: torch, onnx.")
    if not sources:
        raise ConfigError("benchmark needs at least one model.")
    with tempfile.TemporaryDirectory() as scratch, _threads(threads):
        variants: list[Variant] = []
        for number, src in enumerate(sources):
            variants += _variants(str(src), backends, batch_size, threads, length, Path(scratch) / f"{number}.onnx")
        seconds = interleave([v.call for v in variants], repeats, warmup)
    rows = []
    for i, variant in enumerate(variants):
        first = next(j for j, v in enumerate(variants) if v.backend == variant.backend)
        rows.append(
            {
                "source": variant.source,
                "backend": variant.backend,
                **_spread(seconds[i]),
                **judge(seconds[i], seconds[first], i == first),
                **variant.facts,
            }
        )
    return {
        "step": "benchmark",
        "batch_size": batch_size,
        "threads": threads,
        "repeats": repeats,
        "rows": rows,
        "busy": round(max(row["median"] / row["min"] for row in rows), 2),
        "machine": modeldir.machine(),
    }


def _variants(src: str, backends: tuple[str, ...], batch: int, threads: int, length: int, scratch: Path) -> list[Variant]:
    onnx_file = _onnx_file(Path(src).expanduser())
    if onnx_file is not None:
        if "onnx" not in backends:
            raise ConfigError(f"{src} is an ONNX model, and backend onnx is not among those asked for.")
        return [_onnx_variant(src, onnx_file, batch, threads, length, {})]
    source = modeldir.find_source(src)
    model = checkpoint.load_source(source)
    inputs = inputs_for(model, batch, length, 0)
    facts = {"parameters": checkpoint.parameters(model), "flops": flops_per_example(model, inputs), "bytes": source.bytes()}
    found = []
    if "torch" in backends:

        def call() -> Any:
            with torch.inference_mode():
                return model(**inputs)

        found.append(Variant(src, "torch", call, facts))
    if "onnx" in backends:
        write_onnx(copy.deepcopy(model) if found else model, scratch, source)
        found.append(_onnx_variant(src, scratch, batch, threads, length, facts))
    return found


def _onnx_file(path: Path) -> Path | None:
    if path.suffix == ".onnx" and path.is_file():
        return path
    return path / "model.onnx" if (path / "model.onnx").is_file() else None


def _onnx_variant(src: str, path: Path, batch: int, threads: int, length: int, facts: dict[str, Any]) -> Variant:
    running = session(path, threads)
    rng = np.random.default_rng(0)
    length = min(length, int(running.get_modelmeta().custom_metadata_map.get("max_length", length)))
    feeds: dict[str, Any] = {}
    for spec in running.get_inputs():
        shape = [batch if i == 0 else d if isinstance(d, int) else length for i, d in enumerate(spec.shape)]
        if spec.type == "tensor(int64)":
            feeds[spec.name] = np.ones(shape, dtype="int64")
        else:
            feeds[spec.name] = rng.standard_normal(shape).astype("float32")
    return Variant(src, "onnx", lambda: running.run(None, feeds), facts | {"bytes": file_bytes(path)})


def interleave(
    calls: Sequence[Callable[[], Any]], repeats: int, warmup: int = 3, clock: Callable[[], float] = time.perf_counter
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


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    q1, median, q3 = np.quantile(seconds, (0.25, 0.5, 0.75))
    return {"median": float(median), "q1": float(q1), "q3": float(q3), "min": float(np.min(seconds))}


def judge(seconds: Sequence[float], first: Sequence[float], is_first: bool = False) -> dict[str, Any]:
    """The ratio of medians (first / this: above 1 is faster), its bootstrap 95 % interval over rounds, and a verdict.

    Samples whose median is above `BUSY` times the fastest are not judged. A difference is called one only if the interval excludes 1,
    the ratio is not within `SMALLEST` of 1, and the fastest samples say the same: other work on the machine only ever adds time, so a
    gain that the fastest samples do not show is that work's.
    """
    if is_first:
        return {"ratio": 1.0, "ratio_low": 1.0, "ratio_high": 1.0, "verdict": "the measure of the others"}
    mine, theirs = np.asarray(seconds), np.asarray(first)
    rng = np.random.default_rng(0)
    rounds = rng.integers(0, len(mine), (2000, len(mine)))
    ratios = np.median(theirs[rounds], 1) / np.median(mine[rounds], 1)
    ratio, (low, high) = float(np.median(theirs) / np.median(mine)), np.quantile(ratios, (0.025, 0.975))
    fastest = float(np.min(theirs) / np.min(mine))
    if max(np.median(s) / np.min(s) for s in (mine, theirs)) > BUSY:
        verdict = UNCLEAR
    elif low <= 1 <= high or abs(ratio - 1) < SMALLEST or (fastest - 1) * (ratio - 1) <= 0:
        verdict = NO_DIFFERENCE
    else:
        verdict = f"faster {ratio:.2f}x" if ratio > 1 else f"slower {1 / ratio:.2f}x"
    return {"ratio": ratio, "ratio_low": float(low), "ratio_high": float(high), "verdict": verdict}


@contextmanager
def _threads(number: int) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
