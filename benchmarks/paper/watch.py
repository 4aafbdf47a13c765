"""Training that is watched: where the gradients come from (claim 11) and how the test loss falls
(claim 6)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from acn_compress.data.load import Data
from acn_compress.events import Event, TrainingStep
from acn_compress.found import Found
from acn_compress.measure.quality import measure
from acn_compress.network.network import Network
from acn_compress.network.threads import threads_for
from acn_compress.options import Trained
from acn_compress.tasks import TASKS
from acn_compress.training.fit import fit
from acn_compress.training.walk import Walk
from benchmarks.paper.chosen import first
from benchmarks.paper.gradients import Shares, shares

TASK = TASKS["image-classification"]
MOMENTS = {"start": 0.0, "middle": 0.5}  # shares of the run; "end" comes after it
SHARED, TESTED = 256, 2000  # examples: of the gradient shares, and of the test loss
FIFTHS = 5  # of a training
EVERY = 5  # reports (a hundredth of the run each) from one test loss to the next


class Point(Found):
    """Of a loss curve."""

    step: int
    loss: float


class Measured(Point):
    """Of the curve of the test loss."""

    accuracy: float


class Seen(Found):
    """What was seen while a network was trained."""

    seconds: float
    steps: int
    history: list[Point]
    """The training loss, its mean over a hundredth of the run each."""
    test: list[Measured]
    gradients: dict[str, Shares]
    """By moment: "start" (after a hundredth of the run), "middle", "end"."""


class Watcher:
    """Called with the progress of a training, it looks at the network.

    Args:
        watch: examples whose first SHARED give the gradient shares, and whose first TESTED the test
            loss.
    """

    def __init__(self, net: Network, watch: Data) -> None:
        self.net, self.watch = net, watch
        self.batch: dict[str, Tensor] = next(iter(watch.batches(SHARED)))
        self.gradients: dict[str, Shares] = {}
        self.test: list[Measured] = []
        self._reports = 0

    def __call__(self, now: Event) -> None:
        assert isinstance(now, TrainingStep)
        self._reports += 1
        for when, begin in MOMENTS.items():
            if now.step / now.steps >= begin and when not in self.gradients:
                with self.net.evaluating(), threads_for(self.net):
                    self.gradients[when] = shares(self.net, self.batch, TASK)
        if self._reports % EVERY == 0:
            self.test.append(self._tested(now.step))

    def _tested(self, step: int) -> Measured:
        scores = measure(self.net, first(self.watch, TESTED))
        loss, accuracy = round(float(scores.loss.mean()), 5), round(scores.value, 4)
        return Measured(step=step, loss=loss, accuracy=accuracy)


def late(curve: Sequence[tuple[int, float]]) -> float:
    """What a training gained in its last fifth: (step, quality), the mean of these less that of the
    fifth before."""
    steps = curve[-1][0]
    fifths: list[list[float]] = [[] for _ in range(FIFTHS)]
    for step, quality in curve:
        fifths[min(FIFTHS - 1, FIFTHS * step // steps)].append(quality)
    return float(np.mean(fifths[-1]) - np.mean(fifths[-2]))


def watched(net: Network, data: Data, how: Trained, watch: Data) -> Seen:
    """Train in place in the form the network has; `watch` as in `Watcher`."""
    structure, watcher = net.structure, Watcher(net, watch)
    still = Walk(structure.alpha, structure.alpha, 0.0, structure.layer)
    done = fit(net, data, how, walk=still, progress=watcher)
    watcher.gradients["end"] = shares(net, watcher.batch, TASK)
    return Seen(
        seconds=round(done.seconds, 1),
        steps=done.steps,
        history=[Point(step=h.step, loss=round(h.loss, 5)) for h in done.history],
        test=watcher.test,
        gradients=watcher.gradients,
    )
