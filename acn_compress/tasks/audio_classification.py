"""One class per clip. Main metric: accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acn_compress.tasks import classes
from acn_compress.tasks.base import Rows, Table, Task

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def rows(table: Table, encoder: object) -> Rows:
    """A class per clip; the data wing has the clips."""
    labels, names = table.classes(classes.COLUMNS)
    return Rows([], labels, names)


def refuse(config: PreTrainedConfig) -> str | None:
    """Heads that give numbers, or several classes."""
    if classes.problem(config) == "multi_label_classification":
        return "gives several classes per clip (multi_label_classification)"
    return classes.refuse(config)


TASK = Task(
    name="audio-classification",
    metric="accuracy",
    modality="audio",
    heads=("ForSequenceClassification",),
    auto_class="AutoModelForAudioClassification",
    pipeline_tag="audio-classification",
    score=classes.score,
    rows=rows,
    extras=classes.extras,
    refuse=refuse,
    set_head_=classes.set_head_,
    classes=classes.COLUMNS,
    one_class=True,
    counted=True,
)
