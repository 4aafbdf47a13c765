"""One number per text or pair of texts. Main metric: negative_mae, minus the absolute error, in the
labels' own units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acn_compress.tasks import classes
from acn_compress.tasks.base import Batch, Scored, Task, of_texts

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from acn_compress.tasks.base import Array

COLUMNS = ("label", "labels", "score", "similarity_score", "rating", "target", "class")


def score(output: Any, batch: Batch) -> Scored:
    """Labels [batch], numbers. Squared error trains, the absolute one is reported."""
    import torch

    found, labels = output.logits.float().squeeze(-1), batch["labels"]
    error, weight = found - labels, torch.ones_like(found)
    return Scored(error.square(), -error.abs(), weight, found[:, None], labels, numbers=True)


def extras(prediction: Array, target: Array, loss: float) -> dict[str, float]:
    """Correlations; a constant correlates with nothing."""
    import numpy as np
    from scipy.stats import pearsonr, spearmanr

    if np.ptp(target) == 0 or np.ptp(prediction) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    return {
        "pearson": float(pearsonr(prediction, target).statistic),
        "spearman": float(spearmanr(prediction, target).statistic),
    }


def fits(config: PreTrainedConfig) -> bool:
    """Numbers."""
    return classes.problem(config) == "regression"


def refuse(config: PreTrainedConfig) -> str | None:
    """Several numbers."""
    if config.num_labels == 1:
        return None
    return f"gives {config.num_labels} numbers per text (regression), which has no metric here"


def set_head_(config: PreTrainedConfig) -> None:
    """One output."""
    config.num_labels, config.problem_type = 1, "regression"


TASK = Task(
    name="text-regression",
    metric="negative_mae",
    modality="text",
    heads=("ForSequenceClassification",),
    auto_class="AutoModelForSequenceClassification",
    pipeline_tag="text-classification",
    score=score,
    rows=of_texts(lambda table: (table.numbers(COLUMNS), None)),
    extras=extras,
    fits=fits,
    refuse=refuse,
    set_head_=set_head_,
    numbers=True,
    reach=(float("-inf"), 0.0),
)
