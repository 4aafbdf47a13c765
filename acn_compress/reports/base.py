"""What every step returns: a report. `--json` is its dump; a screen, a text and a page in a
notebook are made of its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap

from acn_compress.data.read import Read
from acn_compress.found import Found
from acn_compress.measure.intervals import few_note

__all__ = ["Block", "Found", "Grid", "Line", "Pairs", "Report", "few_lines", "read_lines", "size"]

WIDE = 80  # columns of a screen


@dataclass(frozen=True)
class Line:
    """A sentence."""

    text: str


@dataclass(frozen=True)
class Pairs:
    """Names and what there is to say of each; None and "" are left out."""

    title: str
    rows: Sequence[tuple[str, object]]


@dataclass(frozen=True)
class Grid:
    """A table: the first column is text, the others are numbers.

    Args:
        section: the row after which a line is drawn; None draws none.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    section: int | None = None


Block = Line | Pairs | Grid


class Report(Found):
    """What a step found, and how it is told."""

    step: str
    """The verb."""

    def display(self) -> Iterator[Block]:
        """What is shown of it, in order."""
        yield Pairs(self.step, [(name, self[name]) for name in self.keys() if name != "step"])

    def __str__(self) -> str:
        from acn_compress.reports.show import as_text

        return as_text(self)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from acn_compress.reports.show import as_html

        return as_html(self)


def read_lines(
    read: Read | None, what: str = "read", *, remarks: Sequence[str] = ()
) -> Iterator[Line]:
    """What was read of data, and of the checkpoint, in lines that fit a screen."""
    first, *more = [""] if read is None else read.brief()
    told = [f"{what} {first}" if first else "", *(f"  {text}" for text in more)]
    for text in (*told, *(f"checkpoint: {remark}" for remark in remarks)):
        yield from map(Line, wrap(text, WIDE, subsequent_indent="    "))


def few_lines(examples: int) -> Iterator[Line]:
    """A warning where an interval rests on few examples."""
    if told := few_note(examples):
        yield Line(told)


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
