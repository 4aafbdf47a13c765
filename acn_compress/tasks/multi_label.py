"""Several classes per text or image, each there or not. Main metric: f1_samples, the mean over
examples of the F1 of the classes found and of the right ones (1 where there are none and none is
found), as scikit-learn's f1_score(average="samples") has it.

Every class of every example is a decision of its own: a row of two logits, 0 and the model's, whose
softmax is the sigmoid. So losses, distillation and agreement are those of all other tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from acn_compress.tasks import classes
from acn_compress.tasks.base import Batch, Rows, Scored, Table, Task, of_texts

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig

    from acn_compress.tasks.base import Array

COLUMNS = ("labels", "label", "classes", "tags", "categories")
KIND = "multi_label_classification"


def score(output: Any, batch: Batch) -> Scored:
    """Labels [batch, classes], 1 where a class is there. The loss is the mean over the classes of
    the binary cross-entropy, as in transformers."""
    import torch
    import torch.nn.functional as F

    logits, labels = output.logits.float(), batch["labels"].float()
    loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(-1)
    found, right = (logits > 0).float(), labels
    both, either = (found * right).sum(-1), (found + right).sum(-1)
    f1 = torch.where(either > 0, 2 * both / either.clamp(min=1), 1.0)
    rows = answers(output, batch)
    return Scored(loss, f1, torch.ones_like(loss), rows, labels.long().flatten())


def answers(output: Any, batch: Batch) -> Tensor:
    """A decision per class."""
    import torch

    logits: Tensor = output.logits.float()
    return torch.stack((torch.zeros_like(logits), logits), -1).flatten(0, 1)


def extras(prediction: Array, target: Array, loss: float) -> dict[str, float]:
    """Over all decisions: F1 of the classes that are there, and how many are right."""
    from sklearn.metrics import f1_score

    f1 = f1_score(target, prediction, average="binary", zero_division=1.0)
    return {"f1_micro": float(f1), "label_accuracy": float((prediction == target).mean())}


def labels(table: Table) -> tuple[Tensor, list[str]]:
    """[rows, classes] of zeros and ones, from lists of classes (an empty one says that there is
    none) or from vectors of zeros and ones; and the model's names."""
    import torch

    lists, names = table.class_lists(COLUMNS)
    found = torch.zeros(len(lists), len(names))
    for row, numbers in zip(found, lists, strict=True):
        row[numbers] = 1.0
    return found, names


def of_images(table: Table, encoder: object) -> Rows:
    """An image per row; the data wing has the images."""
    targets, names = labels(table)
    return Rows([], targets, names)


def fits(config: PreTrainedConfig) -> bool:
    """Only what says so: by the number of outputs it cannot be told."""
    return classes.problem(config) == KIND


def set_head_(config: PreTrainedConfig) -> None:
    """A head of sigmoids."""
    config.problem_type = KIND


class _Shared(TypedDict):
    metric: str
    score: Any
    answers: Any
    extras: Any
    fits: Any
    set_head_: Any
    classes: tuple[str, ...]
    vectors: bool


_SHARED: _Shared = {
    "metric": "f1_samples",
    "score": score,
    "answers": answers,
    "extras": extras,
    "fits": fits,
    "set_head_": set_head_,
    "classes": COLUMNS,
    "vectors": True,
}
TEXT = Task(
    name="text-multi-label",
    modality="text",
    heads=("ForSequenceClassification",),
    auto_class="AutoModelForSequenceClassification",
    pipeline_tag="text-classification",
    rows=of_texts(labels),
    **_SHARED,
)
IMAGE = Task(
    name="image-multi-label",
    modality="image",
    heads=("ForImageClassification",),
    auto_class="AutoModelForImageClassification",
    pipeline_tag="image-classification",
    rows=of_images,
    **_SHARED,
)
