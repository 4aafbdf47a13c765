"""What run reports before it does anything."""

from __future__ import annotations

from collections.abc import Iterator

from acn_compress import figures
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
    steps: int | None = None
    """Optimizer steps."""
    flops: float | None = None
    """Floating-point operations of its training."""

    def cells(self) -> Iterator[tuple[str, str]]:
        """Names of columns, and what the step says in them."""
        yield "step", self.folder
        yield "makes", self.makes
        yield "blocks", "" if self.blocks is None else str(self.blocks)
        yield "params", figures.millions(self.parameters)
        yield "train steps", "" if self.steps is None else f"{self.steps:,}"
        yield "TFLOP", "" if self.flops is None else f"{self.flops / 1e12:.3g}"


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
        yield grid(title, [list(step.cells()) for step in self.steps], spare=["makes"])
        yield Line("params: about, where the options say them; empty where the step will find them")
        yield Line(f"source: {self.source}")
        rows = [
            f"{count:,} {what}"
            for count, what in ((self.examples, "to train on"), (self.eval_examples, "to measure"))
            if count is not None
        ]
        yield Line(f"data: {self.data}" + (f" ({', '.join(rows)})" if rows else ""))
        known = [step.flops for step in self.steps if step.flops is not None]
        if known:
            yield Line(f"training in all: {sum(known) / 1e12:.3g} TFLOP")
        if self.finished:
            yield Line(f"there from before: {', '.join(self.finished)}")
        for text in self.missing:
            yield Line(f"missing: {text}", indent="  ")
        if not self.missing:
            yield Command(self.command)
