"""What comes out: exported, timed and measured side by side with the original and the baseline on
rows that decided nothing, and written as one model directory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acn_compress import figures, surface
from acn_compress.backends.latency import QUANTILE, Array, Shape, busy, milliseconds
from acn_compress.checkpoint.files import write_json
from acn_compress.checkpoint.provenance import machine
from acn_compress.checkpoint.published import published
from acn_compress.checkpoint.snippets import of_graph
from acn_compress.checkpoint.write import write
from acn_compress.compression.frontier import Limits
from acn_compress.errors import AcnError
from acn_compress.measure.original import Original
from acn_compress.measure.quality import Scores, measure, paired, summary
from acn_compress.measure.timing import SMALLEST, judge
from acn_compress.network.network import Network
from acn_compress.onnx.cache import is_past
from acn_compress.onnx.layout import file_bytes, onnx_file
from acn_compress.onnx.metadata import tell_quality
from acn_compress.onnx.precision import write_int8
from acn_compress.onnx.scores import measure_file
from acn_compress.onnx.write import write_onnx
from acn_compress.quality import NO_ORIGINAL, Below, Outcome
from acn_compress.reports import plots
from acn_compress.reports.compressed import (
    ALONE,
    DROPPED,
    FLOAT,
    INT8,
    MINE,
    Compressed,
    Limit,
    Row,
)
from acn_compress.reports.html import uses
from acn_compress.steps.compress.finish import Baseline, Done
from acn_compress.steps.compress.job import Job

ROUNDS = 30  # of the last timing
MOMENTS = 3  # in which it is tried, at most, where the machine is busier than it was
OF_CHECKPOINT = (MINE, FLOAT)  # rows of what model.safetensors and onnx/model.onnx hold


@dataclass(frozen=True)
class Subject:
    """What a row of the table is of.

    Args:
        timed: what is run.
    """

    name: str
    net: Network
    timed: Path | Shape
    scores: Scores


def deliver(
    job: Job, done: Done, baseline: Baseline | None, limits: Limits, began: float
) -> Compressed:
    """Write the model directory.

    Args:
        began: when the command did, by `perf_counter`.
    """
    how, frontier = job.how, job.frontier

    def more(directory: Path) -> Mapping[str, object]:
        """The ONNX files, and what was measured of them and beside them."""
        file = directory / onnx_file()
        file.parent.mkdir()
        job.tell("exporting and verifying")
        onnx = write_onnx(done.net.copy(), file, job.source, seed=how.seed)
        small, note = _int8(job, file, done, limits)
        job.tell("timing side by side")
        subjects = _subjects(job, done, file, small, baseline and baseline.net)
        rows, disturbed = _rows(job, subjects)
        below = _below_original(job, subjects)
        for subject, row in zip(subjects, rows, strict=True):
            if subject.net is done.net and row.drop is not None:
                path = file if row.name in OF_CHECKPOINT else small
                mine = Below(name=job.source.name, drop=row.drop)
                outcome = Outcome.of(job.rows.reported.name, row.quality, mine, below[row.name])
                tell_quality(path or file, outcome)
        write_json(directory / "frontier.json", frontier.plain())
        plots.frontier(
            frontier.points,
            frontier.front(),
            done.point,
            rows,
            Path(job.source.name).name,
            f"n = {len(job.rows.deciding):,}",
            directory / "frontier.png",
        )
        delivered = small if done.point.int8 and small is not None else file
        of_checkpoint = next(row for row in rows[1:] if row.name in OF_CHECKPOINT)
        return {
            "before": rows[0].quality,
            "after": of_checkpoint.quality,
            "drop": of_checkpoint.drop,
            "original": below[of_checkpoint.name],
            "rows": rows,
            "busy": disturbed,
            "onnx": onnx.model_copy(update={"bytes": file_bytes(file)}),
            "int8": note,
            "delivered": onnx_file("int8" if delivered == small else None),
            "limits": _limits(job, rows, below[rows[1].name], file_bytes(delivered), limits),
            "seconds": round(time.perf_counter() - began, 1),
        }

    return write(
        done.net,
        job.out,
        source=job.source,
        step=how.verb,
        options=how.plain(),
        report=_known(job, done, baseline),
        seed=how.seed,
        overwrite=how.overwrite or how.resume,
        kind=Compressed,
        more=more,
        use=lambda found, directory: _of_file(found, done.net, directory),
        page=lambda found, directory: found.page(
            uses(directory / "README.md"),
            published(surface.typed(type(how), [job.source.name, str(job.out)], how)),
        ),
    )


def _of_file(found: Compressed, net: Network, directory: Path) -> list[str]:
    """For the card: what came of it, and Python that runs the file that the limits are about."""
    colours = net.channels if net.modality == "image" else None
    asked = found.onnx.inputs
    cached = any(map(is_past, asked))
    code = of_graph(directory, found.out, found.delivered, asked, colours, cached=cached)
    limits = [f"- {limit.told}" for limit in found.limits]
    return ["", f"## {found.delivered}", "", found.verdict(), "", *limits, "", *code]


def _known(job: Job, done: Done, baseline: Baseline | None) -> dict[str, Any]:
    """What the report has of all before the last timing."""
    training, deciding, reported, note = job.rows
    frontier, trained = job.frontier, job.how.trains
    return {
        "data": training.name,
        "examples": len(training),
        "read": training.read,
        "decided_on": f"{deciding.name} (n = {len(deciding):,})",
        "eval_data": reported.name,
        "eval_read": reported.read,
        "note": note,
        "untrained_drop": paired(done.untrained, frontier.reference) if trained else None,
        "training": done.fit,
        "harmed": done.harmed,
        "baseline_harmed": baseline is not None and baseline.harmed,
        "table": frontier.tables[False],
        "int8_table": frontier.tables.get(True),
        "scale": job.notes.found.scale,
        "calmest": job.calmest if job.how.max_latency_ms is not None else None,
        "frontier": tuple(frontier.points),
        "front": tuple(frontier.front()),
        "chosen": done.point,
        "parameters_before": job.whole.parameters,
        "machine": machine(),
    }


def _int8(job: Job, file: Path, done: Done, limits: Limits) -> tuple[Path | None, str | None]:
    """The int8 file, if it was chosen, or was asked for and loses no more than it may on the rows
    that decide; and what came of it."""
    if job.how.quantize is None:
        return None, None
    deciding = job.rows.deciding
    try:
        small = write_int8(file)
    except AcnError as why:
        return None, f"no int8 file: {why}"
    chosen = done.point.int8
    scores = done.scores if chosen else measure_file(small, deciding)
    lost = paired(scores, measure(done.net, deciding) if chosen else done.scores)
    told = figures.told(lost, deciding.task.metric)
    said = f"on the rows that decide int8 changes the float file by {told}"
    drop = paired(scores, job.frontier.reference)
    if chosen or (limits.keeps_drop(drop) if limits.max_drop is not None else lost.low <= 0):
        return small, said
    small.unlink()
    return None, f"no int8 file: {said}"


def _subjects(
    job: Job, done: Done, file: Path, small: Path | None, baseline: Network | None
) -> list[Subject]:
    """The original, what came out, its file in the other precision, and the baseline, on the rows
    that are reported."""
    reported, watch, net, int8 = job.rows.reported, job.watch, done.net, done.point.int8
    timed = file if job.how.backend == "onnx" else watch.plan(done.point.blocks)
    found = [Subject(FLOAT if int8 else MINE, net, timed, measure(net, reported))]
    if small is not None:
        mine = Subject(f"{MINE}, int8" if int8 else INT8, net, small, measure_file(small, reported))
        found.insert(0 if int8 else 1, mine)
    if baseline is not None:
        name = f"{DROPPED} {baseline.depth}{', int8' if int8 else ''}"
        if baseline.depth == job.whole.depth:  # in float there is always something dropped
            name = ALONE
        shape = watch.first(baseline.depth)._replace(int8=int8)
        found.append(Subject(name, baseline, shape, job.measured(baseline, reported, int8)))
    return [Subject("original", job.whole, watch.whole, measure(job.whole, reported)), *found]


def _below_original(job: Job, subjects: list[Subject]) -> dict[str, Below | None]:
    """How far each lies below the original of the chain, which may be older than the source."""
    original = Original.of(
        job.source,
        job.rows.reported,
        lambda other, place: job.rows_for(other, place).reported,
        known=job.source,
        scores=subjects[0].scores,
        net=job.whole,
    )
    return {s.name: None if original is None else original.below(s.scores) for s in subjects}


def _rows(job: Job, subjects: list[Subject]) -> tuple[tuple[Row, ...], float]:
    """Timed side by side; and how far other work disturbed that."""
    seconds = _seconds(job, [subject.timed for subject in subjects])
    first = subjects[0].scores
    rows = tuple(
        Row(
            name=subject.name,
            depth=subject.net.depth,
            parameters=subject.net.parameters,
            milliseconds=ms,
            speedup=judge(own, seconds[0], subject.scores is first, QUANTILE),
            quality=summary(subject.scores, job.rows.reported.task),
            drop=None if subject.scores is first else paired(subject.scores, first),
        )
        for subject, ms, own in zip(subjects, milliseconds(seconds), seconds, strict=True)
    )
    return rows, busy(seconds)


def _seconds(job: Job, timed: Sequence[Path | Shape]) -> Array:
    """Of calls [subjects, rounds], the original's first, in the calmest moment that was tried. A
    limit in milliseconds was aimed at the calmest moment that was seen: they are timed again while
    the original takes more than in that; a speed-up until timing can tell it from what was asked.
    """
    found = list[Array]()
    for _ in range(MOMENTS):
        found.append(job.watch.seconds(timed, ROUNDS))
        whole, mine, *_ = found[-1]
        (ms,) = milliseconds(whole[None])
        calm = job.how.max_latency_ms is None or ms <= (1 + SMALLEST) * job.calmest
        speed = _speed(job, judge(mine, whole, quantile=QUANTILE))
        if calm and all(limit.settled for limit in speed):
            break
    return min(found, key=lambda seconds: milliseconds(seconds)[0])


def _speed(job: Job, timed: Mapping[str, Any]) -> list[Limit]:
    """The limit on a speed-up, where there is one, and what `judge` found."""
    if (asked := job.how.speedup) is None:
        return []
    ratio, ends = timed["ratio"], {end: float(timed[f"ratio_{end}"]) for end in ("low", "high")}
    return [Limit.of("speedup", asked, ratio, ratio >= (1 - SMALLEST) * asked, **ends)]


def _limits(
    job: Job, rows: Sequence[Row], below: Below | None, size: int, limits: Limits
) -> tuple[Limit, ...]:
    """Every limit, what was found, and whether it holds. A time that is closer to what was asked
    for than timing can tell apart holds.

    Args:
        below: how far what came out lies below the original.
        size: bytes of the file that is delivered.
    """
    how, found, mine = job.how, list[Limit](), rows[1]
    drop = mine.drop
    than: dict[str, object] = {"against": job.source.name, "metric": mine.quality.metric}
    if job.original is not None and below is not None:
        drop, than = below.drop, than | {"against": job.original.name, "of_original": True}
    elif job.original is not None:
        than |= {"why_source": f"{job.original.name} reads other rows of those that are reported"}
    elif how.against is None:
        than |= {"why_source": NO_ORIGINAL}
    if how.max_drop is not None and drop is not None:
        value = drop.high if how.bound == "upper" else drop.drop
        holds = limits.keeps_drop(drop) and (job.original is None or below is not None)
        found.append(Limit.of("max_drop", how.max_drop, value, holds, **than))
    found += _speed(job, mine.speedup)
    if how.max_latency_ms is not None:
        holds = mine.milliseconds <= (1 + SMALLEST) * how.max_latency_ms
        found.append(Limit.of("max_latency_ms", how.max_latency_ms, mine.milliseconds, holds))
    if (asked := how.target_params) is not None:
        value = mine.parameters / (job.whole.parameters if asked <= 1 else 1)
        found.append(Limit.of("target_params", asked, value, value <= asked))
    if how.target_size is not None:
        most = int(how.target_size)
        found.append(Limit.of("target_size", most, size, size <= most))
    return tuple(found)
