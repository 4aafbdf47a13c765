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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from acn_compress.backends import BACKENDS
from acn_compress.backends.base import Checkpoint, Load, OnnxFile, Variant
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
Clock = Callable[[], float]


class Shape(NamedTuple):
    """A network that is cut from another.

    Args:
        places: of the blocks that it has,
        kept: and the units of every width that they keep.
        int8: it is quantized.
    """

    places: tuple[int, ...]
    kept: tuple[tuple[tuple[str, int], ...], ...]
    int8: bool = False


@dataclass
class Stopwatch:
    """What networks take that are cut from one. Each is made once.

    Args:
        net: not changed.
        source: where it came from.
        load: what a call has to do.
        backend: a name in `BACKENDS`.
        int8: networks are timed in int8 too.
        clock: seconds; None is `clock_for` the threads and the device.
    Raises:
        ConfigError: if there is no such backend.
    """

    net: Network
    source: Source
    load: Load
    backend: str = "onnx"
    int8: bool = False
    clock: Clock | None = None
    made: dict[Shape, Variant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            known = ", ".join(BACKENDS)
            raise ConfigError(f"backend '{self.backend}' is not known. Known: {known}.")

    @property
    def whole(self) -> Shape:
        """Of the network itself."""
        return self.first(self.net.depth)

    def first(self, depth: int) -> Shape:
        """Of its first blocks."""
        return Shape(tuple(range(depth)), _hashable(widths.counts(self.net)[:depth]))

    def plan(self, blocks: Sequence[Mapping[str, int] | None], int8: bool = False) -> Shape:
        """Of blocks that keep so many units; None is one that goes."""
        places = tuple(i for i, block in enumerate(blocks) if block is not None)
        return Shape(places, _hashable([block for block in blocks if block is not None]), int8)

    def seconds(self, subjects: Sequence[Shape | Path], rounds: int) -> Array:
        """Of calls, interleaved: [subjects, rounds]. Equal ones are timed once.

        Args:
            subjects: shapes of networks that are cut from this one, or files that the backend runs.
            rounds: in each, every network runs once.
        Raises:
            AcnError: in one line, if the backend cannot run one.
        """
        if rounds < 1:
            raise ConfigError(f"rounds is {rounds}, expected 1 or more.")
        distinct = list(dict.fromkeys(subjects))
        with fixed_threads(self.load.threads), self.net.evaluating():
            calls = [self._variant(subject).call for subject in distinct]
            on = self.net.device.type if self.backend == "torch" else "cpu"
            clock = self.clock or clock_for(self.load.threads, on)
            found = interleave(calls, rounds, clock=clock)
        return np.asarray([found[distinct.index(subject)] for subject in subjects])

    def table(self, rounds: int = 15) -> LatencyTable:
        """The latency table of the network."""
        return self.tables(rounds)[False]

    def tables(self, rounds: int = 15) -> dict[bool, LatencyTable]:
        """The latency tables of the network, timed side by side: in float (False), and in int8
        (True) if networks are timed in that too."""
        precisions = (False, True) if self.int8 else (False,)
        sizes = tuple(widths.counts(self.net))
        cuts, spread = _cuts(sizes), _spread(self.net.depth)
        shapes = [self.whole, self.first(1), *(Shape(spread, _hashable(cut)) for _, cut in cuts)]
        all_seconds = self.seconds(
            [shape._replace(int8=int8) for int8 in precisions for shape in shapes], rounds
        )
        found = dict[bool, LatencyTable]()
        for int8, seconds in zip(precisions, np.split(all_seconds, len(precisions)), strict=True):
            whole, first, *times = milliseconds(seconds)
            curves = _curves(cuts, times)
            outside, fixed = parts(whole, sizes, first, curves)
            found[int8] = LatencyTable(
                backend=self.backend,
                batch=self.load.batch,
                length=self.load.length,
                threads=self.load.threads,
                rounds=rounds,
                bytes=self._variant(self.whole._replace(int8=int8)).bytes,
                busy=busy(seconds),
                outside=outside,
                fixed=fixed,
                widths=curves,
            )
        return found

    def _variant(self, subject: Shape | Path) -> Variant:
        """What is timed."""
        if isinstance(subject, Shape):
            if subject not in self.made:
                self._make(subject)
            return self.made[subject]
        found = BACKENDS[self.backend].variant(OnnxFile(str(subject), subject), self.load, subject)
        assert found is not None  # such files are only timed in what runs them
        return found

    def _make(self, shape: Shape) -> None:
        """A network, in all precisions at once; what had to be written for it is gone again."""
        backend, load = BACKENDS[self.backend], self.load
        net = shaped(self.net, shape.places, tuple(map(dict, shape.kept)))
        inputs = inputs_for(net, load.batch, load.length, 0, picture_size(net, self.source))
        subject = Checkpoint(self.source.name, net, self.source, inputs, flops=0.0)
        with scratch() as place:
            found = {False: backend.variant(subject, load, place)}
            if self.int8:
                found[True] = backend.quantized(subject, load, place)
        for int8, variant in found.items():
            assert variant is not None  # a checkpoint runs everywhere; in int8, if it was said so
            self.made[shape._replace(int8=int8)] = variant


def _hashable(sizes: Sequence[Mapping[str, int]]) -> tuple[tuple[tuple[str, int], ...], ...]:
    return tuple(tuple(block.items()) for block in sizes)


def clock_for(threads: int, device: str = "cpu") -> Clock:
    """The clock that other work on the machine disturbs least: with one thread its processor time,
    which is the time on the wall but for what it waited to be run, by others or by an
    accelerator."""
    return time.thread_time if threads == 1 and device == "cpu" else time.perf_counter


def milliseconds(seconds: Array) -> list[float]:
    """Of every network, from its samples [networks, rounds]."""
    found: list[float] = (1000 * np.quantile(seconds, QUANTILE, axis=1)).tolist()
    return found


def busy(seconds: Array) -> float:
    """The largest median over its fastest sample: how far other work disturbed the timing."""
    return round(float(np.max(np.median(seconds, 1) / np.min(seconds, 1))), 2)


def shaped(net: Network, places: Sequence[int], sizes: Sizes) -> Network:
    """A network of the blocks at `places` that keep the first so many units of every width. It
    shares the weights that are not cut."""
    made = net.twin()
    made.keep_(places)
    widths.resize_(made, sizes)
    made.set_structure_(made.structure.changed(widths=widths.counts(made)))
    return made


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
