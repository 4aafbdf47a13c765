"""Pictures one would put in a slide; matplotlib without a display."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

from acn_compress.figures import POINTS
from acn_compress.measure.candidate import Point
from acn_compress.reports.compared import Compared, RouteRow, Whole
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


def profile(report: Profiled, path: Path) -> None:
    """Quality over depth with the cutoff marked; contribution of every block."""
    depths, blocks, metric = report["depths"], report["blocks"], report["full"]["metric"]
    with canvas(path, 2, (11.5, 4.4)) as (figure, (left, right)):
        x = [d["depth"] for d in depths]
        left.fill_between(
            x,
            [d["low"] for d in depths],
            [d["high"] for d in depths],
            color=ACCENT,
            alpha=0.18,
            linewidth=0,
        )
        left.plot(
            x,
            [d["value"] for d in depths],
            color=ACCENT,
            marker="o",
            markersize=5,
            label=f"{metric}, 95 % interval",
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
        left.legend(
            frameon=True, facecolor="white", framealpha=1, edgecolor="none", loc="lower right"
        )
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
    """Quality over latency for every route, the depth at each point, and the same under noise if it
    was measured."""
    kinds = ["clean"] + (["noisy"] if report["noise"] else [])
    routes = list(dict.fromkeys(r["route"] for r in report["table"]))
    depths = sorted({r["depth"] for r in report["table"]})
    colours = ["#1f2933", "#9aa5b1", "#e8590c", "#0b7285", "#5f3dc4", "#2f9e44", "#c92a2a"]
    with canvas(path, len(kinds), (5.9 * len(kinds), 4.4)) as (figure, axes):
        for axis, kind in zip(axes, kinds, strict=True):
            for route, colour in zip(routes, itertools.cycle(colours), strict=False):
                rows = sorted(
                    (r for r in report["table"] if r["route"] == route), key=lambda r: r["depth"]
                )
                style = "--" if not route.startswith("acn") else "-"
                axis.plot(
                    list(map(_ms, rows)),
                    [r[kind] for r in rows],
                    style,
                    marker="o",
                    markersize=5,
                    color=colour,
                    label=route,
                )
            best = {
                d: max((r for r in report["table"] if r["depth"] == d), key=itemgetter(kind))
                for d in depths
            }
            for depth, row in best.items():
                axis.annotate(
                    str(depth),
                    (_ms(row), row[kind]),
                    (0, 7),
                    textcoords="offset points",
                    ha="center",
                    fontsize=9,
                )
            whole = report["whole"]["value" if kind == "clean" else "noisy"]
            axis.plot(
                _ms(report["whole"]),
                whole,
                "s",
                color=MUTED,
                markersize=7,
                label="whole network, untouched",
            )
            axis.margins(x=0.12, y=0.12)
            axis.set(
                xlabel="ms per example (torch, one thread); the numbers are blocks kept",
                ylabel=report["whole"]["metric"],
                title="clean" if kind == "clean" else f"under {report['noise']}",
            )
        axes[0].legend(frameon=True, facecolor="white", edgecolor="none", fontsize=9)
        figure.suptitle(
            f"{report['source']}: equal training budget ({report['budget']['epochs_of_whole']:g} "
            "epochs of the whole)",
            fontsize=10,
            color=MUTED,
        )


def _ms(row: RouteRow | Whole) -> float:
    return 1000 * float(row["latency"])


def frontier(
    points: Sequence[Point], front: Sequence[Point], rows: Sequence[Row], source: str, path: Path
) -> None:
    """Quality over time: candidates as they were measured without training on the rows that decide,
    and on the rows that are reported what came out, beside the original and the baseline."""
    metric = rows[0].quality.metric
    scale = 100 if metric in POINTS else 1
    with canvas(path, 1, (7.2, 5.0)) as (figure, (axis,)):
        axis.axhline(0, color=MUTED, linewidth=1)
        axis.plot(
            [p.milliseconds for p in points],
            [-scale * p.drop.drop for p in points],
            "o",
            color=MUTED,
            markersize=4,
            label="candidates, untrained, rows that decide",
        )
        axis.errorbar(
            [p.milliseconds for p in front],
            [-scale * p.drop.drop for p in front],
            yerr=[
                [scale * (p.drop.high - p.drop.drop) for p in front],
                [scale * (p.drop.drop - p.drop.low) for p in front],
            ],
            color=BAR,
            ecolor=BAR,
            marker="o",
            markersize=5,
            linewidth=1.2,
            capsize=2,
            label="those that no other beats",
        )
        colours = (INK, "#c92a2a", *("#e8590c",) * (len(rows) - 3), MUTED)
        for row, colour, shape in zip(rows, colours, "sDv^", strict=False):
            drop = row.drop
            low, high = (
                (0.0, 0.0) if drop is None else (drop.high - drop.drop, drop.drop - drop.low)
            )
            axis.errorbar(
                [row.milliseconds],
                [0.0 if drop is None else -scale * drop.drop],
                yerr=[[scale * low], [scale * high]],
                color=colour,
                marker=shape,
                markersize=8,
                capsize=3,
                linestyle="none",
                label=f"{row.name}, rows that are reported",
            )
        axis.set(
            xlabel="ms per call",
            ylabel=f"{metric} against the original" + (", points" if scale == 100 else ""),
            title="What less time costs (95 % intervals, paired)",
        )
        axis.set_xlim(left=0)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
        figure.suptitle(source, fontsize=10, color=MUTED)
