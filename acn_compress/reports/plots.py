"""Pictures one would put in a slide; matplotlib without a display."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from acn_compress.figures import POINTS, milliseconds, title
from acn_compress.options import BASELINE
from acn_compress.quality import Drop
from acn_compress.reports.compared import Compared
from acn_compress.reports.compressed import Row
from acn_compress.reports.measured import Profiled

INK, ACCENT, MUTED, BAR = "#1f2933", "#0b7285", "#9aa5b1", "#74c0c7"


@contextmanager
def canvas(path: Path, columns: int, size: tuple[float, float]) -> Iterator[Any]:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style: Any = {
        "font.size": 11,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e4e7eb",
        "axes.axisbelow": True,
    }
    with matplotlib.rc_context(style):
        figure, axes = plt.subplots(1, columns, figsize=size, layout="constrained", squeeze=False)
        try:
            yield figure, axes[0]
            temporary = path.with_name(f".{path.name}.partial")
            figure.savefig(temporary, dpi=150, format="png")
            temporary.replace(path)
        finally:
            plt.close(figure)


def bars(drops: Sequence[Drop], scale: float = 1.0) -> list[list[float]]:
    """The 95 % intervals of changes, as matplotlib draws them: what lies below each, and above."""
    return [
        [scale * (d.high - d.drop) for d in drops],
        [scale * (d.drop - d.low) for d in drops],
    ]


def profile(report: Profiled, path: Path) -> None:
    """Quality over depth with the cutoff marked; contribution of every block."""
    depths, blocks, metric = report["depths"], report["blocks"], report["full"]["metric"]
    with canvas(path, 2, (11.5, 4.4)) as (figure, (left, right)):
        x = [d["depth"] for d in depths]
        drops = [d.lost for d in depths]  # which the cutoff is by
        left.errorbar(
            x,
            [d["value"] for d in depths],
            yerr=bars(drops),
            color=ACCENT,
            marker="o",
            markersize=5,
            capsize=3,
            label=f"{metric}; bars: 95 % of its drop, paired",
        )
        floor = report["full"]["value"] - report["max_drop"]
        left.axhline(
            floor,
            color=MUTED,
            linestyle="--",
            linewidth=1,
            label=f"full model less {report['max_drop']:g}",
        )
        if report["cutoff"] is not None:
            left.axvline(
                report["cutoff"],
                color="#c92a2a",
                linewidth=1.5,
                label=f"cutoff: {report['cutoff']} of {x[-1]} blocks",
            )
        left.set(
            xlabel="blocks kept",
            ylabel=metric,
            title=f"Quality at every depth ({report['structure']['form']} form)",
        )
        left.set_xticks(x if len(x) <= 16 else x[:: len(x) // 12])
        figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=9)
        names = ["embed", *(str(b["block"]) for b in blocks[1:])]
        right.bar(
            names, [100 * b["share"] for b in blocks], color=[MUTED, *[BAR] * (len(blocks) - 1)]
        )
        right.set(
            xlabel="block",
            ylabel="share of contributed norm, %",
            title="What every block adds to the output",
        )
        right.grid(axis="x", visible=False)
        figure.suptitle(
            f"{report['source']} on {report['data']} (n = {report['full']['examples']:,})",
            fontsize=10,
            color=MUTED,
        )


def comparison(report: Compared, path: Path) -> None:
    """What every route to every depth loses against the whole network and gains over drop-last,
    each with its interval, and the same under noise if it was measured. A row per model: no point
    hides another, and every axis has the line of no change."""
    whole, metric = report.whole, report.whole.metric
    scale = 100 if metric in POINTS else 1
    panels = [
        panel
        for kind, noise in (("clean", ""), ("noisy", f"\nunder {report['noise']}"))
        if kind in report.table[0]
        for panel in (
            # a report of an older version lacks the former
            (f"the whole network{noise}", [row.get(f"{kind}_drop") for row in report.table]),
            (f"{BASELINE} at that depth{noise}", [row.behind(kind) for row in report.table]),
        )
        if any(panel[1])
    ]
    heights = [-n - 0.7 * gap for n, gap in enumerate(_gaps(report))]
    size = (2.6 + 3.1 * len(panels), 1.9 + 0.27 * len(heights))
    with canvas(path, len(panels), size) as (figure, axes):
        for axis, (than, drops) in zip(axes, panels, strict=True):
            axis.axvline(0, color=INK, linewidth=1)
            for row, drop, y in zip(report.table, drops, heights, strict=True):
                colour = MUTED if row.route == BASELINE else ACCENT
                if drop is None:  # what the others are against
                    axis.plot([0], [y], "D", color=colour, markersize=5)
                    continue
                axis.errorbar(
                    [-scale * drop.drop],
                    [y],
                    xerr=bars([drop], scale),
                    color=colour,
                    marker="o",
                    markersize=6,
                    capsize=3,
                    # level with what it is against, as far as can be told
                    markerfacecolor="white" if drop.low <= 0 <= drop.high else colour,
                )
            axis.set_title(f"against {than}", fontsize=10)
            axis.set_xlabel(f"{title(metric)}{', points' if scale == 100 else ''}")
            axis.set_yticks(heights, ["" for _ in heights])
            axis.grid(axis="y", visible=False)
            axis.margins(x=0.08)
            axis.set_ylim(heights[-1] - 0.7, 0.7)
        names = [f"{r.depth} {r.route}, {milliseconds(r.latency)} ms" for r in report.table]
        axes[0].set_yticks(heights, names)
        figure.suptitle(
            f"{report.source}, every route for {report.budget}\n"
            f"whole: {title(metric)} {whole}, {milliseconds(whole.latency)} ms, "
            f"n = {whole.examples:,}",
            fontsize=10,
            color=INK,
        )
        figure.supxlabel(
            "blocks and route. Bars: 95 %, paired; hollow: the interval includes no change",
            fontsize=9,
            color=MUTED,
        )


def _gaps(report: Compared) -> list[int]:
    """Of every row, how many other depths stand above it."""
    depths = list(dict.fromkeys(row.depth for row in report.table))
    return [depths.index(row.depth) for row in report.table]


class Tried(Protocol):
    """What is drawn of a candidate."""

    @property
    def milliseconds(self) -> float:
        """As foreseen."""
        ...

    @property
    def drop(self) -> Drop:
        """From the original."""
        ...


def frontier(
    points: Sequence[Tried],
    front: Sequence[Tried],
    chosen: Tried | None,
    rows: Sequence[Row],
    source: str,
    decided: str,
    path: Path,
) -> None:
    """Quality over time: candidates as they were measured without training on the rows that decide,
    and on the rows that are reported what came out, beside the original and the baseline. The front
    is by loss, which scatters less than what is drawn: no line joins it.

    Args:
        decided: how many rows decide.
    """
    metric = rows[0].quality.metric
    scale = 100 if metric in POINTS else 1
    with canvas(path, 1, (7.2, 5.4)) as (figure, (axis,)):
        axis.axhline(0, color=MUTED, linewidth=1)
        others = [p for p in points if p not in front]
        for shown, colour, face, name in (
            (others, MUTED, "white", "other candidates"),
            (front, BAR, BAR, "candidates of the least loss at their price"),
        ):
            if shown:
                look = {"color": colour, "markerfacecolor": face, "markersize": 5}
                _points(axis, shown, scale, label=name, **look)
        if chosen is not None:
            _points(axis, [chosen], scale, color=ACCENT, markersize=7, label="chosen, untrained")
        mine = iter((INK, "#c92a2a", "#e8590c"))
        for row, shape in zip(rows, "sDv^", strict=False):
            colour = MUTED if row.is_baseline else next(mine)
            name = f"{row.name}, reported"
            look = {"color": colour, "marker": shape, "markersize": 8}
            if row.drop is None:
                axis.plot([row.milliseconds], [0], linestyle="none", label=name, **look)
            else:
                _points(axis, [row], scale, label=name, **look)
        axis.set(
            xlabel="ms per call; of candidates as foreseen",
            ylabel=f"{metric} against the original" + (", points" if scale == 100 else ""),
            title="What less time costs (95 % intervals, paired)",
        )
        axis.set_xlim(left=0)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
        n = f"reported: n = {rows[0].quality.examples:,}"
        figure.suptitle(f"{source}; candidates: {decided}; {n}", fontsize=10, color=MUTED)


def _points(axis: Any, points: Sequence[Tried | Row], scale: float, **look: Any) -> None:
    """Points with their intervals."""
    drops = [p.drop for p in points if p.drop is not None]
    axis.errorbar(
        [p.milliseconds for p in points],
        [-scale * d.drop for d in drops],
        yerr=bars(drops, scale),
        **{"marker": "o", "capsize": 3, "linestyle": "none", "elinewidth": 1.2, **look},
    )
