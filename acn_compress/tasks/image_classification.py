"""One class per image. Main metric: accuracy."""

from __future__ import annotations

from acn_compress.tasks import classes
from acn_compress.tasks.base import Rows, Table, Task


def rows(table: Table, encoder: object) -> Rows:
    """A class per image; the data wing has the images."""
    labels, names = table.classes(classes.COLUMNS)
    return Rows([], labels, names)


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
    refuse=classes.refuse,
    set_head_=classes.set_head_,
    classes=classes.COLUMNS,
    one_class=True,
)
