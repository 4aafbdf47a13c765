"""What a training will take, and what it says of itself; apart from the training, as that takes
seconds to import."""

from __future__ import annotations

from acn_compress.events import Logged
from acn_compress.found import Found
from acn_compress.options import Trained


class Fit(Found):
    """What training did."""

    steps: int
    """Optimizer steps."""
    seconds: float
    """Of this run: what an interrupted one took before is not in it."""
    precision: str
    """fp32, or bf16 where it was autocast."""
    lr: float
    """Peak learning rate."""
    history: tuple[Logged, ...] = ()
    """About a hundred steps of the run."""


def steps_of(how: Trained, examples: int) -> int:
    """Optimizer steps of a training on so many examples."""
    return max(1, round(how.epochs * (examples // how.batch_size) / how.accumulate))
