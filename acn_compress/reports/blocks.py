"""What a report is shown as: sentences, lists of names and values, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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


def kept(blocks: Sequence[int], of: int) -> str:
    """Which blocks of how many."""
    return f"{len(blocks)} of {of}" + ("" if len(blocks) == of else f": {places(blocks)}")


def places(blocks: Sequence[int]) -> str:
    """Numbers of blocks for people."""
    first, last = blocks[0], blocks[-1]
    whole = list(blocks) == list(range(first, last + 1))
    return f"{first} to {last}" if whole else ", ".join(map(str, blocks))
