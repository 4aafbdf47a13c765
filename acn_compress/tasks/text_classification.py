"""One class per text or pair of texts. Main metric: accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acn_compress.tasks import classes
from acn_compress.tasks.base import Encoder, Rows, Table, Task

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def rows(table: Table, encoder: Encoder) -> Rows:
    """A text or a pair per row, with one class."""
    found = table.texts()
    labels, names = table.classes(classes.COLUMNS)
    inputs = encoder.rows(encoder.encode(*found))
    return Rows(inputs, labels, names, [sum(map(len, row)) for row in zip(*found, strict=True)])


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
    rows=rows,
    extras=classes.extras,
    fits=fits,
    refuse=classes.refuse,
    set_head_=classes.set_head_,
    classes=classes.COLUMNS,
    one_class=True,
    counted=True,
)
