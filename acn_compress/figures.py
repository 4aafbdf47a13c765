"""Figures as people read them: changes in points, parameters in millions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acn_compress.quality import Drop

POINTS = {"accuracy", "token_accuracy", "f1_samples", "exact_match"}  # told in points: hundredths


def unit(metric: str) -> str:
    """Of a change."""
    return "points" if metric in POINTS else metric


def scaled(value: float, metric: str) -> float:
    """In the unit of a change."""
    return 100 * value if metric in POINTS else value


def limit(value: float, metric: str) -> str:
    """A largest drop, as it is asked for, and in points."""
    points = scaled(value, metric)
    told = f" = {points:g} point{'' if points == 1 else 's'}"
    return f"{value:g}" + (told if metric in POINTS else "")


def signed(value: float, metric: str) -> str:
    """A change: above 0 is more."""
    digits = 1 if metric in POINTS else 3
    return f"{round(scaled(value, metric), digits) + 0:+.{digits}f}"  # + 0: no negative zero


def span(value: float, low: float, high: float, metric: str) -> str:
    """A change with its interval."""
    told = (signed(v, metric) for v in (value, low, high))
    return "{} [{}, {}]".format(*told)


def change(drop: Drop | None, metric: str) -> str:
    """A drop as a change: above 0 is better. Nothing where there is none."""
    return "" if drop is None else span(-drop.drop, -drop.high, -drop.low, metric)


def told(drop: Drop, metric: str) -> str:
    """A drop as a change, in a sentence."""
    return f"{change(drop, metric)} {unit(metric)}"


def title(metric: str) -> str:
    """The name of a metric above a column."""
    return metric.replace("_", " ")


def millions(count: int | None) -> str:
    """Parameters."""
    if count is None:
        return ""
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"


def counted(number: int, what: str) -> str:
    """So many of something."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def milliseconds(seconds: float) -> str:
    """A latency."""
    return f"{1000 * seconds:.2f}"
