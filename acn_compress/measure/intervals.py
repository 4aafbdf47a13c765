"""95 % intervals: the bootstrap, and for a mean over examples of which too few differ an exact one.

Resampling cannot draw what was never seen: of n answers that all stayed the same it says [0, 0].
So where fewer than `FEW` examples differ from what most of them are, the interval also has room for
one example more at either end of the scale (Learned-Miller and Thomas, arXiv 1905.06208). For
shares that is Clopper and Pearson's exact interval. Where no example differs it is the rule of
three: a share that was seen in none of n is at most 1 - 0.05^(1/n), about 3 / n.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from acn_compress.errors import ConfigError, DataError
from acn_compress.quality import Drop

Array = np.ndarray[Any, np.dtype[Any]]
Reach = tuple[float, float]  # the lowest and the highest value that an example can have

RESAMPLES = 2000
EXACT = 10_000  # draws of an exact interval
AT_ONCE = 1_000_000  # numbers that are drawn at once
FEW = 10  # examples that differ from all others: below, a bootstrap is too narrow
ENDS = (0.025, 0.975)
MISS = 0.05  # how often an interval may miss
SMALL = 100  # examples: below, reports say so


def bootstrap(
    numerators: Array, denominator: Array, *, seed: int = 0, resamples: int = RESAMPLES
) -> Array:
    """Percentile bootstrap intervals of sum(numerator) / sum(denominator) over examples.

    Args:
        numerators: [examples, quantities], resampled together.
        denominator: [examples].
    Returns:
        [2, quantities]: low, high.
    """
    n = len(numerators)
    if n == 0:
        raise DataError("an interval needs at least one example.")
    rng = np.random.default_rng(seed)
    estimates = np.empty((resamples, numerators.shape[1]))
    for i in range(resamples):
        times_drawn = np.bincount(rng.integers(0, n, n), minlength=n)
        estimates[i] = times_drawn @ numerators / max(float(times_drawn @ denominator), 1e-12)
    return np.asarray(np.quantile(estimates, ENDS, axis=0))


def interval(numerator: Array, denominator: Array, *, seed: int = 0) -> tuple[float, float]:
    """`bootstrap` of one quantity."""
    low, high = bootstrap(numerator[:, None], denominator, seed=seed)[:, 0]
    return float(low), float(high)


def mean_intervals(values: Array, weight: Array, reach: Reach, *, seed: int = 0) -> Array:
    """Intervals of weighted means over examples: `bootstrap`, or `exact` where few differ.

    Args:
        values: [examples, quantities].
        weight: [examples].
        reach: of every value; an end that is infinite is taken to be as far again as was seen.
    Returns:
        [2, quantities]: low, high.
    """
    found = bootstrap(values * weight[:, None], weight, seed=seed)
    counts = weight > 0
    for k, column in enumerate(values[counts].T):
        if _differing(column) < FEW:
            found[:, k] = exact(column, weight[counts], _finite(reach, column), seed=seed)
    return found


def mean_interval(
    values: Array, weight: Array, reach: Reach, *, seed: int = 0
) -> tuple[float, float]:
    """`mean_intervals` of one quantity, `values` of [examples]."""
    low, high = mean_intervals(values[:, None], weight, reach, seed=seed)[:, 0]
    return float(low), float(high)


def exact(values: Array, weight: Array, reach: Reach, *, seed: int = 0) -> Reach:
    """The interval of a mean that has room for what was not seen; all arrays are [examples]."""
    low, high = reach
    if np.ptp(values) == 0:
        value, unseen = float(values[0]), smallest_share(len(values))
        return value - unseen * (value - low), value + unseen * (high - value)
    kinds, count = np.unique(np.stack((values, weight)), axis=1, return_counts=True)
    shape, scale = [*count, 1.0], [*kinds[1], float(weight.mean())]  # the last is what was not seen
    rng, at_once = np.random.default_rng(seed), max(1, AT_ONCE // len(shape))
    means = np.empty((EXACT, 2))
    for part in np.split(means, range(at_once, EXACT, at_once)):
        drawn = rng.standard_gamma(shape, (len(part), len(shape))) * scale
        seen, more = drawn[:, :-1], drawn[:, -1:]
        whole = np.vecdot(seen, kinds[0])[:, None] + more * np.array(reach)
        part[:] = whole / (seen.sum(1, keepdims=True) + more)
    ends = np.quantile(means[:, 0], ENDS[0]), np.quantile(means[:, 1], ENDS[1])
    return float(ends[0]), float(ends[1])


def _differing(values: Array) -> int:
    """Examples that are not what most of them are."""
    return len(values) - int(np.unique(values, return_counts=True)[1].max())


def _finite(reach: Reach, values: Array) -> Reach:
    low, high = float(values.min()), float(values.max())
    far = max(abs(low), abs(high))
    return (
        reach[0] if math.isfinite(reach[0]) else low - far,
        reach[1] if math.isfinite(reach[1]) else high + far,
    )


def difference(reach: Reach) -> Reach:
    """How far two values can lie apart."""
    return reach[0] - reach[1], reach[1] - reach[0]


# what so many examples can show


def smallest_share(examples: int) -> float:
    """The largest share that can have been missed in all of so many examples (rule of three)."""
    return float(1 - MISS ** (1 / examples))


def examples_for(share: float) -> int:
    """How many examples it takes to show that less than this share changed."""
    return math.ceil(math.log(MISS) / math.log1p(-share)) if share < 1 else 1


def check_shown(max_drop: float, examples: int) -> None:
    """Refuse a tolerance that no interval of so many examples can keep, where each is right or
    wrong, before anything is measured. That no number can show 0 is left to the interval.

    Raises:
        ConfigError: with the number of examples that it takes.
    """
    if (told := unshown(max_drop, examples)) is not None:
        raise ConfigError(told)


def unshown(max_drop: float, examples: int) -> str | None:
    """Why so many examples cannot show that a drop is this small, or None if they can."""
    if not 0 < max_drop < smallest_share(examples):
        return None
    return (
        f"max_drop {max_drop:g} needs about {round_up(examples_for(max_drop)):,} examples, "
        f"found {examples:,}: use more data or --bound point."
    )


def examples_until(most: float, drop: Drop, examples: int) -> int | None:
    """How many examples it takes until a drop's interval ends at `most`, if it stays what it was on
    `examples`: the interval narrows by the root of their number. None if it is not below `most`.
    """
    if drop.drop >= most:
        return None
    return math.ceil(examples * ((drop.high - drop.drop) / (most - drop.drop)) ** 2)


def round_up(number: int) -> int:
    """To two digits, which is as exact as such a number is."""
    step = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // step) * step


def few_note(examples: int) -> str:
    """A warning where an interval rests on few examples, else nothing."""
    if examples >= SMALL:
        return ""
    return (
        f"n = {examples} is small: intervals are wide, rare changes go unseen; use {SMALL} or more."
    )
