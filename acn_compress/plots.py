"""Pictures one would put in a slide; matplotlib without a display."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

INK, ACCENT, MUTED, BAR = "#1f2933", "#0b7285", "#9aa5b1", "#74c0c7"


@contextmanager
def _figure(path: Path, columns: int, size: tuple[float, float]) -> Iterator[Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style = {
        "font.size": 11, "axes.edgecolor": MUTED, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e4e7eb", "axes.axisbelow": True,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure, axes = plt.subplots(1, columns, figsize=size, layout="constrained", squeeze=False)
        try:
            yield figure, axes[0]
            temporary = path.with_name(f".{path.name}.partial")
            figure.savefig(temporary, dpi=150, format="png")
            temporary.replace(path)
        finally:
            plt.close(figure)


def profile(report: dict[str, Any], path: Path) -> None:
    """Quality over depth with the cutoff marked; contribution of every block."""
    depths, blocks, metric = report["depths"], report["blocks"], report["full"]["metric"]
    with _figure(path, 2, (11.5, 4.4)) as (figure, (left, right)):
        x = [d["depth"] for d in depths]
        left.fill_between(x, [d["low"] for d in depths], [d["high"] for d in depths], color=ACCENT, alpha=0.18, linewidth=0)
        left.plot(x, [d["value"] for d in depths], color=ACCENT, marker="o", markersize=5, label=f"{metric}, 95 % interval")
        floor = report["full"]["value"] - report["max_drop"]
        left.axhline(floor, color=MUTED, linestyle="--", linewidth=1, label=f"full model less {report['max_drop']:g}")
        if report["cutoff"] is not None:
            left.axvline(report["cutoff"], color="#c92a2a", linewidth=1.5, label=f"cutoff: {report['cutoff']} of {x[-1]} blocks")
        left.set(xlabel="blocks kept", ylabel=metric, title=f"Quality at every depth ({report['structure']['form']} form)")
        left.set_xticks(x if len(x) <= 16 else x[:: len(x) // 12])
        left.legend(frameon=False, loc="lower right")
        names = ["embed", *(str(b["block"]) for b in blocks[1:])]
        right.bar(names, [100 * b["share"] for b in blocks], color=[MUTED, *[BAR] * (len(blocks) - 1)])
        right.set(xlabel="block", ylabel="share of contributed norm, %", title="What every block adds to the output")
        right.grid(axis="x", visible=False)
        figure.suptitle(f"{report['source']} on {report['data']} (n = {report['full']['examples']:,})", fontsize=10, color=MUTED)
