"""Progress while something runs: on stderr, a live line in a terminal or a notebook, plain lines
elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Protocol

from acn_compress.events import Event, Progress, Result, TrainingStep
from acn_compress.reports.blocks import Line
from acn_compress.reports.show import show


class _Bar(Protocol):
    def update(self, event: TrainingStep) -> None: ...
    def end(self) -> None: ...


def display(results: bool = True) -> Progress:
    """A display that fits where this process runs.

    Args:
        results: also what came of every step of a recipe.
    """
    bar = _Notebook() if _in_notebook() else _Live() if sys.stderr.isatty() else _Lines()
    return _Display(bar, results)


def end(progress: object) -> None:
    """Whatever `display` shows has ended, well or not: what is written next, an error say, begins a
    line. Another progress is its owner's."""
    if isinstance(progress, _Display):
        progress.end()


def _in_notebook() -> bool:
    python = sys.modules.get("IPython")
    return python is not None and type(python.get_ipython()).__name__ == "ZMQInteractiveShell"


class _Display:
    """A line per step of a chain; a bar for what trains."""

    def __init__(self, bar: _Bar, results: bool) -> None:
        self._bar, self._results = bar, results

    def __call__(self, event: Event) -> None:
        if isinstance(event, TrainingStep):
            self._bar.update(event)
        elif self._results or not isinstance(event, Result):
            indent = "  " if isinstance(event, Result) else ""
            show([Line(f"{indent}{event}", indent="  ")], sys.stderr)

    def end(self) -> None:
        self._bar.end()


class _Live:
    """One moving line: step, loss, alpha, metric, time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn

        columns = (
            TextColumn("{task.completed}/{task.total}"),
            BarColumn(24),
            TextColumn("{task.description}"),
        )
        console = Console(stderr=True, highlight=False)
        self._progress = Progress(*columns, console=console, transient=True)
        self._task: TaskID | None = None

    def update(self, event: TrainingStep) -> None:
        if self._task is None:
            self._task = self._progress.add_task("", total=event.steps)
            self._progress.start()
        self._progress.update(self._task, completed=event.step, description=str(event))
        if event.step >= event.steps:
            self._stop()

    def end(self) -> None:
        self._progress.live.transient = False  # how far it came stays, in a line of its own
        self._stop()
        self._progress.live.transient = True

    def _stop(self) -> None:
        if self._task is not None:
            self._progress.stop()
            self._progress.remove_task(self._task)
            self._task = None


class _Lines:
    """A line at every tenth of the run, and never more than one in two seconds."""

    def __init__(self) -> None:
        self._last, self._tenth = 0.0, -1

    def update(self, event: TrainingStep) -> None:
        tenth = 10 * event.step // event.steps
        due = tenth != self._tenth and time.monotonic() - self._last > 2
        if event.step >= event.steps or due:
            self._last, self._tenth = time.monotonic(), tenth
            print(f"step {event.step}/{event.steps} {event}", file=sys.stderr)

    def end(self) -> None:
        pass


class _Notebook:
    """One line below the cell that changes in place."""

    def __init__(self) -> None:
        from IPython.display import Pretty, display  # type: ignore[import-not-found]

        self._pretty, self._handle = Pretty, display(Pretty(""), display_id=True)

    def update(self, event: TrainingStep) -> None:
        self._handle.update(self._pretty(f"step {event.step}/{event.steps} {event}"))

    def end(self) -> None:
        pass
