"""Which candidates are worth finishing: the limits, in what the table foresees, and what keeps
them."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from acn_compress.backends.latency import milliseconds
from acn_compress.checkpoint.files import size
from acn_compress.compression.frontier import Limits
from acn_compress.compression.search import Plan
from acn_compress.errors import ConfigError
from acn_compress.measure.candidate import Point
from acn_compress.reports.compressed import amount
from acn_compress.steps.compress.job import Job

TRIES = 3  # candidates that are trained, at most, until one keeps the drop
GRAPH = 40_000  # bytes of a block in an ONNX file beside its weights
MARGIN = 0.96  # of a limit that is aimed at: what is measured scatters
NEAR = 0.93  # of a limit: what takes less leaves room
ROUNDS = 15  # of a timing on the way
SMALLER = "max_latency_ms", "target_params", "target_size"


def limits_of(job: Job) -> Limits:
    """What the user asked for, in what candidates are foreseen to take: what they are foreseen to
    is corrected by what some of them take, until that is within the limit.

    Raises:
        ConfigError: if no candidate is as fast or as small.
    """
    how = job.how
    limits = Limits(how.max_drop, how.bound, parameters=_parameters(job), bytes=_bytes(job))
    if (asked := _milliseconds(job)) is not None:
        scale = job.notes.found.scale or _scale(job, limits, asked)
        job.notes.add(scale=scale)
        limits = replace(limits, milliseconds=MARGIN * asked / scale)
    _reachable(job, limits)
    return limits


def _milliseconds(job: Job) -> float | None:
    """The most that a call may take, where the whole network takes what the table says."""
    how = job.how
    return how.max_latency_ms if how.speedup is None else job.frontier.slowest / how.speedup


def _parameters(job: Job) -> float | None:
    asked = job.how.target_params
    return asked * job.whole.parameters if asked is not None and asked <= 1 else asked


def _bytes(job: Job) -> float | None:
    """What the weights may take of the size."""
    asked = job.how.target_size
    return None if asked is None else int(asked) - GRAPH * job.whole.depth


def _scale(job: Job, limits: Limits, asked: float) -> float:
    """What foreseen times are to be multiplied by for what is chosen to take `asked` milliseconds
    at most, and not much less: more would go than has to."""
    scale = 1.0
    for _ in range(TRIES):
        plans = _reachable(job, replace(limits, milliseconds=MARGIN * asked / scale))
        times = [(job.frontier.milliseconds(p), _time(job, p)) for p in plans]
        if NEAR * asked <= max(took for _, took in times) <= asked:
            break
        scale = max(took / foreseen for foreseen, took in times)
    return scale


def _nearest(job: Job, point: Point, limits: Limits) -> Point:
    """What was chosen, or where it takes much less time than it may something better, foreseen to
    take as much more; that is timed too."""
    asked = _milliseconds(job)
    if asked is None or limits.milliseconds is None:
        return point
    if (took := _time(job, point)) >= NEAR * asked:
        return point
    more = replace(limits, milliseconds=point.milliseconds * MARGIN * asked / took)
    other = job.frontier.within(more)
    better = other.quality.loss < point.quality.loss and _time(job, other) <= asked
    return other if better else point


def _time(job: Job, plan: Plan | Point) -> float:
    """Milliseconds of a plan, timed beside the whole network, however busy the machine is now: as
    if that took the least that it was seen to, or, where a speed-up is asked for, what the table
    says."""
    shapes = [job.watch.whole, job.watch.plan(plan.blocks, plan.int8)]
    rounds = min(200, max(ROUNDS, round(100 / job.frontier.slowest)))  # short calls scatter more
    whole, made = milliseconds(job.watch.seconds(shapes, rounds))
    job.calmest = min(job.calmest, whole, job.frontier.slowest)
    usual = job.frontier.slowest if job.how.speedup is not None else job.calmest
    return made * usual / whole


def _reachable(job: Job, limits: Limits) -> list[Plan]:
    """Plans that time and size allow."""
    frontier = job.frontier
    if plans := frontier.fitting(limits):
        return plans
    least = frontier.smallest()
    ms, count = frontier.milliseconds(least), frontier.candidates.parameters(least.blocks)
    kind = " in int8" if least.int8 else ""
    given = {n: getattr(job.how, n) for n in ("speedup", *SMALLER)}
    asked = ", ".join(f"{n} {amount(n, v)}" for n, v in given.items() if v is not None)
    raise ConfigError(
        f"{job.source.name} cannot be made as small as asked: the smallest candidate takes "
        f"{ms:.3g} ms{kind} ({frontier.slowest / ms:.3g} times as fast), has {count:,} of "
        f"{job.whole.parameters:,} parameters and {size(count * frontier.width(least.int8))} of "
        f"weights; asked was {asked}. Ask for {'less' if job.how.speedup else 'a larger limit'}."
    )


def tries(job: Job, limits: Limits) -> list[Point]:
    """Candidates to finish, in this order, until one keeps the drop."""
    frontier = job.frontier
    if not limits.only_drop:
        point = _nearest(job, frontier.within(limits), limits)
        job.tell(f"chosen: {point}")
        return [point]
    order = frontier.keeping(limits)
    if order:
        job.tell(f"cheapest that keeps the drop: {order[0]}")
    else:
        again = "training may make up for it" if job.how.trains else "the best is kept"
        job.tell(f"no candidate keeps the drop without training; {again}")
        order = sorted(frontier.points, key=lambda p: p.drop.drop)[:TRIES]
    if not job.how.trains:
        return order
    below = (p for p in frontier.front() if frontier.cost(p) < frontier.cost(order[0]))
    return [*islice(below, 1), *order][:TRIES]
