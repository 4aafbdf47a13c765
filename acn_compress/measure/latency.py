"""Milliseconds of a network as a function of what its blocks keep: outside + the sum over blocks of
(fixed + a curve per width).

Every curve is linear between measured points and never falls. That is the model of ZipLM's latency
tables (arXiv 2302.04089), with the inner widths in the place of whole layers; how far it is from
measured networks is in benchmarks/results/latency-*.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from acn_compress.errors import ConfigError
from acn_compress.found import Found

Points = Mapping[float, float]  # units -> milliseconds
Sizes = tuple[dict[str, int], ...]  # units of every width, per block


class Curve(Found):
    """What the units of one width cost in one block."""

    units: tuple[float, ...]
    """Ascending, from 0; the mean of a block where the blocks differ."""
    milliseconds: tuple[float, ...]
    """Of so many units; never falling, 0 for none."""

    def __call__(self, units: float) -> float:
        """Milliseconds of `units`; beyond the points the outermost line goes on."""
        x, y = self.units, self.milliseconds
        beyond = max(0.0, units - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2])
        return float(np.interp(units, x, y)) + beyond

    @classmethod
    def through(cls, points: Points) -> Curve:
        """A curve through measured points of whatever holds the units; the line through the first
        two says what that costs with none. A single point says nothing about its units."""
        units = sorted(points)
        times = never_falling([points[n] for n in units])
        slope = (times[1] - times[0]) / (units[1] - units[0]) if units[1:] else 0.0
        none = times[0] - slope * units[0]
        return cls(units=(0, *units), milliseconds=(0.0, *(t - none for t in times)))


class LatencyTable(Found):
    """What blocks and their widths cost on one machine; see `backends.latency.Stopwatch`."""

    backend: str
    batch: int
    """Examples per call."""
    length: int
    """Tokens of a text."""
    threads: int
    rounds: int
    bytes: int
    """Of the whole network, on disk."""
    busy: float
    """The largest median over its fastest sample: how far other work disturbed the timing."""
    outside: float
    """Milliseconds of a call without any block: embedding, head."""
    fixed: float
    """Milliseconds of a block whatever its widths: norms, additions."""
    widths: dict[str, Curve]
    """What the units of every width add to a block."""

    def milliseconds(self, sizes: Sequence[Mapping[str, int]]) -> float:
        """Of a call of the network whose blocks keep these units (`widths.counts` gives them).

        Raises:
            ConfigError: if a width is not in the table.
        """
        return self.outside + sum(map(self.block, sizes))

    def block(self, widths: Mapping[str, int]) -> float:
        """Milliseconds of one block; a width that is not named keeps no units.

        Raises:
            ConfigError: if a width is not in the table.
        """
        return self.fixed + sum(self._curve(name, n)(n) for name, n in widths.items())

    def unit(self, name: str, units: int) -> float:
        """Milliseconds that the last of `units` units costs.

        Raises:
            ConfigError: if the width is not in the table, or there is no last one.
        """
        curve = self._curve(name, units - 1)
        return curve(units) - curve(units - 1)

    def _curve(self, name: str, units: int) -> Curve:
        if name not in self.widths:
            known = ", ".join(self.widths) or "none"
            raise ConfigError(
                f"the latency table has no width '{name}'. It was measured for: {known}."
            )
        if units < 0:
            raise ConfigError(f"a block cannot keep {units} of '{name}', expected 0 or more.")
        return self.widths[name]


def never_falling(times: Sequence[float]) -> list[float]:
    """The times themselves where they never fall; where noise makes them, the mean of the smallest
    such row above them and the largest below."""
    above = np.maximum.accumulate(times)
    below = np.minimum.accumulate(times[::-1])[::-1]
    return [float(t) for t in (above + below) / 2]


def parts(
    whole: float, sizes: Sequence[Mapping[str, int]], first: float, curves: Mapping[str, Curve]
) -> tuple[float, float]:
    """What lies outside the blocks, and what a block costs whatever its widths.

    Args:
        whole: milliseconds of the whole network,
        sizes: and what its blocks keep.
        first: milliseconds of the network cut to its first block. A network that has no other
            cannot be told from what lies outside: all of it counts as the block.
        curves: what units cost.
    Returns:
        Milliseconds, none below 0 unless the units cost more than the whole, with which the whole
        network costs `whole`.
    """
    units = [sum(curves[name](n) for name, n in block.items()) for block in sizes]
    bare, depth = whole - sum(units), len(sizes)
    outside = (depth * (first - units[0]) - bare) / (depth - 1) if depth > 1 else 0.0
    outside = max(min(outside, bare), 0.0)
    return outside, (bare - outside) / depth
