"""Models timed against each other: seconds and bytes, with fixed threads (`timing.py` says how)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from acn_compress.backends import BACKENDS
from acn_compress.backends.base import Checkpoint, Load, OnnxFile, Variant
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import machine
from acn_compress.checkpoint.scratch import scratch
from acn_compress.errors import ConfigError, ModelDirError
from acn_compress.measure.budget import flops_per_example
from acn_compress.measure.timing import fixed_threads, interleave, judge, spread
from acn_compress.onnx.inputs import inputs_for, picture_size
from acn_compress.onnx.layout import beside, find_onnx
from acn_compress.options import ModelSpec
from acn_compress.reports.measured import Benchmarked, Timed


def race(
    sources: Sequence[ModelSpec],
    backends: Sequence[str],
    load: Load,
    *,
    repeats: int = 30,
    warmup: int = 3,
    device: str = "cpu",
) -> Benchmarked:
    """Time models against the first one.

    Args:
        sources: model directories, Hub ids, directories with an ONNX file, or ONNX files.
        backends: names in `BACKENDS`.
        load: what a call has to do.
        repeats: rounds; in each, every variant runs once, in a new order.
        warmup: calls before.
        device: of the networks in torch.
    Raises:
        AcnError: in one line.
    """
    unknown = [b for b in backends if b not in BACKENDS]
    if unknown or not backends:
        known = ", ".join(BACKENDS)
        raise ConfigError(f"backend '{', '.join(unknown)}' is not known. Known: {known}.")
    if not sources:
        raise ConfigError("benchmark needs at least one model.")
    with scratch() as place, fixed_threads(load.threads):
        variants = list(_variants(sources, backends, load, place, device))
        seconds = interleave([v.call for v in variants], repeats, warmup)
    rows = tuple(_rows(variants, seconds))
    return Benchmarked(
        step="benchmark",
        batch_size=load.batch,
        threads=load.threads,
        device=device,
        repeats=repeats,
        rows=rows,
        remarks=tuple(_remarks(sources)),
        busy=round(max(row.median / row.min for row in rows), 2),
        machine=machine(),
    )


def _find(src: ModelSpec, load: Load, device: str) -> OnnxFile | Checkpoint:
    """Find what the user named, and load it.

    Raises:
        AcnError: in one line.
    """
    if (path := find_onnx(src)) is not None:
        return OnnxFile(str(src), path)
    if Path(src).suffix == ".onnx":
        raise ModelDirError(f"{src}: no such file.")
    source = find_source(src)
    net = load_source(source, device=device)
    inputs = inputs_for(net, load.batch, load.length, 0, picture_size(net, source))
    return Checkpoint(str(src), net, source, inputs, flops_per_example(net, inputs))


def _remarks(sources: Sequence[ModelSpec]) -> Iterator[str]:
    """Which file of a directory was taken, where several lie in it."""
    for src in sources:
        path = find_onnx(src)
        if path is not None and path != Path(src) and (others := beside(path)):
            yield f"{src}: {others}."


def _variants(
    sources: Sequence[ModelSpec], backends: Sequence[str], load: Load, scratch: Path, device: str
) -> Iterator[Variant]:
    for number, src in enumerate(sources):
        subject = _find(src, load, device)
        place = scratch / str(number)
        place.mkdir()
        found = [BACKENDS[name].variant(subject, load, place) for name in backends]
        if not any(found):
            raise ConfigError(
                f"{src} is an ONNX model, and backend onnx is not among those asked for."
            )
        yield from (variant for variant in found if variant is not None)


def _rows(variants: list[Variant], seconds: list[list[float]]) -> Iterator[Timed]:
    """A variant is judged against the first in the same backend."""
    firsts: dict[str, list[float]] = {}
    for variant, own in zip(variants, seconds, strict=True):
        first = firsts.setdefault(variant.backend, own)
        yield Timed(
            source=variant.source,
            backend=variant.backend,
            parameters=variant.parameters,
            flops=variant.flops,
            bytes=variant.bytes,
            **spread(own),
            **judge(own, first, own is first),
        )
