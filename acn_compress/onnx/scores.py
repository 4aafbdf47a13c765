"""The quality of an ONNX file, run in ONNX Runtime on the same examples as a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from acn_compress.data.load import Data, Noise
from acn_compress.errors import CheckpointError
from acn_compress.measure.quality import Scores
from acn_compress.onnx.session import Array, Session, reason, taken
from acn_compress.tasks.base import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def measure_file(
    file: Path,
    data: Data,
    noise: Noise | None = None,
    *,
    batch_size: int = 64,
    config: PreTrainedConfig | None = None,
) -> Scores:
    """Score every example, in the order in which `measure.quality.measure` does.

    Args:
        config: what it is said to be, if that has to be checked.
    Raises:
        CheckpointError, DataError: in one line, if the file does not take the data or its outputs
            are not those of the task, or it has other labels.
    """
    running, scored = Session(file), list[Scores]()
    classes = config if data.task.classes else None
    if classes is not None:
        _check_labels(file, running.metadata.get("id2label", ""), classes)
    size = next((i.shape[0] for i in running.inputs if i.shape and i.shape[0]), batch_size)
    for batch in data.batches(size, noise=noise):
        found = _run(running, batch, data.name)
        said = _Output(file, running.outputs, found)
        if classes is not None and (width := said.logits.shape[-1]) != classes.num_labels:
            raise CheckpointError(
                f"{file}: gives {width} classes, but the config that was read has "
                f"{classes.num_labels}. Expected the config of its original."
            )
        scored.append(Scores.of(data.task.score(said, batch), data.task.reach))
    return Scores.joined(scored)


def _check_labels(file: Path, told: str, config: PreTrainedConfig) -> None:
    """Whether a file and a config name the classes alike; anybody's file may tell anything."""
    try:
        own = json.loads(told)
    except ValueError:
        return
    if not isinstance(own, dict):
        return
    said = {str(number): name for number, name in (config.id2label or {}).items()}
    if own != said:
        place = next(n for n in [*own, *said] if own.get(n) != said.get(n))
        raise CheckpointError(
            f"{file}: class {place} is {own.get(place, 'none')}, but in the config that was read "
            f"{said.get(place, 'none')}. Expected the config of its original."
        )


def _run(running: Session, batch: Batch, name: str) -> list[Array]:
    feeds = taken(batch, running.inputs)
    try:
        return running.run(running.outputs, feeds)
    except Exception as error:  # of ONNX Runtime, as a rule a shape that was fixed in the export
        shapes = ", ".join(f"{k} {list(v.shape)}" for k, v in feeds.items())
        raise CheckpointError(
            f"{running.path}: ONNX Runtime cannot run this file on {name} with {shapes} "
            f"({reason(error)}). Expected a graph that takes any number and length of examples."
        ) from None


class _Output(dict[str, torch.Tensor]):
    """What ONNX Runtime gave, with the names as attributes: what a scorer reads."""

    def __init__(self, file: Path, names: Sequence[str], found: Sequence[Array]) -> None:
        super().__init__((name, torch.from_numpy(a)) for name, a in zip(names, found, strict=True))
        self.file = file

    def __getattr__(self, name: str) -> torch.Tensor:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise CheckpointError(
                f"{self.file}: has no output {name}, which its task needs (found: "
                f"{', '.join(self)}). Export it with its outputs named as in transformers."
            ) from None
