"""Every report fits the screen it is shown on, whole: no line is wider, no figure is cut off."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len

from acn_compress.checkpoint.original import Again
from acn_compress.events import Result
from acn_compress.options import STEPS
from acn_compress.reports.base import Report
from acn_compress.reports.blocks import Command, Grid, Line, Pairs, grid
from acn_compress.reports.compared import Compared
from acn_compress.reports.compressed import Compressed
from acn_compress.reports.inspected import Inspected, InspectedOnnx
from acn_compress.reports.made import Converted, PruneReport, Truncated
from acn_compress.reports.measured import Benchmarked, Evaluated, Profiled
from acn_compress.reports.progress import display
from acn_compress.reports.ran import Ran
from acn_compress.reports.show import as_text
from acn_compress.targets.onnx import OnnxExported

STORED = Path(__file__).parent / "reports"  # as --json printed them
KINDS: dict[str, type[Report]] = {
    "benchmark": Benchmarked,
    "compare": Compared,
    "compress": Compressed,
    "convert": Converted,
    "evaluate": Evaluated,
    "export": OnnxExported,
    "inspect": Inspected,
    "inspect-onnx": InspectedOnnx,
    "profile": Profiled,
    "prune": PruneReport,
    "run": Ran,
    "truncate": Truncated,
}


def stored(name: str) -> Report:
    return KINDS[name].model_validate(json.loads((STORED / f"{name}.json").read_text()))


def too_wide(text: str, width: int) -> list[str]:
    """Lines that a screen would break; a single word, such as a path, is left to it."""
    lines = [line for line in text.splitlines() if " " in line.strip()]
    return [line for line in lines if cell_len(line) > width]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("name", KINDS)
def test_every_report_fits_and_its_figures_are_whole(name: str, width: int) -> None:
    report = stored(name)
    text = as_text(report.display(), width)
    assert too_wide(text, width) == []
    assert "…" not in text and not re.search(r"\.\.\.$", text, flags=re.M)
    for block in report.display():
        if isinstance(block, Pairs):
            for _, value in block.rows:
                assert all(change in text for change in CHANGES.findall(str(value)))
        if isinstance(block, Grid):
            spare = [i for i, head in enumerate(block.head) if i and head in block.spare]
            for row in block.rows:
                assert all(cell in text for i, cell in enumerate(row) if i and i not in spare)


def made(name: str, **changes: object) -> str:
    """What a step of that kind says."""
    return " ".join(str(stored(name).model_copy(update=changes)).split())


@pytest.mark.parametrize("name", [name for name in KINDS if name in STEPS])
def test_what_came_of_a_step_is_one_line_that_fits(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = stored(name).brief()
    assert told and "\n" not in told
    display(results=False)(Result(text=told))
    assert capsys.readouterr() == ("", "")
    display()(Result(text=told))
    shown = capsys.readouterr().err
    assert too_wide(shown, 80) == [] and shown.split() == told.split()


@pytest.mark.parametrize("named", ["quickstart", "chain.yaml", "my recipes/it's #1.yaml", None])
def test_a_run_names_its_recipe_as_it_was_typed(named: str | None) -> None:
    report = stored("run").model_copy(update={"named": named})
    own = [b.text for b in report.display() if isinstance(b, Command) and "your own" in b.before]
    assert [shlex.split(text)[2] for text in own] == ([] if named is None else [named])


@pytest.mark.parametrize("name", ["truncate", "prune"])
def test_a_step_without_data_says_so_and_goes_on_with_a_measurement(name: str) -> None:
    nothing: dict[str, object] = {
        "drop": None,
        "before": None,
        "after": None,
        "training": None,
        "eval_data": None,
    }
    nothing |= {"data": None, "source": "src", "out": "out"}
    text = made(name, **nothing)
    assert "quality not measured: add --data" in text
    assert "next: acn-compress evaluate out --data DATA --against src" in text
    known = Again(data="digits", original="first one")
    text = made(name, **nothing, again=known)
    assert "next: acn-compress evaluate out --data digits --against 'first one'" in text
    report = stored(name)
    assert report.warning() is None
    assert report.model_copy(update=nothing).warning() == "quality not measured: add --data"


def test_a_step_that_measured_says_against_what() -> None:
    text = made("prune", source="src", against=None)
    assert re.search(
        r"quality [+-][\d.]+ \[\S+ \S+\] points \(95 %, paired\) against its source src", text
    )
    assert "next: acn-compress export" in text
    assert "against my-teacher" in made("convert", source="src", against="my-teacher")
    assert "pass --eval-data" in made("convert", drop=None, after=None, eval_data=None)


def test_what_is_left_out_is_named_and_a_wide_screen_has_all() -> None:
    rows = [[("model", "a model of three words"), ("quality", "0.95"), ("more", "1" * 40)]]
    table = grid("", rows, spare=["more"])
    narrow, wide = as_text([table], 50), as_text([table], 120)
    assert "1" * 40 not in narrow and "no room for more: a wider screen or --json" in narrow
    assert "1" * 40 in wide and "no room" not in wide


def test_a_table_that_cannot_fit_is_told_row_by_row() -> None:
    rows = [[("model", "mine"), ("a", "1" * 20), ("b", "2" * 20), ("c", "")]]
    text = as_text([grid("", rows)], 40)
    assert text.splitlines() == ["mine", f"  a {'1' * 20},", f"  b {'2' * 20}"]


def test_a_command_can_be_copied_from_a_narrow_screen() -> None:
    command = "acn-compress prune a/long/folder another/long/folder --target-sparsity 0.3"
    text = as_text([Command(command)], 40)
    assert too_wide(text, 40) == [] and len(text.splitlines()) > 1
    assert text.replace("\\\n", "").split() == ["next:", *command.split()]


def test_a_command_can_be_copied_whatever_the_folder_is_called() -> None:
    out = "my models/it's the 2nd #1"
    for width in (20, 40, 120):
        text = as_text([Command.of("acn-compress evaluate {out} --data DATA", out=out)], width)
        words = shlex.split(text.removeprefix("next: ").replace("\\\n", ""))
        assert words == ["acn-compress", "evaluate", out, "--data", "DATA"]


def test_markup_and_names_with_brackets_are_shown_as_they_are() -> None:
    text = as_text([Line("[b]x[/b]"), grid("[t]", [[("[h]", "[/r]")]])], 80)
    assert all(part in text for part in ("[b]x[/b]", "[t]", "[h]", "[/r]"))


CHANGES = re.compile(r"[+-][\d.]+ \[\S+ \S+\]")
POINT = Compressed.model_validate(json.loads((STORED / "compress.json").read_text())).chosen


def in_a_terminal(code: str, width: int, exits: int = 0) -> str:
    """What Python code writes to a terminal; what is drawn over counts, as lines of their own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
    command = [sys.executable, "-c", code]
    asked = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "env": environment}
    assert subprocess.run(command, check=False, **asked).returncode == exits  # type: ignore[call-overload]
    os.close(theirs)
    said = os.read(ours, 65536).decode().replace("\r", "\n")
    os.close(ours)
    return re.sub(r"\x1b\[\??[\d;]*[a-zA-Z]", "", said)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_is_asked_for_its_width(width: int) -> None:
    code = (
        "from acn_compress.events import ChainStep, Stage, TrainingStep\n"
        "from acn_compress.reports.blocks import grid\n"
        "from acn_compress.reports.progress import display\n"
        "from acn_compress.reports.show import show\n"
        "tell, training = display(), {'loss': 10.1234, 'alpha': 0.5, 'metric': 0.5, 'lr': 1.0}\n"
        f"tell(Stage(text={f'candidate 12: {POINT}'!r}))\n"
        "tell(ChainStep(number=10, total=12, name='step ' * 20, reused=True, seconds_left=9999))\n"
        "for n in (9, 440):\n"
        "    tell(TrainingStep(step=n, steps=440, seconds_left=90, **training))\n"
        "rows = [[('model', 'x'), *((f'c{i}', '1' * 10) for i in range(8))]]\n"
        "show([grid('title', rows, spare=[f'c{i}' for i in range(8)])])"
    )
    text = in_a_terminal(code, width)
    assert too_wide(text, width) == []
    assert "…" not in text and all(part in text for part in (*str(POINT).split(), "90 s left"))
    assert text.count("1" * 10) == {60: 3, 80: 5, 120: 8}[width]


