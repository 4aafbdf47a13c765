"""One line of the table: a claim, their figures, ours, and a verdict that the rule in the claim's
docstring gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from acn_compress.found import Found
from acn_compress.measure.intervals import Array, interval
from acn_compress.quality import Drop

Verdict = Literal["yes", "partly", "no", "not measured"]


@dataclass(frozen=True)
class Entry:
    """What was found about one claim.

    Args:
        number: of the claim; "b" behind it for a further measurement beside it.
        claim, theirs, ours: in words and figures; accuracies in per cent.
        scale: network, data and seeds.
        verdict: whether it reproduced at this scale.
        figures: everything that was measured, plain data.
    """

    number: str
    claim: str
    theirs: str
    ours: str
    scale: str
    verdict: Verdict
    figures: Found | Mapping[str, object] = field(default_factory=dict)

    @property
    def row(self) -> str:
        """Of the table."""
        cells = (self.number, self.claim, self.theirs, self.ours, self.scale)
        return f"| {' | '.join(cells)} | `--only {self.number}` | {self.verdict} |"


def markdown(entries: Sequence[Entry]) -> str:
    """The table."""
    head = "| # | claim | theirs | ours | scale | command | reproduced? |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *(e.row for e in entries)])


def mean_drop(values: Array) -> Drop:
    """The mean over examples of what is a drop already: [examples]."""
    low, high = interval(values, np.ones_like(values))
    return Drop(drop=float(values.mean()), low=low, high=high)


def percent(value: float) -> str:
    """Of a share."""
    return f"{100 * value:.1f}"


def points(drop: Drop, sign: int = 1) -> str:
    """A drop in points with its interval; `sign` -1 turns it into a gain."""
    low, high = sorted((sign * drop.low, sign * drop.high))
    # + 0.0: no minus before a zero
    value, low, high = (round(100 * v, 1) + 0.0 for v in (sign * drop.drop, low, high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def seeds_of(seeds: Sequence[int]) -> str:
    """In words."""
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


def mean(values: Sequence[float]) -> float:
    """Of a few numbers."""
    return sum(values) / len(values)
