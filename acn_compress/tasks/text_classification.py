"""One class per text or pair of texts. Main metric: accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acn_compress.tasks import classes
from acn_compress.tasks.base import Task, of_texts

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def fits(config: PreTrainedConfig) -> bool:
    """One class of several."""
    return classes.problem(config) == "single_label_classification"


TASK = Task(
    name="text-classification",
    metric="accuracy",
    modality="text",
    heads=("ForSequenceClassification",),
    auto_class="AutoModelForSequenceClassification",
    pipeline_tag="text-classification",
    score=classes.score,
    rows=of_texts(lambda table: table.classes(classes.COLUMNS)),
    extras=classes.extras,
    fits=fits,
    refuse=classes.refuse,
    set_head_=classes.set_head_,
    classes=classes.COLUMNS,
    one_class=True,
    counted=True,
)
