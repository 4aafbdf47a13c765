"""The latency table of a network: what its blocks and their widths cost in milliseconds, here and
now.

Timed are the whole network, its first block alone, and networks in which all blocks keep a share of
the units of one width; all interleaved, so that other work on the machine disturbs all alike. The
latter have as many blocks as the whole, up to `DEPTH`: from networks of one or two blocks, MiniLM's
at batch 1 were told up to 18 % too little, as so few weights stay in the processor's caches from
call to call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from acn_compress.backends import BACKENDS
from acn_compress.backends.base import Backend, Checkpoint, Load
from acn_compress.checkpoint.scratch import scratch
from acn_compress.checkpoint.source import Source
from acn_compress.errors import ConfigError
from acn_compress.measure.latency import Curve, LatencyTable, Sizes, parts
from acn_compress.measure.timing import fixed_threads, interleave
from acn_compress.network import widths
from acn_compress.network.network import Network
from acn_compress.onnx.inputs import inputs_for, picture_size

DEPTH = 6  # blocks of a cut network, at most: an export takes time for every block
SHARES = (2, 16)  # a cut network keeps one of so many units of a width
# of the samples of a network: other work on the machine only ever adds time
QUANTILE = 0.25

Array = np.ndarray[Any, np.dtype[np.float64]]
Call = Callable[[], object]
Clock = Callable[[], float]
Shape = tuple[tuple[int, ...], Sizes]  # the blocks that a network has, and the units they keep


def latency_table(
    net: Network,
    source: Source,
    load: Load,
    backend: str = "onnx",
    rounds: int = 15,
    clock: Clock | None = None,
) -> LatencyTable:
    """Measure the table of a network.

    Args:
        net: not changed.
        source: where it came from.
        load: what a call has to do.
        backend: a name in `BACKENDS`.
        rounds: in each, every network runs once.
        clock: seconds; None is `clock_for` the threads.
    Raises:
        ConfigError: if there is no such backend.
        AcnError: in one line, if it cannot run the network.
    """
    _check(backend, rounds)
    sizes = tuple(widths.counts(net))
    cuts = _cuts(sizes)
    shapes: list[Shape] = [(tuple(range(net.depth)), sizes), ((0,), sizes[:1])]
    shapes += [(_spread(net.depth), cut) for _, cut in cuts]
    seconds = seconds_of(net, shapes, source, load, backend, rounds, clock)
    whole, first, *times = milliseconds(seconds)
    curves = _curves(cuts, times)
    outside, fixed = parts(whole, sizes, first, curves)
    return LatencyTable(
        backend=backend,
        batch=load.batch,
        length=load.length,
        threads=load.threads,
        rounds=rounds,
        busy=busy(seconds),
        outside=outside,
        fixed=fixed,
        widths=curves,
    )


def _check(backend: str, rounds: int) -> None:
    if backend not in BACKENDS:
        raise ConfigError(f"backend '{backend}' is not known. Known: {', '.join(BACKENDS)}.")
    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}, expected 1 or more.")


def clock_for(threads: int) -> Clock:
    """The clock that other work on the machine disturbs least: with one thread its processor time,
    which is the time on the wall but for what it waited to be run."""
    return time.thread_time if threads == 1 else time.perf_counter


def milliseconds(seconds: Array) -> list[float]:
    """Of every network, from its samples [networks, rounds]."""
    found: list[float] = (1000 * np.quantile(seconds, QUANTILE, axis=1)).tolist()
    return found


def busy(seconds: Array) -> float:
    """The largest median over its fastest sample: how far other work disturbed the timing."""
    return round(float(np.max(np.median(seconds, 1) / np.min(seconds, 1))), 2)


def seconds_of(
    net: Network,
    shapes: Sequence[Shape],
    source: Source,
    load: Load,
    backend: str,
    rounds: int,
    clock: Clock | None = None,
) -> Array:
    """Seconds of networks of other shapes, interleaved: [shapes, rounds]. Equal shapes are made and
    timed once.

    Raises:
        AcnError: in one line, if the backend cannot run one.
    """
    distinct = [shape for i, shape in enumerate(shapes) if shape not in shapes[:i]]
    with fixed_threads(load.threads), net.evaluating():
        made = (shaped(net, *shape) for shape in distinct)
        calls = [_call(each, source, load, BACKENDS[backend]) for each in made]
        found = interleave(calls, rounds, clock=clock or clock_for(load.threads))
    return np.asarray([found[distinct.index(shape)] for shape in shapes])


def shaped(net: Network, places: Sequence[int], sizes: Sizes) -> Network:
    """A network of the blocks at `places` that keep the first so many units of every width. It
    shares the weights that are not cut."""
    made = net.twin()
    made.keep_(places)
    widths.resize_(made, sizes)
    made.set_structure_(made.structure.changed(widths=widths.counts(made)))
    return made


def _call(net: Network, source: Source, load: Load, backend: Backend) -> Call:
    """One call of a network; what had to be written for it is gone again."""
    inputs = inputs_for(net, load.batch, load.length, 0, picture_size(net, source))
    with scratch() as place:
        subject = Checkpoint(source.name, net, source, inputs, flops=0.0)
        variant = backend.variant(subject, load, place)
    assert variant is not None  # there is none of some ONNX files only
    return variant.call


def _spread(depth: int) -> tuple[int, ...]:
    """At most `DEPTH` of the blocks, evenly spread."""
    return tuple(np.linspace(0, depth - 1, min(DEPTH, depth)).round().astype(int).tolist())


def _cuts(sizes: Sizes) -> list[tuple[str, Sizes]]:
    """Every width, with some of the blocks in which it is uncut, and cut to a share."""
    some = [sizes[place] for place in _spread(len(sizes))]
    return [
        (name, tuple({**block, name: max(1, block[name] // share)} for block in some))
        for name in some[0]
        for share in (1, *SHARES)
    ]


def _curves(cuts: Sequence[tuple[str, Sizes]], times: Sequence[float]) -> dict[str, Curve]:
    """A curve per width, through the milliseconds of the networks in which it was cut."""
    points: dict[str, dict[float, float]] = {name: {} for name, _ in cuts}
    for (name, sizes), milliseconds in zip(cuts, times, strict=True):
        units = float(np.mean([block[name] for block in sizes]))
        points[name][units] = milliseconds / len(sizes)
    return {name: Curve.through(found) for name, found in points.items()}
