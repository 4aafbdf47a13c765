"""What run reports before it does anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from acn_compress import figures
from acn_compress.checkpoint.files import size
from acn_compress.found import Found
from acn_compress.reports.base import Report
from acn_compress.reports.blocks import Block, Command, Line, grid


class PlannedStep(Found):
    """One step of a run that was not begun. What only the step itself will find is None."""

    folder: str
    makes: str
    """What it will leave there."""
    blocks: int | None = None
    parameters: int | None = None
    """About so many, after it."""
    bytes: int | None = None
    """Of the weights, about."""
    steps: int | None = None
    """Optimizer steps, also those of a baseline beside it."""
    flops: float | None = None
    """Floating-point operations of its training."""
    seconds: float | None = None
    """Of those, as fast as a forward pass is here."""
    at_most: bool = False
    """Parameters and bytes are the most that the options allow."""
    trains_at_most: bool = False
    """Steps, operations and seconds are the most that it can come to."""
    limits: tuple[str, ...] = ()
    """What was asked of what it makes."""

    def cells(self) -> Iterator[tuple[str, str]]:
        """Names of columns, and what the step says in them."""
        yield "step", self.folder
        yield "makes", self.makes
        yield "blocks", "" if self.blocks is None else str(self.blocks)
        size_, training = ("<= " if most else "" for most in (self.at_most, self.trains_at_most))
        cells: dict[str, tuple[str, Any, Callable[[Any], str]]] = {
            "params": (size_, self.parameters, figures.millions),
            "size": (size_, self.bytes, size),
            "train steps": (
                training if self.limits else "",
                self.steps,
                lambda steps: f"{steps:,}",
            ),
            "TFLOP": (training, self.flops, lambda flops: f"{flops / 1e12:.3g}"),
            "time": (training if (self.seconds or 0) >= 10 else "", self.seconds, about),
        }
        for name, (before, value, told) in cells.items():
            yield name, "" if value is None else before + told(value)


def about(seconds: float) -> str:
    """Seconds that were only foreseen, to one digit."""
    if seconds < 10:
        return "< 10 s"
    short = ((60.0, "s", 1.0), (3600.0, "min", 60.0), (math.inf, "h", 3600.0))
    return next(f"{float(f'{seconds / n:.1g}'):.0f} {u}" for most, u, n in short if seconds < most)


class Planned(Report):
    """What run would do."""

    recipe: str
    out: str
    source: str
    data: str
    examples: int | None
    """To train on."""
    eval_examples: int | None
    """To measure on."""
    steps: tuple[PlannedStep, ...]
    finished: tuple[str, ...]
    """Folders of an earlier run, to be used again where nothing they depend on changed."""
    missing: tuple[str, ...]
    """What has to be there, and is not."""
    command: str
    """That does it."""

    def complaint(self) -> str | None:
        """How much is missing."""
        count = len(self.missing)
        if not count:
            return None
        return f"{count} thing{'s are' if count > 1 else ' is'} missing, as told above."

    def display(self) -> Iterator[Block]:
        """A row per step, the sum, what is missing."""
        title = f"{self.recipe}: what would be done; nothing was"
        spare = ["makes", "TFLOP", "train steps"]
        yield grid(title, [list(step.cells()) for step in self.steps], spare=spare)
        yield Line(
            "params, size (of the weights): about, where the options say them; empty where the "
            "step will find them; time: of training."
        )
        for step in self.steps:
            if step.limits:
                yield Line(f"asked of {step.folder}: {', '.join(step.limits)}")
        yield Line(f"source: {self.source}")
        rows = [
            f"{count:,} {what}"
            for count, what in ((self.examples, "to train on"), (self.eval_examples, "to measure"))
            if count is not None
        ]
        yield Line(f"data: {self.data}" + (f" ({', '.join(rows)})" if rows else ""))
        known = [step.flops for step in self.steps if step.flops is not None]
        if known:
            most = "at most " if any(step.trains_at_most for step in self.steps) else ""
            text = f"training in all, baseline included: {most}{sum(known) / 1e12:.3g} TFLOP"
            if took := sum(step.seconds or 0.0 for step in self.steps):
                text += f", {about(took)} here, as fast as a forward pass was"
            yield Line(f"{text}. What searches, measures, exports and reads comes on top.")
        if self.finished:
            yield Line(f"there from before: {', '.join(self.finished)}")
        for text in self.missing:
            yield Line(f"missing: {text}", indent="  ")
        if not self.missing:
            yield Command(self.command)
