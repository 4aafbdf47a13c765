"""compress: the best model under a budget.

The latency of the network's parts is measured, candidates are searched and measured without
training, the one that keeps the user's limits is taken, trained back if that is asked for, and
exported. Rows that decide are not the rows that are reported. Beside it stands the plain baseline:
the last blocks dropped, as fast, with the same training.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from acn_compress.backends.base import Load
from acn_compress.backends.latency import Shape, Stopwatch, busy, milliseconds
from acn_compress.checkpoint.directory import check_out
from acn_compress.checkpoint.files import write_json
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.processors import content_sha256
from acn_compress.checkpoint.source import Source
from acn_compress.checkpoint.write import write
from acn_compress.compression.calibration import ROWS
from acn_compress.compression.candidates import Candidates
from acn_compress.compression.frontier import Frontier, Limits
from acn_compress.compression.notes import Notes
from acn_compress.compression.search import Plan
from acn_compress.data.places import fingerprint
from acn_compress.data.splits import Held, held_apart
from acn_compress.errors import AcnError, ConfigError, Interrupted
from acn_compress.events import Progress, Stage
from acn_compress.measure.candidate import Point
from acn_compress.measure.intervals import check_shown
from acn_compress.measure.quality import Drop, Scores, measure, paired, summary
from acn_compress.measure.timing import SMALLEST, judge
from acn_compress.network import widths
from acn_compress.network.device import find_device
from acn_compress.network.network import Network
from acn_compress.onnx.layout import FILES, onnx_file
from acn_compress.onnx.quantize import check, quantize, real_rows
from acn_compress.onnx.scores import measure_file
from acn_compress.onnx.session import Session
from acn_compress.onnx.write import OnnxFile, write_onnx
from acn_compress.options import Compress, ModelSpec, PathSpec
from acn_compress.reports import plots
from acn_compress.reports.compressed import INT8, Compressed, Limit, Row
from acn_compress.training.fit import Fit, fit
from acn_compress.training.interrupt import exit_code, number_of
from acn_compress.training.state import kept, resumable
from acn_compress.training.walk import Walk

TRIES = 3  # candidates that are finished, at most, until one keeps the drop
GRAPH = 40_000  # bytes of a block in an ONNX file beside its weights
MARGIN = 0.96  # of a limit that is aimed at: what is measured scatters
ROUNDS = 30  # of the last timing
PULL = 0.1  # of a walk into ACN form, as in compare


def run(
    src: ModelSpec, out: PathSpec, how: Compress, progress: Progress | None = None
) -> Compressed:
    """Compress a checkpoint within the limits that were given."""
    source = find_source(src, config=how.config)
    check_out(out, source=source, overwrite=how.overwrite or how.resume)
    whole = load_source(source, device=find_device(how.device))
    looked_at = how if how.trains else how.changed(limit=min(how.limit or ROWS, ROWS), augment=None)
    rows = held_apart(looked_at, whole, source)
    if how.max_drop is not None and how.bound == "upper" and rows.deciding.task.counted:
        check_shown(how.max_drop, min(len(rows.deciding), len(rows.reported)))
    notes = Notes.open(out, _depends(how, source), how.resume)
    with _going_on(notes), ExitStack() as trainings:
        job = _Job(source, how, Path(out), whole, rows, notes, trainings, progress)
        report = job.run()
    notes.remove()
    return report


def _depends(how: Compress, source: Source) -> dict[str, object]:
    """What the figures depend on."""
    options = how.changed(overwrite=False, resume=False).plain()
    data = [fingerprint(d) for d in (how.data, how.eval_data) if d is not None]
    return {"options": options, "source": content_sha256(source), "data": data}


@contextmanager
def _going_on(notes: Notes) -> Iterator[None]:
    """A signal says how to go on."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        said = f"interrupted; what was measured is in {notes.path}. "
        said += "Run the same command with --resume to go on."
        raise Interrupted(said, exit_code(number_of(stopped))) from None


@dataclass(frozen=True)
class _Done:
    """A finished candidate.

    Args:
        scores: on the rows that decide.
        untrained: likewise, before its training.
    """

    net: Network
    point: Point
    scores: Scores
    drop: Drop
    untrained: Scores
    fit: Fit | None


