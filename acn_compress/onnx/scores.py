"""The quality of an ONNX file, run in ONNX Runtime on the same examples as a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from acn_compress.data.load import Data, Noise
from acn_compress.errors import CheckpointError
from acn_compress.measure.quality import Scores
from acn_compress.onnx.session import Array, Session, reason, taken
from acn_compress.tasks.base import Batch


def measure_file(
    file: Path, data: Data, noise: Noise | None = None, *, batch_size: int = 64
) -> Scores:
    """Score every example, in the order in which `measure.quality.measure` does.

    Raises:
        CheckpointError, DataError: in one line, if the file does not take the data or its outputs
            are not those of the task.
    """
    running, scored = Session(file), list[Scores]()
    size = next((i.shape[0] for i in running.inputs if i.shape and i.shape[0]), batch_size)
    for batch in data.batches(size, noise=noise):
        found = _run(running, batch, data.name)
        said = _Output(file, running.outputs, found)
        scored.append(Scores.of(data.task.score(said, batch), data.task.reach))
    return Scores.joined(scored)


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
