"""Claim 10: leaving the network at the first depth whose answer is sure enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from acn_compress.data.load import Data
from acn_compress.found import Found
from acn_compress.measure.budget import forward_flops
from acn_compress.measure.early_exit import entropy, exits
from acn_compress.measure.readouts import readout
from acn_compress.network.network import Network
from acn_compress.tasks import features
from benchmarks.paper.entry import Entry, Verdict, percent, seeds_of
from benchmarks.paper.setting import Lab, Wanted

THRESHOLD = 0.7  # entropy in nats, the paper's
THRESHOLDS = (0.3, 0.5, THRESHOLD, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9, 2.1)
TOLERANCE = 0.01  # of accuracy
NETWORKS = {  # form, and weight of the prefix loss
    "residual": ("residual", 0.0),
    "acn": ("acn", 0.0),
    "residual, shared exit head": ("residual", 1.0),
    "acn, shared exit head": ("acn", 1.0),
}
THEIRS = (
    "AC cut at 12 of 16: 1.5x; residual with shared exit head 2.4x, AC with shared exit head 3.3x"
)


class Exit(Found):
    """What leaving at a threshold gives."""

    threshold: float
    accuracy: float
    mean_depth: float
    speedup: float


class Exits(Found):
    """One network: `within_a_point` is its fastest exit that costs at most TOLERANCE."""

    whole: float
    at_threshold: Exit
    within_a_point: Exit
    curve: list[Exit]


@dataclass(frozen=True)
class Answers:
    """What every depth says to every example.

    Args:
        entropy: [depths, examples], of the answer at depth 1 .. L, in nats.
        right: [depths, examples], 0 or 1.
        outside, block: operations of one example, of all but the blocks and of one block.
    """

    entropy: Tensor
    right: Tensor
    outside: float
    block: float

    @property
    def whole(self) -> float:
        """The accuracy of the whole network."""
        return float(self.right[-1].mean())

    def exit_at(self, threshold: float) -> Exit:
        """Leaving at the first depth with an entropy of at most `threshold`, or else at the last.
        The heads of the depths on the way (a norm, a mean and one small product) are not counted as
        operations."""
        depths = len(self.entropy)
        first = exits(self.entropy, threshold)
        mean_depth = float(first.float().mean()) + 1
        return Exit(
            threshold=threshold,
            accuracy=float(self.right.gather(0, first[None]).mean()),
            mean_depth=mean_depth,
            speedup=self._operations(depths) / self._operations(mean_depth),
        )

    def _operations(self, depth: float) -> float:
        """Of one example."""
        return self.outside + depth * self.block

    def fastest_within(self, tolerance: float) -> Exit:
        """The fastest of THRESHOLDS whose accuracy is at most `tolerance` below the whole
        network's."""
        good = [r for r in self.curve if r.accuracy >= self.whole - tolerance]
        return max([self.exit_at(-1.0), *good], key=lambda r: r.speedup)

    @property
    def curve(self) -> list[Exit]:
        """At each of THRESHOLDS."""
        return [self.exit_at(t) for t in THRESHOLDS]

    def report(self) -> Exits:
        """All of it."""
        return Exits(
            whole=self.whole,
            at_threshold=self.exit_at(THRESHOLD),
            within_a_point=self.fastest_within(TOLERANCE),
            curve=self.curve,
        )


def answers(net: Network, data: Data) -> Answers:
    """Every depth's answer, from one pass over the data."""
    unsure, right = [], []
    with torch.inference_mode(), net.evaluating():
        for batch in data.batches(256):
            logits = _readouts(net, batch)
            unsure.append(entropy(logits))
            right.append((logits.argmax(-1) == batch["labels"]).float())
    return Answers(torch.cat(unsure, 1), torch.cat(right, 1), *forward_flops(net))


def pooled(runs: Sequence[Answers]) -> Answers:
    """The examples of all seeds."""
    return replace(
        runs[0],
        entropy=torch.cat([run.entropy for run in runs], 1),
        right=torch.cat([run.right for run in runs], 1),
    )


def _readouts(net: Network, batch: dict[str, Tensor]) -> Tensor:
    """[depths, batch, classes], of depth 1 .. L."""
    with net.recording() as prefixes:
        net(**features(batch))
    return torch.stack([readout(net, y, batch).logits.float() for y in prefixes[1:]])


def claim_10(lab: Lab) -> Entry:
    """Speed-up in operations over the whole network of the same name, at entropy 0.7 and at the
    largest threshold that costs at most a point of accuracy. The shared exit head is trained with
    one random depth per step (the paper: all depths, weights 2(l+1)/(L(L+1))).
    yes: with a shared exit head the ACN is faster than the residual network both ways, and at 0.7
    it loses at most a point of its own accuracy; partly: faster in one of the two ways; no: in
    neither."""
    seeds = lab.scale.few
    found = {
        name: pooled(
            [answers(lab.network(Wanted(form, s, prefix=prefix)), lab.test()) for s in seeds]
        ).report()
        for name, (form, prefix) in NETWORKS.items()
    }
    ours = "; ".join(f"{name} {_in_words(row)}" for name, row in found.items())
    figures = {"seeds": list(seeds), **found}
    claim = "early exit, entropy 0.7"
    return Entry("10", claim, THEIRS, ours, f"Mixer, {seeds_of(seeds)}", judge(found), figures)


def _in_words(row: Exits) -> str:
    at, within = row.at_threshold, row.within_a_point
    return (
        f"({percent(row.whole)}): {at.speedup:.2f}x at {percent(at.accuracy)}, "
        f"within a point {within.speedup:.2f}x"
    )


def judge(found: dict[str, Exits]) -> Verdict:
    """Rule of claim 10."""
    acn, residual = found["acn, shared exit head"], found["residual, shared exit head"]
    faster = [
        acn.at_threshold.speedup > residual.at_threshold.speedup,
        acn.within_a_point.speedup > residual.within_a_point.speedup,
    ]
    if all(faster) and acn.at_threshold.accuracy >= acn.whole - TOLERANCE:
        return "yes"
    return "partly" if any(faster) else "no"
