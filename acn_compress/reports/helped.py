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
    hint: str | None = None
    """What may be done, where the work can be done without."""


class Doctored(Report):
    """The state of this machine."""

    checks: tuple[Check, ...]

    def display(self) -> Iterator[Block]:
        """A line per thing, and what to do."""
        yield Pairs("this machine", [(c.name, _told(c)) for c in self.checks])
        if self.complaint() is not None:
            yield Command("acn-compress doctor", "once that is done: ")
            return
        hinted = ", ".join(check.name for check in self.checks if check.hint)
        more = f"all that is needed is here; what more may be done is told above: {hinted}"
        yield Line(more if hinted else "all is well")
        yield Command("acn-compress run quickstart")

    def complaint(self) -> str | None:
        """What is wrong, and what to do about it."""
        wrong = [f"{c.name}: {c.found}; {c.advice}" for c in self.checks if c.advice]
        return ". ".join(wrong) + "." if wrong else None


def _told(check: Check) -> str:
    told = f"{check.found}. {check.hint}" if check.hint else check.found
    return told + (f" <- {check.advice}" if check.advice else "")
