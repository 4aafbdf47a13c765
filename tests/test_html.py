"""report.html: one file that asks for nothing, says the verdict first, hides no point and takes no
name for markup."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser
from test_screen import stored

from acn_compress import surface
from acn_compress.network.structure import Structure
from acn_compress.options import Compress, Run
from acn_compress.reports import plots
from acn_compress.reports.charts import Chart, Dot, Rows, rows_svg, svg
from acn_compress.reports.compared import Compared
from acn_compress.reports.compressed import Compressed, Limit
from acn_compress.reports.html import uses
from acn_compress.reports.measured import Profiled
from acn_compress.reports.ran import Ran

NASTY = "<b>x\"&'</b>"
VOID = {"meta", "br", "img", "path", "rect", "circle", "polygon", "polyline"}
LOADS = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class Reader(HTMLParser):
    """What a page holds; that its elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [str(value) for name, value in attrs if name in LOADS]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def pages() -> dict[str, tuple[str, str]]:
    """Of every report that has one: its verdict, and the page."""
    ran, compared, compressed = (stored(name) for name in ("run", "compare", "compress"))
    profile = stored("profile")
    assert isinstance(ran, Ran) and isinstance(compared, Compared)
    assert isinstance(compressed, Compressed) and isinstance(profile, Profiled)
    structure, command = Structure.residual(6), f"acn-compress run {NASTY}"
    rows = (ran.rows[0], ran.rows[1].model_copy(update={"name": NASTY}), *ran.rows[2:])
    ran = ran.model_copy(update={"recipe": NASTY, "rows": rows})
    compared = compared.model_copy(update={"source": NASTY})
    compressed = compressed.model_copy(update={"source": NASTY, "out": NASTY})
    return {
        "run": (ran.verdict(), ran.page(structure, profile, [NASTY], command)),
        "compare": (compared.verdict(), compared.page([NASTY], command)),
        "compress": (compressed.verdict(), compressed.page([NASTY], command)),
    }


@pytest.mark.parametrize("name", ["run", "compare", "compress"])
def test_a_page_is_whole_says_the_verdict_first_and_asks_for_nothing(name: str) -> None:
    verdict, text = pages()[name]
    read = Reader(text)
    assert verdict and read.text.index(verdict) < read.text.index("[95 %]")
    assert read.loads == [] and "script" not in read.tags and "link" not in read.tags
    assert not re.search(r"url\(|@import|https?:", text)
    assert "b" not in read.tags and NASTY in read.text  # a name is text
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert "svg" in read.tags and " n = " in read.text


def test_every_candidate_is_on_the_page_and_it_says_why_one_was_chosen() -> None:
    report = stored("compress")
    assert isinstance(report, Compressed)
    text = Reader(report.page([], "")).text
    assert all(f"{point.quality.loss:.4f}" in text for point in report.frontier)
    assert text.count("<-") == 2 and "<- chosen: the least loss" in text
    only_drop = [limit.model_copy(update={"name": "max_drop"}) for limit in report.limits]
    other = report.model_copy(update={"limits": tuple(only_drop)})
    assert "<- chosen: the cheapest that keeps the drop" in other.page([], "").replace("&lt;", "<")
    assert str(report).count("<-") == 2


def test_a_speed_that_timing_cannot_tell_from_what_was_asked_is_no_clean_bill() -> None:
    report = stored("compress")
    assert isinstance(report, Compressed)
    ends = {"sure": (1.8, 2.3), "close": (1.75, 2.3), "unsure": (1.63, 2.75), "missed": (1.4, 1.6)}
    for name, (low, high) in ends.items():
        limit = Limit.of("speedup", 1.8, 2.1, name != "missed", low=low, high=high)
        found = report.model_copy(update={"limits": (limit,)})
        warned = found.warning() or ""
        assert limit.settled == (name != "unsure") == ("acn-compress benchmark" not in warned)
        assert f"asked 1.8, found 2.1 [{low}, {high}]" in str(found)
    most = Limit.of("max_drop", 1, 0.02, True, metric="accuracy")
    assert str(most) == "max_drop: asked 1 = 100 points, found 0.02"


def test_every_dot_stands_where_it_belongs_and_all_can_be_told_apart() -> None:
    dots = [Dot(f"m{i}", 1.0, 0.0, -1.0 - i, 1.0) for i in range(5)]
    text = svg(Chart("t", "x", "y", dots, level=0.0))
    assert len(set(re.findall(r'<circle cx="([\d.]+)"', text))) == 1
    ends = re.findall(r"V[\d.]+m(-\d+) 0h", text)
    assert len(set(ends)) == len(dots)  # of intervals
    numbers = re.findall(r'class="number" x="([\d.]+)" y="([\d.]+)"', text)
    places = [(float(x), float(y)) for x, y in numbers]
    assert len(places) == len(dots)
    assert all(math.dist(a, b) >= 10 for a, b in itertools.combinations(places, 2))


def test_every_row_is_drawn_with_its_interval_beside_the_line_of_no_change() -> None:
    dots = [Dot(f"m{i}", 0.0, 2.0 + i, 1.0, 3.0 + i) for i in range(5)]
    text = rows_svg(Rows("t", "x", dots))
    assert len(set(re.findall(r'<circle cx="[\d.]+" cy="([\d.]+)"', text))) == len(dots)
    assert all(f">{dot.name}</text>" in text for dot in dots)
    (level,) = re.findall(r'class="level" d="M([\d.]+)', text)
    bars = [tuple(map(float, ends)) for ends in re.findall(r"M([\d.]+) [\d.]+H([\d.]+)m", text)]
    assert len(bars) == len(dots) and all(float(level) < low < high < 440 for low, high in bars)


