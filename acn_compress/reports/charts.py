"""Quality over something else as SVG: every point with its 95 % interval and none hidden; axes that
hold all intervals, so that noise does not look like a ranking."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal, NamedTuple

from acn_compress import figures
from acn_compress.quality import Drop

Kind = Literal["original", "mine", "baseline", "candidate"]
WIDTH, HEIGHT = 440, 300  # of the picture, in units of its text's 12
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 16, 44  # room beside what is drawn
ROW, NAMES = 20, 225  # height of a row, and room for its name
NEAR = 3  # intervals that stand closer have ends of different widths


@dataclass(frozen=True)
class Dot:
    """One model: what it costs (x), its quality (y) and the interval of that."""

    name: str
    x: float
    y: float
    low: float
    high: float
    kind: Kind = "mine"


@dataclass(frozen=True)
class Chart:
    """A picture.

    Args:
        across, up: what the axes are.
        level: where a line lies across; None draws none.
        mark: where one stands upright.
        joined: the dots are joined by a line.
        note: a sentence below it.
        legend: False leaves it to a picture of the same models before it.
    """

    title: str
    across: str
    up: str
    dots: Sequence[Dot]
    level: float | None = None
    mark: float | None = None
    joined: bool = False
    note: str = ""
    legend: bool = True


@dataclass(frozen=True)
class Rows:
    """Changes below each other, a row for every model: for many that cost the same.

    Args:
        across: what changes, against what.
    """

    title: str
    across: str
    dots: Sequence[Dot]
    note: str = ""


def lost(name: str, x: float, drop: Drop | None, metric: str, kind: Kind = "mine") -> Dot:
    """A model by what became of the original's quality, in the unit of a change; the original
    itself has no drop."""
    if drop is None:
        return Dot(name, x, 0.0, 0.0, 0.0, "original")
    value, low, high = (-figures.scaled(v, metric) for v in (drop.drop, drop.high, drop.low))
    return Dot(name, x, value, low, high, kind)


def against(metric: str, than: str) -> str:
    """What an axis of changes is."""
    unit = ", points" if metric in figures.POINTS else ""
    return f"{figures.title(metric)} against {than}{unit}"


def losses(
    title: str,
    across: str,
    metric: str,
    dots: Sequence[Dot],
    note: str = "",
    *,
    legend: bool = True,
) -> Chart:
    """A picture of such dots."""
    up, told = against(metric, "the original"), f"Bars: 95 %, paired. {note}".strip()
    return Chart(title, across, up, dots, level=0.0, note=told, legend=legend)


class _Scale(NamedTuple):
    """From figures to units of the picture."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About five round figures."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        count = math.floor((self.high - first * step) / step + 1e-9) + 1
        return [round(step * (first + i), 10) + 0.0 for i in range(count)]


def svg(chart: Chart) -> str:
    """The picture, with a legend of its numbers below."""
    across, up = _scales(chart)
    drawn = [(dot, across.at(dot.x)) for dot in chart.dots]
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">',
        *_axes(chart, across, up),
        *_joined(chart, drawn),
        *_dots([(dot, x) for dot, x in drawn if dot.kind == "candidate"], up),
        *_dots([(dot, x) for dot, x in drawn if dot.kind != "candidate"], up),
        *_numbers(chart, drawn, up),
        "</svg>",
    ]
    note = f"<p>{escape(chart.note)}</p>" if chart.note else ""
    legend = _legend(chart) if chart.legend else ""
    caption = f"<figcaption>{escape(chart.title)}</figcaption>"
    return f"<figure>{caption}{''.join(parts)}{legend}{note}</figure>"


def rows_svg(rows: Rows) -> str:
    """Likewise, of rows: each has its name beside it."""
    low, high = min(0.0, *(d.low for d in rows.dots)), max(0.0, *(d.high for d in rows.dots))
    room = 0.08 * (high - low) or 1.0
    across = _Scale(low - room, high + room, NAMES, WIDTH - RIGHT)
    bottom = ROW * len(rows.dots) + ROW / 2
    parts = [f'<svg viewBox="0 0 {WIDTH} {bottom + 42}" role="img" aria-label="']
    parts += [f'{escape(rows.title)}">']
    for value in across.ticks():
        at = f"{across.at(value):.1f}"
        parts.append(f'<path class="grid" d="M{at} 4V{bottom}"/>')
        parts.append(f'<text class="middle" x="{at}" y="{bottom + 16}">{value:g}</text>')
    parts.append(f'<path class="level" d="M{across.at(0.0):.1f} 4V{bottom}"/>')
    parts.append(
        f'<text class="end" x="{WIDTH - RIGHT}" y="{bottom + 36}">{escape(rows.across)}</text>'
    )
    for n, dot in enumerate(rows.dots):
        x, y = across.at(dot.y), ROW * (n + 0.75)
        start, end = across.at(dot.low), across.at(dot.high)
        bar = f'<path d="M{start:.1f} {y}H{end:.1f}m0 -3v6M{start:.1f} {y - 3}v6"/>'
        parts.append(f'<text x="0" y="{y + 4}">{escape(dot.name)}</text>')
        parts.append(f'<g class="{dot.kind}">{bar if dot.high > dot.low else ""}')
        parts.append(f"{_shape(dot.kind, x, y)}</g>")
    note = f"<p>{escape(rows.note)}</p>" if rows.note else ""
    caption = f"<figcaption>{escape(rows.title)}</figcaption>"
    return f"<figure>{caption}{''.join(parts)}</svg>{note}</figure>"


