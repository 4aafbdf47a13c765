"""One line of the table: a claim, their figures, ours, and a verdict that the rule in the claim's
docstring gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

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
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def command(self) -> str:
        return f"python benchmarks/claims.py --data cifar10 --only {self.number}"


def markdown(entries: Sequence[Entry]) -> str:
    """The table."""
    rows = [
        f"| {e.number} | {e.claim} | {e.theirs} | {e.ours} | {e.scale} | `--only {e.number}` | {e.verdict} |"
        for e in entries
    ]
    return "\n".join(
        [
            "| # | claim | theirs | ours | scale | command | reproduced? |",
            "|---|---|---|---|---|---|---|",
            *rows,
        ]
    )


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def points(change: dict[str, float], sign: int = 1) -> str:
    """A paired difference in points with its interval; `sign` -1 turns a drop into a gain."""
    low, high = sorted((sign * change["low"], sign * change["high"]))
    # + 0.0: no minus before a zero
    value, low, high = (round(100 * v, 1) + 0.0 for v in (sign * change["drop"], low, high))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def seeds_of(seeds: Sequence[int]) -> str:
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}"


def rounded(data: Any) -> Any:
    """Plain data with floats cut to five digits behind the point."""
    if isinstance(data, dict):
        return {str(k): rounded(v) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [rounded(v) for v in data]
    return round(data, 5) if isinstance(data, float) else data
