"""report.html: one file to mail. It needs no network, no script and no other file, follows the
reader's light or dark setting, and fits a telephone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from acn_compress import __version__
from acn_compress.network.structure import Structure
from acn_compress.reports.blocks import Block, Grid, Line, Pairs, kept
from acn_compress.reports.charts import Chart, Rows, rows_svg, svg
from acn_compress.reports.show import piece

NOTHING = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"  # may be asked for


@dataclass(frozen=True)
class Heading:
    """Of the parts that follow."""

    text: str


@dataclass(frozen=True)
class Code:
    """What to type or to run."""

    text: str


Part = Block | Chart | Rows | Heading | Code


def page(
    title: str,
    verdict: Sequence[str],
    parts: Iterable[Part],
    *,
    use: Sequence[str] = (),
    command: str = "",
) -> str:
    """The page.

    Args:
        verdict: the outcome, in a sentence or a few.
        parts: the figures behind it.
        use: Python that loads the result.
        command: that made it.
    """
    more: list[Part] = []
    if use:
        more += [Heading("Use it"), *map(Code, use)]
    if command:
        more += [Heading("How it was made"), Code(command)]
    told = "".join(f'<p class="verdict">{escape(text)}</p>' for text in verdict if text)
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{NOTHING}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>",
            f"<h1>{escape(title)}</h1>{told}",
            *_pieces([*parts, *more]),
            f"<footer>acn-compress {escape(__version__)}, {datetime.now(UTC):%Y-%m-%d}</footer>",
            "</main></body></html>",
            "",
        ]
    )


def _pieces(parts: Sequence[Part]) -> Iterable[str]:
    """Pictures that follow each other stand side by side where there is room."""
    beside: list[str] = []
    for part in parts:
        if isinstance(part, Chart | Rows):
            beside.append(svg(part) if isinstance(part, Chart) else rows_svg(part))
            continue
        if beside:
            yield f'<div class="beside">{"".join(beside)}</div>'
            beside = []
        yield _piece(part)
    if beside:
        yield f'<div class="beside">{"".join(beside)}</div>'


def _piece(part: Block | Heading | Code) -> str:
    if isinstance(part, Heading):
        return f"<h2>{escape(part.text)}</h2>"
    if isinstance(part, Code):
        return f"<pre><code>{escape(part.text)}</code></pre>"
    if isinstance(part, (Grid, Pairs)):
        title = f"<p>{escape(part.title)}</p>" if part.title else ""
        table = piece(replace(part, title=""))
        return f'{title}<div class="wide" tabindex="0">{table}</div>'
    return piece(part)


def blocks(structure: Structure, title: str = "What is left") -> Iterable[Part]:
    """Which blocks are left, and how wide each is."""
    s = structure
    yield Heading(title)
    form = f"{s.form} form" + ("" if s.form == "residual" else f", layer {s.layer}")
    yield Line(f"blocks kept: {kept(s.blocks, s.source_blocks)} ({form})")
    if s.widths is None:
        yield Line("every kept block has its full width")
        return
    units = list(dict.fromkeys(name for widths in s.widths for name in widths))
    widths = dict(zip(s.blocks, s.widths, strict=True))
    rows = []
    for block in range(s.source_blocks):
        left = [str(widths[block].get(u, "all")) if block in widths else "-" for u in units]
        rows.append([str(block), *left])
    yield Grid("units kept per block (- = the block is gone)", ["block", *units], rows)


def uses(card: Path) -> list[str]:
    """The Python of a model card that loads what it describes; none without a card."""
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    _, _, use = text.partition("## Use\n")
    return [code.strip() for code in re.findall(r"```python\n(.*?)```", use, flags=re.S)]


STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2933; --muted: #616e7c; --line: #dfe3e8;
  --soft: #f3f5f7; --mine: #0b7285; --other: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6eaee; --muted: #9aa5b1;
  --line: #2f3843; --soft: #1d232a; --mine: #4dc4d6; --other: #ff9f6b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; overflow-wrap: anywhere; color: var(--muted); font-size: .9rem; }
p.verdict { color: var(--ink); font-size: 1.15rem; margin: .5rem 0 1rem; padding-left: .8rem;
  border-left: 4px solid var(--mine); }
.wide { overflow-x: auto; margin: 1rem 0; background:
  linear-gradient(to left, var(--paper) 2rem, transparent) right / 3rem 100% no-repeat local,
  linear-gradient(to left, var(--line), transparent) right / .8rem 100% no-repeat scroll; }
.wide th:first-child, .wide td:first-child { position: sticky; left: 0; background: var(--paper); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; font-size: .85rem;
  border-radius: 4px; }
code { font-family: ui-monospace, monospace; overflow-wrap: anywhere; }
pre code { overflow-wrap: normal; }
.beside { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.5rem 0; }
figure { margin: 0; flex: 1 1 21rem; min-width: 0; max-width: 34rem; }
figcaption { font-weight: 600; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); stroke: none; font: 12px system-ui, sans-serif; }
.end { text-anchor: end; } .middle, .number { text-anchor: middle; }
svg .number { font-weight: 700; paint-order: stroke; stroke: var(--paper); stroke-width: 3; }
.lead { stroke: var(--muted); stroke-width: .6; fill: none; }
.grid { stroke: var(--line); fill: none; }
.level { stroke: var(--muted); stroke-dasharray: 4 3; fill: none; }
.mark { stroke: var(--other); stroke-width: 1.5; fill: none; }
g path, .joined { fill: none; stroke-width: 1.5; }
.joined { stroke: var(--mine); }
.original { stroke: var(--ink); fill: var(--ink); color: var(--ink); }
.mine { stroke: var(--mine); fill: var(--mine); color: var(--mine); }
.baseline { stroke: var(--other); fill: var(--other); color: var(--other); }
.candidate { stroke: var(--muted); fill: var(--muted); color: var(--muted); opacity: .5; }
g.candidate circle { fill: none; }
figure ol { margin: .3rem 0; padding-left: 1.8rem; font-size: .85rem; stroke: none; }
figure li { fill: none; stroke: none; } figure li.candidate { list-style: none; opacity: 1; }
tbody:first-child td { text-align: left; white-space: normal; }
@media (max-width: 30rem) { th, td { padding: .3rem; font-size: .8rem; }
  td:first-child { white-space: normal; } }
footer { margin-top: 3rem; color: var(--muted); font-size: .8rem; }
"""