def _scales(chart: Chart) -> tuple[_Scale, _Scale]:
    most = max((dot.x for dot in chart.dots), default=1.0) or 1.0
    levels = [] if chart.level is None else [chart.level]
    low = min([*(dot.low for dot in chart.dots), *levels], default=0.0)
    high = max([*(dot.high for dot in chart.dots), *levels], default=1.0)
    room = 0.08 * (high - low) or 1.0
    return (
        _Scale(0.0, 1.08 * most, LEFT, WIDTH - RIGHT),
        _Scale(low - room, high + room, HEIGHT - BOTTOM, TOP),
    )


def _axes(chart: Chart, across: _Scale, up: _Scale) -> Iterator[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    for value in up.ticks():
        y = f"{up.at(value):.1f}"
        yield f'<path class="grid" d="M{LEFT} {y}H{right}"/>'
        yield f'<text class="end" x="{LEFT - 6}" y="{up.at(value) + 4:.1f}">{value:g}</text>'
    for value in across.ticks():
        x = f"{across.at(value):.1f}"
        yield f'<path class="grid" d="M{x} {bottom}v4"/>'
        yield f'<text class="middle" x="{x}" y="{bottom + 17}">{value:g}</text>'
    if chart.level is not None:
        yield f'<path class="level" d="M{LEFT} {up.at(chart.level):.1f}H{right}"/>'
    if chart.mark is not None:
        yield f'<path class="mark" d="M{across.at(chart.mark):.1f} {TOP}V{bottom}"/>'
    middle = (LEFT + right) / 2
    yield f'<text class="middle" x="{middle}" y="{HEIGHT - 8}">{escape(chart.across)}</text>'
    turned = f"rotate(-90 12 {(TOP + bottom) / 2})"
    yield (
        f'<text class="middle" x="12" y="{(TOP + bottom) / 2}" transform="{turned}">'
        f"{escape(chart.up)}</text>"
    )


def _joined(chart: Chart, drawn: Sequence[tuple[Dot, float]]) -> Iterator[str]:
    if chart.joined:
        _, up = _scales(chart)
        places = " ".join(f"{x:.1f},{up.at(dot.y):.1f}" for dot, x in drawn)
        yield f'<polyline class="joined" points="{places}"/>'


def _dots(drawn: Sequence[tuple[Dot, float]], up: _Scale) -> Iterator[str]:
    """Each where it belongs; the ends of intervals that stand on each other differ in width."""
    for n, (dot, x) in enumerate(drawn):
        y, low, high = up.at(dot.y), up.at(dot.low), up.at(dot.high)
        told = f"{dot.name}: {dot.x:.4g}, {dot.y:.4g} [{dot.low:.4g}, {dot.high:.4g}]"
        half = 3 + 2 * sum(abs(x - other) < NEAR for _, other in drawn[:n])
        ends = f"m{-half} 0h{2 * half}M{x - half:.1f} {low:.1f}h{2 * half}"
        bar = f'<path d="M{x:.1f} {low:.1f}V{high:.1f}{ends}"/>' if dot.high > dot.low else ""
        title = f"<title>{escape(told)}</title>"
        yield f'<g class="{dot.kind}">{title}{bar}{_shape(dot.kind, x, y)}</g>'


def _shape(kind: Kind, x: float, y: float) -> str:
    """Kinds differ in shape, not in colour alone."""
    if kind == "original":
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    if kind == "baseline":
        corners = ((x, y - 5), (x + 5, y + 4), (x - 5, y + 4))
        return f'<polygon points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in corners)}"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{4.5 if kind == "mine" else 2.5}"/>'


def _named(chart: Chart) -> list[Dot]:
    """The dots that have a number: all but candidates, and not those of a line."""
    return [] if chart.joined else [dot for dot in chart.dots if dot.kind != "candidate"]


def _numbers(chart: Chart, drawn: Sequence[tuple[Dot, float]], up: _Scale) -> Iterator[str]:
    """Beside each dot its number, where no other, no dot and no interval stands; with a line to the
    dot where that is not next to it."""
    named = _named(chart)
    models = [(d, x) for d, x in drawn if d in named]
    bars = [(x, up.at(d.high), up.at(d.low)) for d, x in models]
    taken = [(x, up.at(d.y)) for d, x in models]
    for dot, x in models:
        y = up.at(dot.y)
        places = [
            (x + side * (11 + 11 * out), y + side_y * 11 * far)
            for far in range(12)
            for out in range(4)
            for side_y in (-1, 1)
            for side in (1, -1)
        ]
        free = (
            (a, b)
            for a, b in places
            if LEFT < a < WIDTH and TOP - 6 <= b <= HEIGHT - BOTTOM
            if all(abs(a - c) >= 10 or abs(b - d) >= 11 for c, d in taken)
            if all(abs(a - c) >= 7 or not top - 6 <= b <= low + 6 for c, top, low in bars)
        )
        a, b = next(free, places[0])
        taken.append((a, b))
        if math.hypot(a - x, b - y) > 12:
            yield f'<path class="lead" d="M{x:.1f} {y:.1f}L{a:.1f} {b:.1f}"/>'
        yield f'<text class="number" x="{a:.1f}" y="{b + 4:.1f}">{named.index(dot) + 1}</text>'


def _legend(chart: Chart) -> str:
    named = _named(chart)
    items = "".join(f'<li class="{dot.kind}">{escape(dot.name)}</li>' for dot in named)
    more = len(chart.dots) - len(named)
    if more and not chart.joined:
        items += f'<li class="candidate">{more} candidates, without training</li>'
    return f"<ol>{items}</ol>" if items else ""
