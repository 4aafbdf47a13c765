"""What every step returns: a report. `--json` is its dump; a screen, a text and a page in a
notebook are made of its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from acn_compress.checkpoint.original import Again
from acn_compress.data.read import Read
from acn_compress.found import Found
from acn_compress.measure.intervals import few_note
from acn_compress.reports.blocks import Block, Command, Line, Pairs
from acn_compress.reports.show import as_html, as_text

# how to measure what was not
LOOK = "acn-compress evaluate {out} --data {data} --against {original}"


class Report(Found):
    """What a step found, and how it is told."""

    step: str
    """The verb."""

    def display(self) -> Iterator[Block]:
        """What is shown of it, in order."""
        yield Pairs(self.step, [(name, found) for name, found in self.items() if name != "step"])

    def warning(self) -> str | None:
        """What nobody knows of what was made, in a line, and what to add; the command line says it
        beside the report."""
        return None

    def brief(self) -> str:
        """What came of it, in a line, as a chain of steps tells it."""
        return ""

    def complaint(self) -> str | None:
        """What was asked for and does not hold, in a line; the command line exits with 1 then."""
        return None

    def __str__(self) -> str:
        return as_text(self.display())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return as_html(self.display())


def follows(
    text: str, out: str, source: str | None, again: Again | None, data: str | None = None
) -> Command:
    """What to do next: {out}, {source}, {data} and {original} are filled in as far as they are
    known.

    Args:
        data: that the step itself had.
    """
    known = again or Again()
    names = {"data": data or known.data or "DATA", "original": known.original or source}
    return Command.of(text, out=out, source=source, **names)


def read_lines(
    read: Read | None, what: str = "read", *, remarks: Sequence[str] = ()
) -> Iterator[Line]:
    """What was read of data, and of the checkpoint."""
    first, *more = [""] if read is None else read.brief()
    texts = [f"{what} {first}" if first else "", *(f"  {text}" for text in more)]
    for text in (*texts, *(f"checkpoint: {remark}" for remark in remarks)):
        if text:
            yield Line(text, indent="    ")


def few_lines(examples: int) -> Iterator[Line]:
    """A warning where an interval rests on few examples."""
    if told := few_note(examples):
        yield Line(told)
