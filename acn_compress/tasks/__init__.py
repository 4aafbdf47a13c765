"""The tasks this package knows, by the name users write. Adding one: a file beside this one, and a
line in the dict."""

from __future__ import annotations

import copyreg
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from acn_compress.architectures import architecture_of
from acn_compress.errors import ConfigError, UnsupportedError
from acn_compress.network.plain import plain_class
from acn_compress.tasks import (
    audio_classification,
    causal_lm,
    embeddings,
    image_classification,
    masked_lm,
    multi_label,
    question_answering,
    text_classification,
    text_regression,
    token_classification,
)
from acn_compress.tasks.base import (
    IGNORED,
    Batch,
    Scored,
    Task,
    distillation,
    divergence,
    features,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from acn_compress.architectures.base import Modality
    from acn_compress.network.network import Network

__all__ = [
    "IGNORED",
    "TASKS",
    "Batch",
    "Scored",
    "Task",
    "distillation",
    "divergence",
    "features",
    "head_named",
    "task_called",
    "task_named",
    "task_of",
]

# in the order in which the names of classes are looked at: a GPT2LMHeadModel is no mere Model
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        image_classification.TASK,
        multi_label.IMAGE,
        audio_classification.TASK,
        text_classification.TASK,
        multi_label.TEXT,
        text_regression.TASK,
        token_classification.TASK,
        question_answering.TASK,
        masked_lm.TASK,
        causal_lm.TASK,
        embeddings.TASK,
    )
}


def _named(task: Task) -> tuple[Any, ...]:
    """How a task is pickled: by its name, unless it is what one network makes of it."""
    if TASKS.get(task.name) is task:
        return task_called, (task.name,)
    return cast("tuple[Any, ...]", task.__reduce_ex__(2))


copyreg.pickle(Task, _named)


def task_called(name: str) -> Task:
    """The task that a user named.

    Raises:
        ConfigError: listing the known ones.
    """
    if name not in TASKS:
        raise ConfigError(f"task '{name}' is not known. Known: {', '.join(TASKS)}.")
    return TASKS[name]


def task_of(net: Network) -> Task:
    """The task of a network, from its head.

    Raises:
        UnsupportedError: listing the known heads, or saying what cannot be measured about this one.
    """
    return task_named(plain_class(type(net.model)).__name__, net.config).of(net)


def task_or_none(net: Network) -> Task | None:
    """The task of a network; None where its head is for none that is known."""
    try:
        return task_of(net)
    except UnsupportedError:
        return None


def task_named(name: str, config: PreTrainedConfig) -> Task:
    """`task_of` a model class, by its name."""
    modality = architecture_of(config).modality
    task = next((t for t in _headed(name, modality) if t.fits(config)), None)
    if task is None:
        known = dict.fromkeys(head for task in TASKS.values() for head in task.heads)
        raise UnsupportedError(
            f"{name} has no head that can be trained or evaluated here. Known: {', '.join(known)}."
        )
    if why := task.refuse(config):
        raise UnsupportedError(f"{name} {why}.")
    return task


def head_named(name: str, modality: Modality) -> Task | None:
    """The first task that a model class is for, whatever its config says."""
    return next(_headed(name, modality), None)


def _headed(name: str, modality: Modality) -> Iterator[Task]:
    """A head of sequences may be one of texts or of clips."""
    named = (task for task in TASKS.values() if name.endswith(task.heads))
    return (task for task in named if task.modality == modality)
