"""What happens while something runs, as a progress display is told it."""

from __future__ import annotations

from collections.abc import Callable

from acn_compress.found import Found


class Logged(Found):
    """A training after some of its steps."""

    step: int
    """Optimizer steps done."""
    loss: float
    """Its mean since the entry before."""
    alpha: float
    """The mean over the layers."""
    lr: float | None = None
    """Learning rate of the last step."""
    metric: float | None = None
    """Of the task, at the end of the last epoch."""


class TrainingStep(Logged):
    """What a progress display is told of a training."""

    steps: int
    """Of the whole run."""
    seconds_left: float
    """If it goes on as fast."""

    def __str__(self) -> str:
        metric = "" if self.metric is None else f" metric {self.metric:.3f}"
        left = duration(self.seconds_left)
        return f"loss {self.loss:.4f} alpha {self.alpha:.2f}{metric} {left} left"


class ChainStep(Found):
    """Which step of a recipe, or run of a comparison, begins."""

    number: int
    total: int
    name: str
    reused: bool
    """It was finished before."""
    seconds_left: float | None = None
    """Of all that follow, this one included, where it can be told."""

    def __str__(self) -> str:
        reused = " (finished before, reused)" if self.reused else ""
        left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left in all"
        return f"{self.number}/{self.total} {self.name}{reused}{left}"


class Stage(Found):
    """What a search has come to."""

    text: str

    def __str__(self) -> str:
        return self.text


class Result(Stage):
    """What came of a step of a recipe."""


Event = TrainingStep | ChainStep | Stage
Progress = Callable[[Event], None]


def duration(seconds: float) -> str:
    """Seconds for people."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
