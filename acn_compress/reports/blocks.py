"""What a report is shown as: sentences, commands, lists of names and values, tables."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """A sentence.

    Args:
        indent: of the lines it goes on in.
    """

    text: str
    indent: str = ""


@dataclass(frozen=True)
class Command:
    """What to type next; it can be copied however narrow the screen is."""

    text: str
    before: str = "next: "

    @classmethod
    def of(cls, text: str, **names: object) -> Command:
        """A command with names in it ({out}), as a shell reads them: they may hold spaces."""
        return cls(text.format(**{key: shlex.quote(str(name)) for key, name in names.items()}))


@dataclass(frozen=True)
class Pairs:
    """Names and what there is to say of each; None and "" are left out."""

    title: str
    rows: Sequence[tuple[str, object]]


@dataclass(frozen=True)
class Grid:
    """A table: the first column is text, the others are numbers.

    Args:
        sections: the rows after which a line is drawn.
        spare: columns that a narrow screen is not shown, the first to go first; the JSON has them.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    sections: Collection[int] = ()
    spare: Sequence[str] = ()


Block = Line | Command | Pairs | Grid


def grid(
    title: str,
    rows: Sequence[Sequence[tuple[str, str]]],
    *,
    sections: Collection[int] = (),
    spare: Sequence[str] = (),
) -> Grid:
    """A table of rows whose cells stand beside the names of their columns; a row that lacks a cell
    is empty there."""
    head = list(dict.fromkeys(name for row in rows for name, _ in row))
    cells = [[dict(row).get(name, "") for name in head] for row in rows]
    return Grid(title, head, cells, sections, spare)


def kept(blocks: Sequence[int], of: int) -> str:
    """Which blocks of how many."""
    return f"{len(blocks)} of {of}" + ("" if len(blocks) == of else f": {places(blocks)}")


def places(blocks: Sequence[int]) -> str:
    """Numbers of blocks for people."""
    first, last = blocks[0], blocks[-1]
    whole = list(blocks) == list(range(first, last + 1))
    return f"{first} to {last}" if whole else ", ".join(map(str, blocks))
