"""One class per example, of an image or a text: what both tasks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acn_compress.tasks.base import Batch, Scored

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from acn_compress.tasks.base import Array

COLUMNS = ("label", "labels", "class", "target", "category", "fine_label")


def score(output: Any, batch: Batch) -> Scored:
    """Labels [batch]."""
    import torch
    import torch.nn.functional as F

    logits, labels = output.logits.float(), batch["labels"]
    loss = F.cross_entropy(logits, labels, reduction="none")
    right = (logits.argmax(-1) == labels).float()
    return Scored(loss, right, torch.ones_like(loss), logits, labels)


def extras(prediction: Array, target: Array, loss: float) -> dict[str, float]:
    """F1 (the mean over classes) and Matthews' correlation."""
    from sklearn.metrics import f1_score, matthews_corrcoef

    f1 = f1_score(target, prediction, average="macro", zero_division=0)
    return {"f1_macro": float(f1), "mcc": float(matthews_corrcoef(target, prediction))}


def problem(config: PreTrainedConfig) -> str:
    """What the outputs of a head of sequences or images are, as transformers decides it: by
    `problem_type`, and where none is said by the number of outputs."""
    stated: str | None = getattr(config, "problem_type", None)
    if stated:
        return stated
    return "regression" if config.num_labels == 1 else "single_label_classification"


def refuse(config: PreTrainedConfig) -> str | None:
    """Heads that give numbers."""
    kind = problem(config)
    if kind == "regression":
        return f"gives numbers and no classes (regression, num_labels {config.num_labels})"
    return None


def set_head_(config: PreTrainedConfig) -> None:
    """A head of classes, whatever the checkpoint's own head was for."""
    if getattr(config, "problem_type", None) is not None:
        config.problem_type = "single_label_classification"
