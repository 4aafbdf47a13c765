"""What each task asks of a model's output: a loss to train on, a score per example to report, logits to distil.

Every task's main metric is a weighted mean over examples, so that intervals, pairing and tolerances work the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from acn_compress.errors import UnsupportedError
from acn_compress.registration import plain_class

SUFFIXES = {
    "ForImageClassification": "image-classification",
    "ForImageClassificationWithTeacher": "image-classification",
    "ForSequenceClassification": "text-classification",
}
METRICS = {"image-classification": "accuracy", "text-classification": "accuracy"}


@dataclass(frozen=True)
class Scored:
    """One batch, scored.

    Args:
        loss: [batch], the task loss of each example.
        score: [batch], the main metric of each example.
        weight: [batch], what the example counts for in the mean.
        logits: [rows, classes], what agreement and distillation compare.
        row_weight: [rows], 0 where a row of logits is padding.
        target: [rows], the label of each row, or None.
    """

    loss: Tensor
    score: Tensor
    weight: Tensor
    logits: Tensor
    row_weight: Tensor
    target: Tensor | None


def task_of(model: Any) -> str:
    """The task of a model, from its head.

    Raises:
        UnsupportedError: listing the known heads.
    """
    name = plain_class(type(model)).__name__
    for suffix, task in SUFFIXES.items():
        if name.endswith(suffix):
            return task
    raise UnsupportedError(f"{name} has no head that can be trained or evaluated here. Known: {', '.join(SUFFIXES)}.")


def score(task: str, output: Any, batch: dict[str, Tensor]) -> Scored:
    """Score one batch of a model's output against its labels."""
    return _SCORERS[task](output, batch)


def _classification(output: Any, batch: dict[str, Tensor]) -> Scored:
    logits, labels = output.logits.float(), batch["labels"]
    loss = F.cross_entropy(logits, labels, reduction="none")
    ones = torch.ones_like(loss)
    return Scored(loss, (logits.argmax(-1) == labels).float(), ones, logits, ones, labels)


_SCORERS = {"image-classification": _classification, "text-classification": _classification}


def distillation(student: Scored, teacher: Scored, temperature: float) -> Tensor:
    """Hinton's loss: T^2 * KL(teacher_T || student_T), the mean over rows that count."""
    divergence = F.kl_div(
        F.log_softmax(student.logits / temperature, -1), F.log_softmax(teacher.logits / temperature, -1), log_target=True, reduction="none"
    ).sum(-1)
    return (divergence * student.row_weight).sum() / student.row_weight.sum().clamp(min=1) * temperature**2
