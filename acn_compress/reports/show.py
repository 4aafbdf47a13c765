"""A report on a screen (rich), as text, and in a notebook: all of its blocks."""

from __future__ import annotations

import html
import io
import sys
from collections.abc import Iterable, Iterator
from typing import IO

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from acn_compress.reports.blocks import Block, Grid, Line, Pairs

WIDE = 140  # columns where there is no screen whose width counts


def show(blocks: Iterable[Block], file: IO[str] | None = None) -> None:
    """Print a report: on stdout, or into `file`."""
    terminal = file is None and sys.stdout.isatty()
    width = None if terminal else WIDE
    console = Console(file=file, highlight=False, soft_wrap=True, width=width)
    for block in blocks:
        if isinstance(block, Line):
            console.print(escape(block.text))
        else:
            console.print(_pairs(block) if isinstance(block, Pairs) else _grid(block))


def as_text(blocks: Iterable[Block]) -> str:
    """A report as plain text."""
    text = io.StringIO()
    show(blocks, text)
    return text.getvalue().rstrip("\n")


def _pairs(block: Pairs) -> Table:
    title = escape(block.title) or None
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _shown(block):
        table.add_row(name, Text(value))
    return table


def _shown(block: Pairs) -> Iterator[tuple[str, str]]:
    return ((name, str(value)) for name, value in block.rows if value is not None and value != "")


def _grid(block: Grid) -> Table:
    table = Table(title=escape(block.title), title_justify="left")
    for i, name in enumerate(block.head):
        table.add_column(escape(name), justify="left" if i == 0 else "right", overflow="fold")
    for number, row in enumerate(block.rows):
        table.add_row(*map(escape, row), end_section=number == block.section)
    return table


def as_html(blocks: Iterable[Block]) -> str:
    """A report as a piece of HTML."""
    return "".join(_html(block) for block in blocks)


def _html(block: Block) -> str:
    if isinstance(block, Line):
        return f"<p>{html.escape(block.text)}</p>"
    rows = _shown(block) if isinstance(block, Pairs) else block.rows
    head = "" if isinstance(block, Pairs) else _row(block.head, "th")
    body = "".join(_row(row, "td") for row in rows)
    return f"<table><caption>{html.escape(block.title)}</caption>{head}{body}</table>"


def _row(cells: object, tag: str) -> str:
    inner = "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells)  # type: ignore[attr-defined]
    return f"<tr>{inner}</tr>"