@pytest.mark.parametrize(
    ("ends", "exits", "said"),
    [
        ("AcnError('a fault of the input.')", 1, "error: a fault of the input."),
        ("Interrupted('interrupted at step 9.')", 130, "error: interrupted at step 9."),
        ("KeyboardInterrupt", 130, "error: interrupted; nothing was written."),
    ],
)
def test_an_error_is_a_line_of_its_own_and_the_last_one(ends: str, exits: int, said: str) -> None:
    """Whatever ends a step while its bar moves."""
    code = (
        "import sys, time\n"
        "from acn_compress.cli import app\n"
        "from acn_compress.errors import AcnError, Interrupted\n"
        "from acn_compress.events import TrainingStep\n"
        "from acn_compress.steps import inspect\n"
        "def run(src, how, progress):\n"
        "    for n in range(1, 10):\n"
        "        progress(TrainingStep(step=n, steps=440, seconds_left=90, loss=1.0, lr=0.1,\n"
        "                              alpha=0.5, metric=0.5))\n"
        "        time.sleep(0.02)\n"
        f"    raise {ends}\n"
        "inspect.run = run\n"
        "sys.argv = ['acn-compress', 'inspect', 'm']\n"
        "app()\n"
    )
    lines = [line for line in in_a_terminal(code, 80, exits).splitlines() if line.strip()]
    assert lines[-1] == said and "9/440" in lines[-2] and "90 s left" in lines[-2]
    assert not any("error" in line for line in lines[:-1])
