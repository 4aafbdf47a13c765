"""benchmark: seconds and bytes side by side, with fixed threads (timing.py says how)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.errors import ConfigError
from acn_compress.measure.budget import flops_per_example
from acn_compress.measure.timing import fixed_threads, interleave, judge, spread
from acn_compress.onnx.write import file_bytes, inputs_for, session, write_onnx


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
        backends: "torch" and "onnx"; a model directory is exported for "onnx", an .onnx file has no
            "torch" row.
    Returns:
        rows: source, backend, median, q1, q3, min (seconds per call), ratio to the first source
            with the same backend and its
        95 % interval, verdict, parameters, flops (per example), bytes; the machine; and busy: the
        largest median over its fastest sample, which tells how far other work disturbed the timing.
    Raises:
        AcnError: in one line.
    """
    unknown = [b for b in backends if b not in {"torch", "onnx"}]
    if unknown or not backends:
        raise ConfigError(f"backend '{', '.join(unknown)}' is not known. Known: torch, onnx.")
    if not sources:
        raise ConfigError("benchmark needs at least one model.")
    with tempfile.TemporaryDirectory() as scratch, fixed_threads(threads):
        variants: list[Variant] = []
        for number, src in enumerate(sources):
            variants += _variants(
                str(src), backends, batch_size, threads, length, Path(scratch) / f"{number}.onnx"
            )
        seconds = interleave([v.call for v in variants], repeats, warmup)
    rows = []
    for i, variant in enumerate(variants):
        first = next(j for j, v in enumerate(variants) if v.backend == variant.backend)
        rows.append(
            {
                "source": variant.source,
                "backend": variant.backend,
                **spread(seconds[i]),
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


def _variants(
    src: str, backends: tuple[str, ...], batch: int, threads: int, length: int, scratch: Path
) -> list[Variant]:
    onnx_file = _onnx_file(Path(src).expanduser())
    if onnx_file is not None:
        if "onnx" not in backends:
            raise ConfigError(
                f"{src} is an ONNX model, and backend onnx is not among those asked for."
            )
        return [_onnx_variant(src, onnx_file, batch, threads, length, {})]
    source = modeldir.find_source(src)
    net = checkpoint.load_source(source)
    inputs = inputs_for(net, batch, length, 0)
    facts = {
        "parameters": net.parameters,
        "flops": flops_per_example(net, inputs),
        "bytes": source.bytes(),
    }
    found = []
    if "torch" in backends:

        def call() -> Any:
            with torch.inference_mode():
                return net(**inputs)

        found.append(Variant(src, "torch", call, facts))
    if "onnx" in backends:
        write_onnx(net.copy() if found else net, scratch, source)
        found.append(_onnx_variant(src, scratch, batch, threads, length, facts))
    return found


def _onnx_file(path: Path) -> Path | None:
    if path.suffix == ".onnx" and path.is_file():
        return path
    return path / "model.onnx" if (path / "model.onnx").is_file() else None


def _onnx_variant(
    src: str, path: Path, batch: int, threads: int, length: int, facts: dict[str, Any]
) -> Variant:
    running = session(path, threads)
    rng = np.random.default_rng(0)
    length = min(length, int(running.get_modelmeta().custom_metadata_map.get("max_length", length)))
    feeds: dict[str, Any] = {}
    for spec in running.get_inputs():
        shape = [
            batch if i == 0 else d if isinstance(d, int) else length
            for i, d in enumerate(spec.shape)
        ]
        if spec.type == "tensor(int64)":
            feeds[spec.name] = np.ones(shape, dtype="int64")
        else:
            feeds[spec.name] = rng.standard_normal(shape).astype("float32")
    return Variant(
        src, "onnx", lambda: running.run(None, feeds), facts | {"bytes": file_bytes(path)}
    )
