"""The picture of claim 1: quality over depth, residual network against ACN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from acn_compress.reports.plots import ACCENT, INK, MUTED, canvas
from benchmarks.paper.depth import Comparison, Curve


def quality_over_depth(found: Comparison, data: str, path: Path) -> None:
    """Both forms, and the level of chance."""
    with canvas(path, 1, (6.6, 4.4)) as (_, (axis,)):
        _draw(axis, "residual", found.residual, INK)
        _draw(axis, "ACN", found.acn, ACCENT)
        axis.axhline(10, color=MUTED, linestyle="--", linewidth=1, label="chance")
        axis.set(
            xlabel="blocks kept",
            ylabel="accuracy, %",
            title=f"Mixer on {data}, trained from scratch ({len(found.seeds)} seeds)",
        )
        axis.set_xticks([row.depth for row in found.acn[0].depths])
        axis.legend(
            frameon=True, facecolor="white", framealpha=1, edgecolor="none", loc="lower right"
        )


def _draw(axis: Any, name: str, runs: list[Curve], colour: str) -> None:
    """The mean over seeds with a band from the lowest to the highest interval end, every seed's
    cutoff as a dotted line."""
    depths = [row.depth for row in runs[0].depths]
    value = np.array([[100 * row.value for row in run.depths] for run in runs])
    low = np.array([[100 * row.low for row in run.depths] for run in runs])
    high = np.array([[100 * row.high for row in run.depths] for run in runs])
    cutoffs = ", ".join(str(run.cutoff) for run in runs)
    axis.fill_between(depths, low.min(0), high.max(0), color=colour, alpha=0.15, linewidth=0)
    label = f"{name} (cutoff {cutoffs})"
    axis.plot(depths, value.mean(0), color=colour, marker="o", markersize=5, label=label)
    for run in runs:
        axis.axvline(run.cutoff, color=colour, linestyle=":", linewidth=1.2)
