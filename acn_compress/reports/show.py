"""A report on a screen (rich), as text, and in a notebook: all of its blocks. Nothing is cut off:
what does not fit goes on in the next line, and columns that can be spared are named."""

from __future__ import annotations

import html
import io
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap
from typing import IO

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from acn_compress.reports.blocks import Block, Command, Grid, Line, Pairs

WIDE = 80  # columns where there is no screen whose width counts
READABLE = 100  # columns of a sentence, however wide the screen
TOGETHER = re.compile(r"[+-][\d.]+ \[[^]\s]+ [^]\s]+\]|\b95 %")  # what no line ends within
QUOTED = re.compile("'[^']*'|\"[^\"]*\"")  # of a command, likewise
KEPT = "\0"  # a blank there
FIRST = 12  # columns that the first of a table has at least


def show(blocks: Iterable[Block], file: IO[str] | None = None, width: int | None = None) -> None:
    """Print a report: on stdout, or into `file`.

    Args:
        width: in columns; default: the screen's.
    """
    if width is None:
        width = Console(file=file).width if (file or sys.stdout).isatty() else WIDE
    console = Console(file=file, highlight=False, width=width)
    for block in blocks:
        for part in _parts(block, width):
            # a word that is wider than the screen is left to it: a path can then be copied
            console.print(part, soft_wrap=isinstance(part, Text))


def as_text(blocks: Iterable[Block], width: int = WIDE) -> str:
    """A report as plain text."""
    text = io.StringIO()
    show(blocks, text, width)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()).rstrip("\n")


def _parts(block: Block, width: int) -> Iterator[RenderableType]:
    if isinstance(block, Line):
        yield from _wrapped(block.text, width, block.indent)
    elif isinstance(block, Command):
        yield Text(f" \\\n{' ' * len(block.before)}  ".join(_command(block, width)))
    else:
        yield from _wrapped(block.title, width, style="italic")
        yield from [_pairs(block, width)] if isinstance(block, Pairs) else _grid(block, width)


def _wrapped(text: str, width: int, indent: str = "", style: str = "") -> Iterator[Text]:
    lines = wrap(
        TOGETHER.sub(lambda found: found[0].replace(" ", KEPT), text),
        min(width, READABLE),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return (Text(line.replace(KEPT, " "), style) for line in lines)


def _command(block: Command, width: int) -> list[str]:
    """A command in lines that fit, to be joined by backslashes."""
    if len(block.before + block.text) <= width:
        return [block.before + block.text]
    room = max(1, width - len(block.before) - len("   \\"))
    whole = QUOTED.sub(lambda found: found[0].replace(" ", KEPT), block.text)
    lines = wrap(whole, room, break_long_words=False, break_on_hyphens=False)
    first, *others = (line.replace(KEPT, " ") for line in lines)
    return [block.before + first, *others]


def _pairs(block: Pairs, width: int) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    rows = list(_shown(block))
    longest = max((cell_len(name) for name, _ in rows), default=0)
    first = min(longest, width // 3)
    table.add_column(style="dim", overflow="fold", width=first)
    table.add_column(overflow="fold")
    for name, value in rows:
        lines = [part for line in value.splitlines() for part in _wrapped(line, width - first - 2)]
        table.add_row(Text(name), Text("\n").join(lines))
    return table


def _shown(block: Pairs) -> Iterator[tuple[str, str]]:
    return ((name, str(value)) for name, value in block.rows if value is not None and value != "")


def _grid(block: Grid, width: int) -> Iterator[RenderableType]:
    """As a table of the columns there is room for, or row by row where there is none."""
    gone: list[str] = []
    spare = [name for name in block.spare if name in block.head]
    while (room := _room(block, gone, width)) is None and spare:
        gone.append(spare.pop(0))
    if room is None:
        for row in block.rows:
            yield from _wrapped(row[0], width)
            cells = [f"{n} {cell}" for n, cell in zip(block.head[1:], row[1:], strict=True) if cell]
            told = ", ".join(cell.replace(" ", KEPT) for cell in cells)
            yield from _wrapped(f"  {told}", width, "  ")
        return
    yield _table(block, gone, room)
    if gone:
        yield from _wrapped(f"no room for {', '.join(gone)}: a wider screen or --json", width)


def _room(block: Grid, gone: Sequence[str], width: int) -> int | None:
    """Columns that are left for the first one, or None where it would need more."""
    needed = [_needed(block, i) + 3 for i, n in enumerate(block.head) if i and n not in gone]
    room = width - sum(needed) - 4
    first = [line for row in (block.head, *block.rows) for line in row[0].splitlines()]
    longest = max(map(cell_len, first))
    words = max((cell_len(w) for text in first for w in _words(text)), default=0)
    return min(room, longest) if room >= min(longest, max(FIRST, min(words, width // 3))) else None


def _needed(block: Grid, i: int) -> int:
    """Columns that a column of numbers takes; its name may go on in the next line."""
    cells = max((cell_len(row[i]) for row in block.rows), default=0)
    return max(cells, *map(cell_len, block.head[i].split()), 1)


def _words(text: str) -> list[str]:
    """The parts that a text of the first column can be broken into: words, and folders."""
    return re.findall(r"[^\s/]*[\s/]|[^\s/]+", text)


def _table(block: Grid, gone: Sequence[str], room: int) -> Table:
    table, shown = Table(), [i for i, name in enumerate(block.head) if name not in gone]
    for i in shown:
        width = _needed(block, i) if i else room
        justify = "right" if i else "left"
        table.add_column(Text(block.head[i]), justify=justify, overflow="fold", width=width)  # type: ignore[arg-type]
    for number, row in enumerate(block.rows):
        first = Text(_folded(row[0], room))
        cells = [Text(row[i]) for i in shown[1:]]
        table.add_row(first, *cells, end_section=number in block.sections)
    return table


def _folded(text: str, room: int) -> str:
    """A text in lines that end at a word or a folder where they can."""
    lines = [""]
    for word in _words(text):
        if lines[-1] and cell_len(lines[-1] + word.rstrip()) > room:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)


def as_html(blocks: Iterable[Block]) -> str:
    """A report as a piece of HTML."""
    return "".join(map(piece, blocks))


def piece(block: Block) -> str:
    """A block as a piece of HTML."""
    if isinstance(block, Line):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Command):
        return f"<p>{html.escape(block.before)}<code>{html.escape(block.text)}</code></p>"
    rows = _shown(block) if isinstance(block, Pairs) else block.rows
    head = "" if isinstance(block, Pairs) else f"<thead>{_row(block.head, 'th')}</thead>"
    body = "".join(_row(row, "td") for row in rows)
    title = f"<caption>{html.escape(block.title)}</caption>" if block.title else ""
    return f"<table>{title}{head}<tbody>{body}</tbody></table>"


def _row(cells: Iterable[object], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(str(cell))}</{tag}>' for cell in cells)}</tr>"
