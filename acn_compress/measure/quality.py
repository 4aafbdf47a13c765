"""Quality on data: accuracy, loss and F1 with a bootstrap 95 % interval, alone or paired against
another model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field

from acn_compress.data.load import Data, Noise
from acn_compress.errors import DataError
from acn_compress.found import Found
from acn_compress.network.network import Network
from acn_compress.tasks import METRICS, Scored, features, score

RESAMPLES = 2000
NARROW = 128  # features of the stream
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Scores:
    """Every example of a data set, scored: arrays of [examples], and per row of logits prediction
    and target [rows]."""

    loss: Array
    score: Array
    weight: Array
    prediction: Array
    target: Array

    @classmethod
    def gather(cls, batches: list[Scored]) -> Scores:
        """Join scored batches."""

        def join(parts: list[torch.Tensor]) -> Array:
            return torch.cat([p.detach().reshape(-1).double().cpu() for p in parts]).numpy()

        targets = [b.target for b in batches if b.target is not None]
        return cls(
            join([b.loss for b in batches]),
            join([b.score for b in batches]),
            join([b.weight for b in batches]),
            join([b.prediction for b in batches]),
            join(targets) if targets else np.zeros(0),
        )

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
    """Score every example, in order."""
    return Scores.gather(
        [
            score(data.task, output, batch)
            for output, batch in outputs(net, data, batch_size=batch_size, noise=noise)
        ]
    )


def outputs(
    net: Network, data: Data, *, batch_size: int = 256, noise: Noise | None = None
) -> Iterator[tuple[Any, dict[str, torch.Tensor]]]:
    """The model's output on every batch, in evaluation mode, with the batch."""
    with net.evaluating(), threads_for(net):
        for batch in data.batches(batch_size, device=net.device, noise=noise):
            with torch.inference_mode():
                output = net(**features(batch))
            yield output, batch


@contextlib.contextmanager
def threads_for(net: Network) -> Iterator[None]:
    """One thread for a narrow model: its operators are too short to share, and on a busy machine
    sharing them costs 4 to 30 times."""
    before = torch.get_num_threads()
    if net.device.type == "cpu" and net.width < NARROW:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def intervals(
    numerators: Array, denominator: Array, *, seed: int = 0, resamples: int = RESAMPLES
) -> Array:
    """Percentile bootstrap 95 % intervals of sum(numerator) / sum(denominator) over examples.

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
    return np.asarray(np.quantile(estimates, (0.025, 0.975), axis=0))


def interval(numerator: Array, denominator: Array, *, seed: int = 0) -> tuple[float, float]:
    """`intervals` of one quantity."""
    low, high = intervals(numerator[:, None], denominator, seed=seed)[:, 0]
    return float(low), float(high)


class Quality(Found, extra="allow"):
    """The main metric with its interval, and further metrics of the task under their own names."""

    __pydantic_extra__: dict[str, float] = Field(init=False)
    metric: str
    value: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    loss: float
    examples: int

    @property
    def further(self) -> dict[str, float]:
        """The task's further metrics, by name."""
        return self.model_extra or {}

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


class Drop(Found):
    """How far one model lies below another on the same examples."""

    drop: float
    low: float
    """Lower end of the paired 95 % interval."""
    high: float

    def __str__(self) -> str:
        return f"{self.drop:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


class Change(Found):
    """Two models on the same examples."""

    before: Quality
    after: Quality
    drop: Drop


def summary(scores: Scores, task: str, *, seed: int = 0) -> Quality:
    """The quality of scored examples."""
    low, high = interval(scores.score * scores.weight, scores.weight, seed=seed)
    loss = scores.mean_loss
    return Quality(
        metric=METRICS[task],
        value=scores.value,
        low=low,
        high=high,
        loss=loss,
        examples=len(scores.score),
        **_EXTRA.get(task, _none)(scores, loss),
    )


def _none(scores: Scores, loss: float) -> dict[str, float]:
    return {}


def _classification(scores: Scores, loss: float) -> dict[str, float]:
    from sklearn.metrics import f1_score, matthews_corrcoef

    found = {
        "f1_macro": float(
            f1_score(scores.target, scores.prediction, average="macro", zero_division=0)
        )
    }
    return found | {"mcc": float(matthews_corrcoef(scores.target, scores.prediction))}


def _regression(scores: Scores, loss: float) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr

    if (
        np.ptp(scores.target) == 0 or np.ptp(scores.prediction) == 0
    ):  # a constant correlates with nothing
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(pearsonr(scores.prediction, scores.target).statistic),
        "spearman": float(spearmanr(scores.prediction, scores.target).statistic),
    }


def _spans(scores: Scores, loss: float) -> dict[str, float]:
    """F1 of the tokens of the span found and of the right one, the mean over examples."""
    found, right = scores.prediction.reshape(-1, 2), scores.target.reshape(-1, 2)
    shared = np.minimum(found[:, 1], right[:, 1]) - np.maximum(found[:, 0], right[:, 0]) + 1
    length = np.maximum(found[:, 1] - found[:, 0] + 1, 0) + right[:, 1] - right[:, 0] + 1
    return {"token_f1": float((2 * np.maximum(shared, 0) / length).mean())}


def _perplexity(scores: Scores, loss: float) -> dict[str, float]:
    return {"perplexity": float(np.exp(min(loss, 700.0)))}


_EXTRA: dict[str, Callable[[Scores, float], dict[str, float]]] = {
    "image-classification": _classification,
    "text-classification": _classification,
    "text-regression": _regression,
    "token-classification": _classification,
    "question-answering": _spans,
    "masked-lm": _perplexity,
    "causal-lm": _perplexity,
}


def paired(scores: Scores, other: Scores, *, seed: int = 0) -> Drop:
    """How far `scores` lies below `other` on the same examples (paired bootstrap)."""
    if len(scores.score) != len(other.score):
        raise DataError(
            f"paired comparison needs the same examples: found {len(scores.score)} and {len(other.score)}."
        )
    difference = (other.score - scores.score) * scores.weight
    low, high = interval(difference, scores.weight, seed=seed)
    return Drop(drop=other.value - scores.value, low=low, high=high)


def change(before: Scores, after: Scores, task: str) -> Change:
    """Two models on the same examples."""
    return Change(
        before=summary(before, task), after=summary(after, task), drop=paired(after, before)
    )