@dataclass
class _Job:
    """What one command works with."""

    source: Source
    how: Compress
    out: Path
    whole: Network
    rows: Held
    notes: Notes
    trainings: ExitStack
    progress: Progress | None

    def run(self) -> Compressed:
        """All of it."""
        began = time.perf_counter()
        frontier, limits = self.frontier, self.limits()
        frontier.explore()
        tries = self.tries(limits)
        done = self.finish(tries, limits)
        baseline = self.baseline(done)
        return self.write(done, baseline, limits, began)

    # what is known before a candidate is chosen

    @cached_property
    def watch(self) -> Stopwatch:
        """Times networks that are cut from the whole one."""
        how = self.how
        return Stopwatch(
            self.whole, self.source, Load(how.calls, how.length, how.threads), how.backend
        )

    @cached_property
    def frontier(self) -> Frontier:
        """What can be made of the network, and what of it was measured."""
        how, known = self.how, self.notes.found
        table = known.table
        if table is None:
            self.tell(f"measuring what the parts of {self.source.name} take in {how.backend}")
            table = self.watch.table()
            self.notes.add(table=table)
        self.tell(f"looking at the network with {min(len(self.rows.training), ROWS):,} rows")
        by_size = how.target_params is not None or how.target_size is not None
        timed = how.speedup is not None or how.max_latency_ms is not None
        return Frontier(
            Candidates.of(self.whole, self.rows.training),
            table,
            timed or not by_size,
            self.rows.deciding,
            measure(self.whole, self.rows.deciding),
            list(known.points),
            lambda points: self.notes.add(points=tuple(points)),
            self.progress,
        )

    def limits(self) -> Limits:
        """What the user asked for, in what candidates are foreseen to take: what they are foreseen
        to is corrected by what some of them take, until that is within the limit.

        Raises:
            ConfigError: if no candidate is as fast or as small.
        """
        limits = Limits(self.how.max_drop, self.how.bound, parameters=self._parameters())
        if (asked := self._milliseconds()) is not None:
            scale = self.notes.found.scale or self._scale(limits, asked)
            self.notes.add(scale=scale)
            limits = replace(limits, milliseconds=MARGIN * asked / scale)
        self._reachable(limits)
        return limits

    def _scale(self, limits: Limits, asked: float) -> float:
        """What foreseen times are to be multiplied by for what is chosen to take `asked`
        milliseconds at most."""
        scale = 1.0
        for _ in range(TRIES):
            plans = self._reachable(replace(limits, milliseconds=MARGIN * asked / scale))
            times = [(self.frontier.milliseconds(p.blocks), self._time(p)) for p in plans]
            if all(took <= asked for _, took in times):
                break
            scale = max(took / foreseen for foreseen, took in times)
        return scale

    def _milliseconds(self) -> float | None:
        """The most that a call may take, where the whole network takes what the table says."""
        whole = self.frontier.milliseconds(widths.counts(self.whole))
        return self.how.max_latency_ms if self.how.speedup is None else whole / self.how.speedup

    def _time(self, plan: Plan) -> float:
        """Milliseconds of a plan, timed beside the whole network; where a speed-up is asked for,
        as if that took what the table says, however busy the machine is now."""
        shapes = [self.watch.whole, self.watch.plan(plan.blocks)]
        whole, made = milliseconds(self.watch.seconds(shapes, ROUNDS // 2))
        then = self.frontier.milliseconds(widths.counts(self.whole))
        return made if self.how.speedup is None else made * then / whole

    def _parameters(self) -> float | None:
        """The most that size allows."""
        how, net = self.how, self.whole
        found: list[float] = []
        if (asked := how.target_params) is not None:
            found.append(asked * net.parameters if asked <= 1 else asked)
        if how.target_size is not None:
            found.append((int(how.target_size) - GRAPH * net.depth) / net.dtype.itemsize)
        return min(found, default=None)

    def _reachable(self, limits: Limits) -> list[Plan]:
        """Plans that time and size allow."""
        frontier = self.frontier
        if plans := frontier.fitting(limits):
            return plans
        least = frontier.smallest()
        ms, count = frontier.milliseconds(least), frontier.candidates.parameters(least)
        whole = frontier.table.milliseconds(widths.counts(self.whole))
        raise ConfigError(
            f"{self.source.name} cannot be made as small as asked: the smallest candidate takes "
            f"{ms:.3g} ms ({whole / ms:.3g} times as fast) and has {count:,} of "
            f"{self.whole.parameters:,} parameters. Ask for less."
        )

    # candidates that are finished

    def tries(self, limits: Limits) -> list[Point]:
        """Candidates to finish, in this order, until one keeps the drop."""
        frontier = self.frontier
        if not limits.only_drop:
            point = frontier.best(frontier.fitting(limits))
            self.tell(f"chosen: {point}")
            return [point]
        best, front = frontier.cheapest(limits), frontier.front()
        if best is None:
            best = min(front, key=lambda p: p.drop.drop)
            again = "training may make up for it" if self.how.trains else "the best is kept"
            self.tell(f"no candidate keeps the drop without training; {again}")
        else:
            self.tell(f"cheapest that keeps the drop: {best}")
        at = front.index(best) if best in front else 0
        order = front[: at + 1][::-1]
        cheaper = front[at + 1 : at + 2] if self.how.trains else []
        return [*cheaper, *order][:TRIES]

    def finish(self, tries: list[Point], limits: Limits) -> _Done:
        """Refit candidates on all rows and train them, until one keeps the drop; else the best."""
        found: list[_Done] = []
        for number, point in enumerate(tries, 1):
            found.append(self._finished(point, number))
            if limits.keeps_drop(found[-1].drop):
                return found[-1]
            self.tell(f"{point}: finished, its drop is {found[-1].drop}")
        return min(found, key=lambda done: done.drop.drop)

    def _finished(self, point: Point, number: int) -> _Done:
        net, deciding = self.frontier.candidates.make(point.blocks), self.rows.deciding
        untrained = measure(net, deciding)
        if not self.how.trains:
            return self._done(net, point, untrained, untrained, None)
        ways = [self._trained(net.copy(), point, untrained, f"candidate-{number}")]
        if self.how.convert:
            start, layer = net.structure.alpha, net.structure.layer
            walk = Walk(start, (0.0,) * len(start), 0.5, layer, pull=PULL)
            ways.append(
                self._trained(net.copy(), point, untrained, f"candidate-{number}-acn", walk)
            )
        return min(ways, key=lambda done: done.scores.mean_loss)

    def _trained(
        self,
        net: Network,
        point: Point,
        untrained: Scores,
        label: str,
        walk: Walk | None = None,
    ) -> _Done:
        found = self._train_(net, label, walk)
        return self._done(net, point, measure(net, self.rows.deciding), untrained, found)

    def _done(
        self, net: Network, point: Point, scores: Scores, untrained: Scores, found: Fit | None
    ) -> _Done:
        drop = paired(scores, self.frontier.whole)
        return _Done(net, point, scores, drop, untrained, found)

    def _train_(self, net: Network, label: str, walk: Walk | None = None) -> Fit:
        """Distil from the whole network; what an interrupted training left is gone on from."""
        self.tell(f"training {label}")
        place = self.out.with_name(f"{self.out.name}.{label}")
        how = self.how.changed(resume=self.how.resume and resumable(place))
        state = self.trainings.enter_context(kept(place, self.source, how))
        return fit(
            net,
            self.rows.training,
            how,
            walk=walk,
            teacher=self.whole,
            state=state,
            progress=self.progress,
        )

    def baseline(self, done: _Done) -> Network | None:
        """The plain way: the last blocks dropped until it is as fast, with the same training."""
        if self.whole.depth == 1:
            return None
        net = self.whole.copy()
        net.truncate_(self._as_fast(done.point))
        if self.how.trains:
            self._train_(net, "drop-last")
        return net

    def _as_fast(self, point: Point) -> int:
        """The most blocks with which the network is as fast as a candidate, as far as timing can
        tell."""
        frontier, sizes = self.frontier, widths.counts(self.whole)
        foreseen = frontier.milliseconds(point.blocks)
        depths = range(1, self.whole.depth)
        nearest = min(depths, key=lambda k: abs(frontier.milliseconds(sizes[:k]) - foreseen))
        near = [k for k in (nearest - 1, nearest, nearest + 1) if k in depths]
        shapes = [self.watch.plan(point.blocks), *map(self.watch.first, near)]
        mine, *theirs = milliseconds(self.watch.seconds(shapes, ROUNDS // 2))
        limit = (1 + SMALLEST) * mine
        return max((k for k, ms in zip(near, theirs, strict=True) if ms <= limit), default=near[0])

    # the result

    def write(
        self, done: _Done, baseline: Network | None, limits: Limits, began: float
    ) -> Compressed:
        """Export, time and measure all side by side, and write the model directory."""
        how, frontier = self.how, self.frontier

        def more(directory: Path) -> Mapping[str, object]:
            """The ONNX file, and what was measured of it and beside it."""
            file = directory / onnx_file()
            file.parent.mkdir()
            self.tell("exporting and verifying")
            onnx = write_onnx(done.net.copy(), file, self.source, seed=how.seed)
            delivered = file if how.backend == "onnx" else self.watch.plan(done.point.blocks)
            small, note = self._int8(file, onnx, done, limits)
            self.tell("timing side by side")
            rows, disturbed = self._rows(done.net, delivered, small, baseline)
            write_json(directory / "frontier.json", frontier.plain())
            plots.frontier(
                frontier.points,
                frontier.front(),
                rows,
                self.source.name,
                directory / "frontier.png",
            )
            return {
                "before": rows[0].quality,
                "after": rows[1].quality,
                "drop": rows[1].drop,
                "rows": rows,
                "busy": disturbed,
                "onnx": onnx,
                "int8": note,
                "limits": self._limits(rows[0], rows[1], onnx.bytes, limits),
                "seconds": round(time.perf_counter() - began, 1),
            }

        return write(
            done.net,
            self.out,
            source=self.source,
            step=how.verb,
            options=how.plain(),
            report=self._known(done),
            seed=how.seed,
            overwrite=how.overwrite or how.resume,
            kind=Compressed,
            more=more,
        )

    def _known(self, done: _Done) -> dict[str, Any]:
        """What the report has of all before the last timing."""
        training, deciding, reported, note = self.rows
        frontier, trained = self.frontier, self.how.trains
        return {
            "data": training.name,
            "examples": len(training),
            "read": training.read,
            "decided_on": f"{deciding.name} (n = {len(deciding):,})",
            "eval_data": reported.name,
            "eval_read": reported.read,
            "note": note,
            "untrained_drop": paired(done.untrained, frontier.whole) if trained else None,
            "training": done.fit,
            "table": frontier.table,
            "scale": self.notes.found.scale,
            "frontier": tuple(frontier.points),
            "front": tuple(frontier.front()),
            "chosen": done.point,
            "parameters_before": self.whole.parameters,
        }

    def _int8(
        self, whole: Path, onnx: OnnxFile, done: _Done, limits: Limits
    ) -> tuple[Path | None, str | None]:
        """The int8 file, if it was asked for and loses no more than it may on the rows that decide;
        and what came of it."""
        if self.how.quantize is None:
            return None, None
        file, deciding = whole.with_name(FILES["int8"]), self.rows.deciding
        try:
            rows = real_rows(deciding, Session(whole).inputs)
            check(quantize(done.net, whole, ("int8",), onnx.outputs, rows))
        except AcnError as why:
            file.unlink(missing_ok=True)
            return None, f"no int8 file: {why}"
        scores = measure_file(file, deciding)
        drop, lost = paired(scores, self.frontier.whole), paired(scores, done.scores)
        said = f"on the rows that decide int8 loses {lost} to the float file"
        if limits.keeps_drop(drop) if limits.max_drop is not None else lost.low <= 0:
            return file, said
        file.unlink()
        return None, f"no int8 file: {said}"

    def _rows(
        self, net: Network, delivered: Path | Shape, small: Path | None, baseline: Network | None
    ) -> tuple[tuple[Row, ...], float]:
        """The original, what came out, its int8 file, and the baseline, on the rows that are
        reported; and how far other work disturbed the timing."""
        reported, watch = self.rows.reported, self.watch
        found: list[tuple[str, Network, Path | Shape, Scores]] = [
            ("original", self.whole, watch.whole, measure(self.whole, reported)),
            ("compressed", net, delivered, measure(net, reported)),
        ]
        if small is not None and self.how.backend == "onnx":
            found.append((INT8, net, small, measure_file(small, reported)))
        if baseline is not None:
            name, shape = f"drop to {baseline.depth}", watch.first(baseline.depth)
            found.append((name, baseline, shape, measure(baseline, reported)))
        seconds = watch.seconds([subject for _, _, subject, _ in found], ROUNDS)
        first = found[0][3]
        rows = tuple(
            Row(
                name=name,
                depth=each.depth,
                parameters=each.parameters,
                milliseconds=ms,
                speedup=judge(list(own), list(seconds[0]), scores is first),
                quality=summary(scores, reported.task),
                drop=None if scores is first else paired(scores, first),
            )
            for (name, each, _, scores), ms, own in zip(
                found, milliseconds(seconds), seconds, strict=True
            )
        )
        return rows, busy(seconds)

    def _limits(self, whole: Row, mine: Row, size: int, limits: Limits) -> tuple[Limit, ...]:
        """Every limit, what was found, and whether it holds. A time that is closer to what was
        asked for than timing can tell apart holds."""
        how, found = self.how, list[Limit]()
        faster = whole.milliseconds / mine.milliseconds
        if how.max_drop is not None and mine.drop is not None:
            value = mine.drop.high if how.bound == "upper" else mine.drop.drop
            found.append(Limit.of("max_drop", how.max_drop, value, limits.keeps_drop(mine.drop)))
        if how.speedup is not None:
            holds = faster >= (1 - SMALLEST) * how.speedup
            found.append(Limit.of("speedup", how.speedup, faster, holds))
        if how.max_latency_ms is not None:
            holds = mine.milliseconds <= (1 + SMALLEST) * how.max_latency_ms
            found.append(Limit.of("max_latency_ms", how.max_latency_ms, mine.milliseconds, holds))
        if (asked := how.target_params) is not None:
            value = mine.parameters / (self.whole.parameters if asked <= 1 else 1)
            found.append(Limit.of("target_params", asked, value, value <= asked))
        if how.target_size is not None:
            most = int(how.target_size)
            found.append(Limit.of("target_size", most, size, size <= most))
        return tuple(found)

    def tell(self, text: str) -> None:
        """Say what is being done."""
        if self.progress is not None:
            self.progress(Stage(text=text))