def test_an_axis_holds_every_interval() -> None:
    wide = Dot("m", 2.0, 0.0, -30.0, 20.0)
    found = svg(Chart("t", "x", "y", [wide, Dot("n", 1.0, 0.1, 0.0, 0.2)]))
    heights = [float(y) for y in re.findall(r"M[\d.]+ ([\d.]+)V", found)]
    assert all(0 < y < 300 for y in heights)
    assert svg(Chart("t", "x", "y", [Dot("m", 0.0, 1.0, 1.0, 1.0)]))  # nothing to spread


def test_the_command_is_what_was_asked_and_reads_back() -> None:
    how = Compress(data="my data", speedup=2.0, quantize="auto", seed=3)
    typed = surface.typed(Compress, ["my vit", "out"], how)
    assert typed.startswith("acn-compress compress 'my vit' out ")
    for option in ("--data 'my data'", "--speedup 2.0", "--quantize auto", "--seed 3"):
        assert option in typed
    assert typed.count("--") == 4
    assert surface.typed(Run, ["r.yaml"], Run(overwrite=True)).endswith("r.yaml --overwrite")


def test_the_python_is_that_of_the_card(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    assert uses(card) == []
    card.write_text("```python\nno\n```\n## Use\n\n```python\na = 1\n```\n\n```python\nb\n```\n")
    assert uses(card) == ["a = 1", "b"]


def test_a_depth_passes_where_its_bar_ends_above_the_line() -> None:
    report = stored("profile")
    assert isinstance(report, Profiled)
    (chart,) = [part for part in report.parts() if isinstance(part, Chart)]
    for dot, depth in zip(chart.dots, report.depths, strict=True):
        assert chart.level is not None and dot.low <= dot.y <= dot.high
        assert (dot.low >= chart.level) == depth.lost.within(report.max_drop, "upper")


@pytest.mark.long
def test_every_picture_has_the_line_of_no_change_and_all_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, compressed = stored("compare"), stored("compress")
    assert isinstance(compared, Compared) and isinstance(compressed, Compressed)
    drawn: list[tuple[float, ...]] = []
    real = plots.canvas

    @contextmanager
    def canvas(*how: Any) -> Iterator[Any]:
        with real(*how) as (figure, axes):
            yield figure, axes
            drawn.extend((*sorted(axis.get_xlim()), *sorted(axis.get_ylim())) for axis in axes)

    monkeypatch.setattr(plots, "canvas", canvas)
    plots.comparison(compared, tmp_path / "compare.png")
    kinds = [(kind, behind) for kind in ("clean", "noisy") for behind in (False, True)]
    for (left, right, *_), (kind, behind) in zip(drawn, kinds, strict=True):
        drops = [r.behind(kind) if behind else r[f"{kind}_drop"] for r in compared.table]
        ends = [-100 * end for d in drops if d is not None for end in (d.low, d.high)]
        assert left < min(0, *ends) and right > max(0, *ends)
    drawn.clear()
    c = compressed
    place = tmp_path / "frontier.png"
    plots.frontier(c.frontier, c.front, c.chosen, c.rows, "source", "n = 180", place)
    ((*_, low, high),) = drawn
    drops = [model.drop for models in (c.frontier, c.rows) for model in models]
    ends = [-100 * end for d in drops if d is not None for end in (d.low, d.high)]
    assert low < min(0, *ends) and high > max(0, *ends)


OVERLAPPING = """(() => {
  const numbers = [...document.querySelectorAll('.number')].map(
    e => [e.closest('svg'), e.textContent, e.getBoundingClientRect()]);
  return numbers.flatMap(([one, a, p], i) => numbers.slice(i + 1).filter(([other, b, q]) =>
    one === other && p.left < q.right && q.left < p.right && p.top + 3 < q.bottom - 3 &&
    q.top + 3 < p.bottom - 3).map(([_, b]) => `${a} on ${b}`));
})()"""
HIDDEN = """[...document.querySelectorAll('th, td')].filter(e => !e.offsetWidth
  || getComputedStyle(e.closest('.wide')).overflowX !== 'auto').map(e => e.textContent)"""
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_chromium_opens_every_page_without_a_fault_or_a_request(tmp_path: Path) -> None:
    """On a telephone all columns can be reached, and nothing but tables is wider."""
    with Browser(tmp_path / "user") as browser:
        for name, (verdict, text) in pages().items():
            (page := tmp_path / f"{name}.html").write_text(text)
            for size in ((1280, 800), (390, 844)):
                browser.open(page, *size)
                shown = browser.ask("document.body.innerText")
                assert verdict in shown and NASTY in shown, (name, size)
                assert browser.ask(WIDER) <= 0, (name, size)
                assert browser.ask(HIDDEN) == [] == browser.ask(OVERLAPPING), (name, size)
                assert browser.complaints() == []
        # the page forbids every request, so that one would be seen
        page.write_text(text.replace("</main>", '<img src="http://localhost:9/x.png"></main>'))
        browser.open(page, 390, 844)
        assert any("Content Security Policy" in said for said in browser.complaints())
