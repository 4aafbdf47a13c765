"""What init and doctor report."""

from __future__ import annotations

from collections.abc import Iterator

from acn_compress.found import Found
from acn_compress.reports.base import Report
from acn_compress.reports.blocks import Block, Command, Line, Pairs


class Begun(Report):
    """A recipe that was written."""

    out: str
    text: str
    """Of the file."""

    def display(self) -> Iterator[Block]:
        """Where it is, and what to do with it."""
        yield Line(f"written: {self.out}")
        yield Command.of("acn-compress run {out} --dry-run", out=self.out)


class Check(Found):
    """One thing that was looked at."""

    name: str
    found: str
    advice: str | None = None
    """What to do, where something is wrong."""


class Doctored(Report):
    """The state of this machine."""

    checks: tuple[Check, ...]

    def display(self) -> Iterator[Block]:
        """A line per thing, and what to do."""
        yield Pairs("this machine", [(c.name, _told(c)) for c in self.checks])
        if self.complaint() is None:
            yield Line("all is well")

    def complaint(self) -> str | None:
        """What is wrong, and what to do about it."""
        wrong = [f"{c.name}: {c.found}; {c.advice}" for c in self.checks if c.advice]
        return ". ".join(wrong) + "." if wrong else None


def _told(check: Check) -> str:
    return check.found + (f" <- {check.advice}" if check.advice else "")
