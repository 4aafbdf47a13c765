"""One class per image. Main metric: accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acn_compress.tasks import classes
from acn_compress.tasks.base import Rows, Table, Task

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def rows(table: Table, encoder: object) -> Rows:
    """A class per image; the data wing has the images."""
    labels, names = table.classes(classes.COLUMNS)
    return Rows([], labels, names)


def fits(config: PreTrainedConfig) -> bool:
    """Anything but several classes at once."""
    return classes.problem(config) != "multi_label_classification"


TASK = Task(
    name="image-classification",
    metric="accuracy",
    modality="image",
    heads=("ForImageClassification", "ForImageClassificationWithTeacher"),
    auto_class="AutoModelForImageClassification",
    pipeline_tag="image-classification",
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
