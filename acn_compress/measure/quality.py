"""Quality on data: accuracy, loss and F1 with a 95 % interval (`intervals.py`), alone or paired
against another model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from acn_compress import processes
from acn_compress.errors import DataError
from acn_compress.measure.intervals import Array, Reach, difference, mean_interval
from acn_compress.network.threads import threads_for
from acn_compress.quality import Change, Drop, Quality
from acn_compress.tasks.base import Scored, Task, features

if TYPE_CHECKING:
    from acn_compress.data.load import Data, Noise
    from acn_compress.network.network import Network


@dataclass(frozen=True)
class Scores:
    """Every example of a data set, scored: arrays of [examples], and per row of logits (or what a
    task holds against each other) prediction and target [rows]. `reach`: what the score of an
    example can be."""

    loss: Array
    score: Array
    weight: Array
    prediction: Array
    target: Array
    reach: Reach = (0.0, 1.0)

    @classmethod
    def of(cls, batch: Scored, reach: Reach = (0.0, 1.0)) -> Scores:
        """Of one batch: a few numbers per example and row, without its logits, which for a language
        model are larger than the model."""
        target = batch.loss.new_zeros(0) if batch.target is None else batch.target
        said, right = batch.held or (batch.prediction, target)

        def flat(values: torch.Tensor) -> Array:
            return values.detach().reshape(-1).cpu().double().numpy()

        return cls(
            flat(batch.loss),
            flat(batch.score),
            flat(batch.weight),
            flat(said),
            flat(right),
            reach,
        )

    @classmethod
    def joined(cls, parts: list[Scores]) -> Scores:
        """Scores of a data set, from those of its parts in order."""
        arrays = ("loss", "score", "weight", "prediction", "target")
        whole = {n: np.concatenate([getattr(part, n) for part in parts]) for n in arrays}
        return cls(**whole, reach=parts[0].reach)

    @property
    def value(self) -> float:
        """The main metric."""
        return float((self.score * self.weight).sum() / self.weight.sum())

    @property
    def mean_loss(self) -> float:
        """The loss over all examples."""
        return float((self.loss * self.weight).sum() / self.weight.sum())


def measure(
    net: Network, data: Data, *, batch_size: int = 256, noise: Noise | None = None
) -> Scores:
    """Score every example, in order, as the task is done by this network; several processes share
    the batches."""
    return processes.together(_measure, net, data, batch_size, noise)


def _measure(net: Network, data: Data, batch_size: int, noise: Noise | None) -> Scores:
    task, part = data.task.of(net), processes.part()
    answered = outputs(net, data, batch_size=batch_size, noise=noise, part=part)
    scored = (task.score(output, batch) for output, batch in answered)
    return Scores.joined(processes.joined([Scores.of(s, task.reach) for s in scored]))


def outputs(
    net: Network,
    data: Data,
    *,
    batch_size: int = 256,
    noise: Noise | None = None,
    part: slice = slice(None),
) -> Iterator[tuple[Any, dict[str, torch.Tensor]]]:
    """The model's output on every batch (or on a part of them), in evaluation mode, with the
    batch."""
    with net.evaluating(), threads_for(net):
        for batch in data.batches(batch_size, device=net.device, noise=noise, part=part):
            with torch.inference_mode():
                output = net(**features(batch))
            yield output, batch


def summary(scores: Scores, task: Task, *, seed: int = 0) -> Quality:
    """The quality of scored examples."""
    low, high = mean_interval(scores.score, scores.weight, scores.reach, seed=seed)
    loss = scores.mean_loss
    return Quality(
        metric=task.metric,
        value=scores.value,
        low=low,
        high=high,
        loss=loss,
        examples=len(scores.score),
        **task.extras(scores.prediction, scores.target, loss),
    )


def paired(scores: Scores, other: Scores, *, seed: int = 0) -> Drop:
    """How far `scores` lies below `other` on the same examples, paired."""
    if len(scores.score) != len(other.score):
        raise DataError(
            f"paired comparison needs the same examples: found {len(scores.score)} and "
            f"{len(other.score)}."
        )
    apart = other.score - scores.score
    low, high = mean_interval(apart, scores.weight, difference(scores.reach), seed=seed)
    return Drop(drop=other.value - scores.value, low=low, high=high)


def change(before: Scores, after: Scores, task: Task) -> Change:
    """Two models on the same examples."""
    return Change(
        before=summary(before, task), after=summary(after, task), drop=paired(after, before)
    )
