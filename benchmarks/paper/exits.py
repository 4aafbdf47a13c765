"""Claim 10: leaving the network at the first depth whose answer is sure enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from acn_compress.data.load import Data
from acn_compress.measure.budget import forward_flops
from acn_compress.measure.early_exit import entropy, exits
from acn_compress.measure.readouts import readout
from acn_compress.tasks import features
from paper.entry import Entry, Verdict, percent
from paper.setting import Lab

THRESHOLD = 0.7  # entropy in nats, the paper's
THRESHOLDS = (0.3, 0.5, THRESHOLD, 0.9, 1.1, 1.3, 1.5, 1.7, 1.9, 2.1)
TOLERANCE = 0.01  # of accuracy
NETWORKS = {
    "residual": ("residual", 0.0),
    "acn": ("acn", 0.0),
    "residual, shared exit head": ("residual", 1.0),
    "acn, shared exit head": ("acn", 1.0),
}


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

    def exit_at(self, threshold: float) -> dict[str, float]:
        """Leaving at the first depth with an entropy of at most `threshold`, or else at the last.
        The heads of the depths on the way (a norm, a mean and one small product) are not counted as
        operations."""
        depths = len(self.entropy)
        first = exits(self.entropy, threshold)
        accuracy = float(self.right.gather(0, first[None]).mean())
        mean_depth = float(first.float().mean()) + 1
        speedup = (self.outside + depths * self.block) / (self.outside + mean_depth * self.block)
        return {
            "threshold": threshold,
            "accuracy": accuracy,
            "mean_depth": mean_depth,
            "speedup": speedup,
        }

    def fastest_within(self, tolerance: float) -> dict[str, float]:
        """The fastest of THRESHOLDS whose accuracy is at most `tolerance` below the whole
        network's."""
        whole = float(self.right[-1].mean())
        rows = [self.exit_at(t) for t in THRESHOLDS]
        never = self.exit_at(-1.0)
        return max(
            [never, *(r for r in rows if r["accuracy"] >= whole - tolerance)],
            key=lambda r: r["speedup"],
        )


def answers(net: Any, data: Data) -> Answers:
    """Every depth's answer, from one pass over the data."""
    unsure, right = [], []
    net.model.eval()
    with torch.inference_mode():
        for batch in data.batches(256):
            with net.recording() as prefixes:
                net(**features(batch))
            logits = torch.stack(
                [readout(net, y, batch).logits.float() for y in prefixes[1:]]
            )  # [depths, batch, classes]
            unsure.append(entropy(logits))
            right.append((logits.argmax(-1) == batch["labels"]).float())
    return Answers(torch.cat(unsure, 1), torch.cat(right, 1), *forward_flops(net))


def claim_10(lab: Lab) -> Entry:
    """Speed-up in operations over the whole network of the same name, at entropy 0.7 and at the
    largest threshold that costs at most a point of accuracy. The shared exit head is trained with
    one random depth per step (the paper: all depths, weights 2(l+1)/(L(L+1))).
    yes: with a shared exit head the ACN is faster than the residual network both ways, and at 0.7
        it loses at most a point of its own
    accuracy; partly: faster in one of the two ways; no: in neither."""
    seed = lab.seeds[0]
    found: dict[str, dict[str, Any]] = {}
    for name, (form, prefix) in NETWORKS.items():
        read = answers(lab.network(form, seed, prefix=prefix)[0], lab.test())
        whole = float(read.right[-1].mean())
        found[name] = {
            "whole": whole,
            "at_threshold": read.exit_at(THRESHOLD),
            "within_a_point": read.fastest_within(TOLERANCE),
            "curve": [read.exit_at(t) for t in THRESHOLDS],
        }
    ours = "; ".join(
        f"{name} ({percent(f['whole'])}): {f['at_threshold']['speedup']:.2f}x at {percent(f['at_threshold']['accuracy'])}, "
        f"within a point {f['within_a_point']['speedup']:.2f}x"
        for name, f in found.items()
    )
    theirs = "AC cut at 12 of 16: 1.5x; residual with shared exit head 2.4x, AC with shared exit head 3.3x"
    return Entry(
        "10",
        "early exit, entropy 0.7",
        theirs,
        ours,
        "Mixer, 1 seed",
        judge(found),
        {"seed": seed, **found},
    )


def judge(found: dict[str, Any]) -> Verdict:
    """Rule of claim 10."""
    acn, residual = found["acn, shared exit head"], found["residual, shared exit head"]
    faster = [
        acn[key]["speedup"] > residual[key]["speedup"] for key in ("at_threshold", "within_a_point")
    ]
    if all(faster) and acn["at_threshold"]["accuracy"] >= acn["whole"] - TOLERANCE:
        return "yes"
    return "partly" if any(faster) else "no"
