"""What quality is: a metric on data with its 95 % interval, how far one model lies below another,
and what became of it in a model that was made. A screen, a model card, provenance.json and an ONNX
file all tell it from here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from acn_compress import figures
from acn_compress.found import Found
from acn_compress.options import Bound

NOT_MEASURED = "not measured"
# how a model is called that another was measured against
CALLED = {"original": "the original {}", "source": "its source {}", "other": "{}"}
NO_ORIGINAL = "its original was not found"


class Quality(Found, extra="allow"):
    """The main metric with its interval, and further metrics of the task under their own names."""

    __pydantic_extra__: dict[str, float] = Field(init=False)
    metric: str
    value: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    loss: float
    examples: int

    @property
    def further(self) -> dict[str, float]:
        """The task's further metrics, by name."""
        return self.model_extra or {}

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


class Drop(Found):
    """How far one model lies below another on the same examples."""

    drop: float
    low: float
    """Lower end of the paired 95 % interval."""
    high: float

    def within(self, most: float, bound: Bound) -> bool:
        """Whether it is at most so large."""
        return (self.high if bound == "upper" else self.drop) <= most

    def __str__(self) -> str:
        return f"{self.drop:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def against(source: str, original: str | None, why: str | None = None) -> str:
    """What drops are from, for a sentence; `why` not the original, where that was wanted."""
    if original is not None:
        return CALLED["original"].format(original)
    return CALLED["source"].format(source) + (f", as {why}" if why else "")


class Change(Found):
    """Two models on the same examples."""

    before: Quality
    after: Quality
    drop: Drop


class Below(Found):
    """How far a model lies below another, by name."""

    name: str
    drop: Drop


class Outcome(Found):
    """What became of the quality of a model that was made."""

    data: str
    """That it was measured on."""
    quality: Quality
    against: Literal["original", "source", "other"] | None = None
    """What it was measured against, on the same rows: the original, which is what the first step
    that did more than prepare began with; what it was made from, where the original was not
    measured; or another model, as a teacher. None where there is nothing: it was trained from
    random weights, or its head was."""
    below: Below | None = None
    """How far it lies below that."""
    new_head: bool = False
    """Its head alone was trained from random weights."""

    @classmethod
    def of(
        cls,
        data: str,
        quality: Quality,
        source: Below,
        original: Below | None = None,
        *,
        other: bool = False,
    ) -> Outcome:
        """From what was measured.

        Args:
            source: how far it lies below what it was made from,
            original: and below the original, where that was measured.
            other: the former is another model, as a teacher.
        """
        against: Literal["original", "source", "other"] = "other" if other else "source"
        return cls(
            data=data,
            quality=quality,
            against=against if original is None else "original",
            below=original or source,
        )

    def __str__(self) -> str:
        if self.below is None or self.against is None:
            what = "trained with a new head" if self.new_head else "trained from random weights"
            return f"its own: it was {what}"
        told = figures.told(self.below.drop, self.quality.metric)
        return f"{told} (95 %, paired) against {CALLED[self.against].format(self.below.name)}"

    def whole(self) -> str:
        """All of it in a line, for whoever has not seen the figures."""
        q = self.quality
        return f"{q.metric} {q} on {self.data}, n = {q.examples:,}; {self}"


def told(outcome: Outcome | None) -> str:
    """What became of the quality, as a file says it that is handed on."""
    return NOT_MEASURED if outcome is None else outcome.whole()
