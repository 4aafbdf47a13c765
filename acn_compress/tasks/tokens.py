"""A class per token: how such answers are scored, whatever the classes are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from acn_compress.tasks.base import IGNORED, Batch, Scored

if TYPE_CHECKING:
    from torch import Tensor

    from acn_compress.tasks.base import Array


def score(output: Any, batch: Batch) -> Scored:
    """Labels [batch, length], IGNORED where a token does not count."""
    return score_tokens(output.logits, batch["labels"])


def answers(output: Any, inputs: Batch) -> Tensor:
    """A decision per token."""
    rows: Tensor = output.logits[inputs["attention_mask"].bool()]
    return rows.float()


def score_tokens(logits: Tensor, labels: Tensor) -> Scored:
    """logits [batch, length, classes], labels [batch, length]; an example counts for as many tokens
    as it has labels."""
    import torch
    import torch.nn.functional as F

    counts = labels != IGNORED
    rows, target = logits[counts].float(), labels[counts]
    example = counts.nonzero()[:, 0]
    weight = counts.sum(-1).float()

    def mean(values: Tensor) -> Tensor:
        return torch.zeros_like(weight).index_add(0, example, values) / weight.clamp(min=1)

    loss = F.cross_entropy(rows, target, reduction="none")
    return Scored(mean(loss), mean((rows.argmax(-1) == target).float()), weight, rows, target)


def perplexity(prediction: Array, target: Array, loss: float) -> dict[str, float]:
    """e to the loss, as far as a float goes."""
    return {"perplexity": math.exp(min(loss, 700.0))}
