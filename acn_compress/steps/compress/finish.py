"""What a candidate becomes: refitted on all rows and trained back if that is asked for; and the
plain baseline, with the same training."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import NamedTuple

from acn_compress import figures
from acn_compress.backends.latency import milliseconds
from acn_compress.compression import refit
from acn_compress.compression.frontier import Limits
from acn_compress.measure.candidate import Point
from acn_compress.measure.quality import Scores, paired
from acn_compress.measure.timing import SMALLEST
from acn_compress.network import widths
from acn_compress.network.network import Network
from acn_compress.quality import Drop
from acn_compress.steps.compress.choose import ROUNDS
from acn_compress.steps.compress.job import Job
from acn_compress.training.fitted import Fit
from acn_compress.training.state import kept, resumable
from acn_compress.training.walk import Walk

PULL = 0.1  # of a walk into ACN form, as in compare


@dataclass(frozen=True)
class Done:
    """A finished candidate.

    Args:
        scores: on the rows that decide; in int8 if the candidate is.
        untrained: likewise, before its training.
        harmed: the training did harm, so that the network is the untrained one.
    """

    net: Network
    point: Point
    scores: Scores
    drop: Drop
    untrained: Scores
    fit: Fit | None
    harmed: bool = False


class Baseline(NamedTuple):
    """What a candidate is compared with.

    Args:
        harmed: likewise.
    """

    net: Network
    harmed: bool = False


@dataclass(frozen=True)
class Finishing:
    """Makes candidates and trains them.

    Args:
        trainings: what interrupted ones left is kept until it closes.
    """

    job: Job
    trainings: ExitStack

    def finish(self, tries: list[Point], limits: Limits) -> Done:
        """Finish candidates until one keeps the drop; else the best."""
        found: list[Done] = []
        for number, point in enumerate(tries, 1):
            found.append(self._finished(point, number))
            if limits.keeps_drop(found[-1].drop):
                return found[-1]
            told = figures.told(found[-1].drop, point.quality.metric)
            self.job.tell(f"{point.blocks_kept}: finished, {told}")
        return min(found, key=lambda done: done.drop.drop)

    def _finished(self, point: Point, number: int) -> Done:
        net, how = self.job.frontier.candidates.make(point.blocks), self.job.how
        untrained = self._measured(net, point)
        if not how.trains:
            return self._done(net, point, untrained, untrained, None)
        walks: dict[str, Walk | None] = {f"candidate-{number}": None}
        if how.convert:
            start, layer = net.structure.alpha, net.structure.layer
            walks[f"candidate-{number}-acn"] = Walk(
                start, (0.0,) * len(start), 0.5, layer, pull=PULL
            )
        ways = [
            self._trained(net.copy(), point, untrained, label, walk)
            for label, walk in walks.items()
        ]
        best = min(ways, key=lambda done: done.scores.mean_loss)
        if not self._harmed("training", untrained, best.scores):
            return best
        return replace(self._done(net, point, untrained, untrained, best.fit), harmed=True)

    def _harmed(self, what: str, before: Scores, after: Scores) -> bool:
        """Whether a network is worse on the rows that decide than before its training."""
        if after.mean_loss <= before.mean_loss:
            return False
        losses = f"loss {before.mean_loss:.4f} before, {after.mean_loss:.4f} after"
        self.job.tell(f"{what} did harm ({losses}): the untrained network is taken")
        return True

    def _trained(
        self, net: Network, point: Point, untrained: Scores, label: str, walk: Walk | None
    ) -> Done:
        refitted = walk is None and refit.refused(net, self.job.whole) is None
        found = self._train_(net, label, walk, refitted)
        return self._done(net, point, self._measured(net, point), untrained, found)

    def _measured(self, net: Network, point: Point) -> Scores:
        return self.job.measured(net, self.job.rows.deciding, point.int8)

    def _done(
        self, net: Network, point: Point, scores: Scores, untrained: Scores, found: Fit | None
    ) -> Done:
        drop = paired(scores, self.job.frontier.reference)
        return Done(net, point, scores, drop, untrained, found)

    def _train_(
        self, net: Network, label: str, walk: Walk | None = None, refitted: bool = False
    ) -> Fit:
        """Distil from the whole network; what an interrupted training left is gone on from."""
        from acn_compress.training.fit import fit  # takes seconds
        from acn_compress.training.trainer import learning_rate

        job = self.job
        job.tell(f"training {label}")
        place = job.out.with_name(f"{job.out.name}.{label}")
        how = job.how.changed(
            resume=job.how.resume and resumable(place),
            lr=learning_rate(net, job.how.lr, refitted),
        )
        state = self.trainings.enter_context(kept(place, job.source, how))
        return fit(
            net,
            job.rows.training,
            how,
            walk=walk,
            teacher=job.whole,
            state=state,
            progress=job.progress,
        )

    def baseline(self, done: Done) -> Baseline | None:
        """The plain way: the last blocks dropped until it is as fast, in the same precision and
        with the same training. None where nothing can be dropped, or nothing had to be."""
        whole = self.job.whole
        if whole.depth == 1 or done.net.parameters == whole.parameters:
            return None
        net = whole.copy()
        net.truncate_(self._as_fast(done.point))
        if not self.job.how.trains:
            return Baseline(net)
        trained = net.copy()
        self._train_(trained, "drop-last")
        before, after = (self._measured(each, done.point) for each in (net, trained))
        harmed = self._harmed("training drop-last", before, after)
        return Baseline(net if harmed else trained, harmed)

    def _as_fast(self, point: Point) -> int:
        """The most blocks with which the network is as fast as a candidate, as far as timing can
        tell; all of them only where int8 alone is as fast."""
        frontier, watch, int8 = self.job.frontier, self.job.watch, point.int8
        sizes, foreseen = widths.counts(self.job.whole), frontier.milliseconds(point)
        depths = range(1, self.job.whole.depth + int8)
        nearest = min(depths, key=lambda k: abs(frontier.foreseen(sizes[:k], int8) - foreseen))
        near = [k for k in (nearest - 1, nearest, nearest + 1) if k in depths]
        shapes = [watch.plan(point.blocks, int8)]
        shapes += [watch.first(k)._replace(int8=int8) for k in near]
        mine, *theirs = milliseconds(watch.seconds(shapes, ROUNDS))
        limit = (1 + SMALLEST) * mine
        return max((k for k, ms in zip(near, theirs, strict=True) if ms <= limit), default=near[0])
