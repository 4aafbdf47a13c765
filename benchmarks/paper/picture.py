"""The picture of claim 1: quality over depth, residual network against ACN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from acn_compress.reports.plots import ACCENT, INK, _figure

COLOURS = {"residual": INK, "acn": ACCENT}
NAMES = {"residual": "residual", "acn": "ACN"}


def quality_over_depth(figures: dict[str, Any], path: Path) -> None:
    """The mean over seeds with a band from the lowest to the highest interval end, every seed's
    cutoff as a dotted line."""
    with _figure(path, 1, (6.6, 4.4)) as (_, (axis,)):
        for form, colour in COLOURS.items():
            runs = figures[form]
            depths = [row["depth"] for row in runs[0]["depths"]]
            value, low, high = (
                np.array([[100 * row[key] for row in run["depths"]] for run in runs])
                for key in ("value", "low", "high")
            )
            cutoffs = ", ".join(str(run["cutoff"]) for run in runs)
            axis.fill_between(
                depths, low.min(0), high.max(0), color=colour, alpha=0.15, linewidth=0
            )
            axis.plot(
                depths,
                value.mean(0),
                color=colour,
                marker="o",
                markersize=5,
                label=f"{NAMES[form]} (cutoff {cutoffs})",
            )
            for run in runs:
                axis.axvline(run["cutoff"], color=colour, linestyle=":", linewidth=1.2)
        axis.axhline(10, color="#9aa5b1", linestyle="--", linewidth=1, label="chance")
        seeds = len(figures["seeds"])
        axis.set(
            xlabel="blocks kept",
            ylabel="accuracy, %",
            title=f"Mixer on CIFAR-10, trained from scratch ({seeds} seeds)",
        )
        axis.set_xticks(depths)
        axis.legend(
            frameon=True, facecolor="white", framealpha=1, edgecolor="none", loc="lower right"
        )
