"""The quality of an ONNX file, run in ONNX Runtime on the same examples as a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from acn_compress.data.load import Data, Noise
from acn_compress.measure.quality import Gathering, Scores
from acn_compress.onnx.session import Session


def measure_file(file: Path, data: Data, noise: Noise | None = None) -> Scores:
    """Score every example, in the order in which `measure.quality.measure` does."""
    running = Session(file)
    wanted, names = [i.name for i in running.inputs], running.outputs
    scored = Gathering()
    for batch in data.batches(64, noise=noise):
        found = running.run(names, {k: np.ascontiguousarray(batch[k].numpy()) for k in wanted})
        output = _Output(zip(names, map(torch.from_numpy, found), strict=True))
        scored.add(data.task.score(output, batch))
    return scored.scores(data.task.reach)


class _Output(dict[str, torch.Tensor]):
    """What ONNX Runtime gave, with the names as attributes: what a scorer reads."""

    def __getattr__(self, name: str) -> torch.Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None
