"""What a step reports that made a model: what came out, against what went in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from acn_compress import figures
from acn_compress.checkpoint.files import size
from acn_compress.checkpoint.vocabulary import Vocabulary
from acn_compress.checkpoint.write import Written
from acn_compress.data.read import Read
from acn_compress.events import duration
from acn_compress.quality import NOT_MEASURED, Below, Drop, Outcome, Quality
from acn_compress.reports.base import LOOK, Report, few_lines, follows, read_lines
from acn_compress.reports.blocks import Block, Command, Line, Pairs, kept
from acn_compress.training.fitted import Fit


class Made(Report, Written):
    """A model that was made and, where there was data, measured."""

    note: str | None = None
    data: str | None = None
    """Trained on, or measured on if nothing was trained."""
    examples: int | None = None
    """Trained on."""
    read: Read | None = None
    """Which rows and columns of the data."""
    eval_data: str | None = None
    eval_read: Read | None = None
    before: Quality | None = None
    """Of what it was made from."""
    after: Quality | None = None
    teacher: Quality | None = None
    """Of another model that taught it."""
    drop: Drop | None = None
    training: Fit | None = None

    against: str | None = None
    """What `before` and `drop` are of, where it is not the source."""
    new_head: bool = False
    """That is it with a head of random weights, which nothing made from it can be compared with."""
    original: Below | None = None
    """The original of the chain, on the same rows."""

    follow: ClassVar[str] = ""
    """What to do next; {out} and {data} are filled in."""
    unmeasured: ClassVar[str] = ""
    """Likewise where the quality was not measured; {source} and {original} are filled in too."""

    def facts(self) -> Iterator[tuple[str, object]]:
        """What only this step has to say."""
        yield from ()

    def measured(self) -> tuple[tuple[str, Quality | None], ...]:
        """The states of the model that were measured, in time."""
        return ("before", self.before), ("after", self.after), ("teacher", self.teacher)

    def display(self) -> Iterator[Block]:
        """A list of names and values, and what to do next."""
        yield Pairs(self.step, list(self._rows()))
        if self.after is not None:
            yield from few_lines(self.after.examples)
        yield from read_lines(self.read)
        yield from read_lines(self.eval_read, "measured on")
        if self.follow:
            yield self.next()

    def next(self) -> Command:
        """What to do next."""
        text = self.unmeasured if self.drop is None and self.unmeasured else self.follow
        evaluates = text.startswith("acn-compress evaluate")
        data = (self.eval_data if evaluates else None) or self.data
        named = data and data.split(",")[0].rsplit(":", 1)[0]
        return follows(text, self.out, self.source, self.again, named)

    def warning(self) -> str | None:
        """That the quality was not measured."""
        return f"quality {self.quality()}" if self.outcome() is None else None

    def _rows(self) -> Iterator[tuple[str, object]]:
        s = self.structure
        yield "from", self.source or "random weights"
        yield "form", f"{s.form} (layer {s.layer}, alpha {sum(s.alpha) / len(s.alpha):.2g})"
        yield "blocks", kept(s.blocks, s.source_blocks)
        yield from self.facts()
        yield "note", self.note
        yield "parameters", self._parameters()
        yield "bytes", self._bytes()
        for name, quality in self.measured():
            if quality is not None:
                text = f"{quality.metric} {quality}, loss {quality.loss:.4f}"
                yield name, f"{text}, n = {quality.examples:,}"
        yield "quality", self.quality()
        if (t := self.training) is not None:
            yield (
                "training",
                f"{t.steps} steps in {duration(t.seconds)}, {t.precision}, lr {t.lr:g}",
            )
        yield "written", self.out

    def _parameters(self) -> str:
        before = self.get("parameters_before")
        return f"{self.parameters:,}" + (f" (before {before:,})" if before else "")

    def _bytes(self) -> str:
        packed = self.get("gzip_bytes")
        return f"{size(self.bytes)} on disk" + (f", {size(packed)} with gzip" if packed else "")

    def quality(self) -> str:
        """What became of it, in a line: against what, with interval; or how to measure it."""
        if (found := self.outcome()) is None:
            one = "the data has one split only; pass --eval-data"
            return f"{NOT_MEASURED}: " + ("add --data" if self.training is None else one)
        return str(found)

    def brief(self) -> str:
        """Its size, what was decided, and what became of the quality."""
        s = self.structure
        size = f"{len(s.blocks)} of {s.source_blocks} blocks, {figures.millions(self.parameters)}"
        return "; ".join([f"{size} parameters", *self.decided(), self._became()])

    def decided(self) -> Iterator[str]:
        """What only this step has decided."""
        yield from ()

    def _became(self) -> str:
        found = self.outcome()
        if found is None:
            return f"quality {self.quality()}"
        metric = figures.title(found.quality.metric)
        return f"{metric} {found.quality.value:.4f}, {found}, n = {found.quality.examples:,}"

    def outcome(self) -> Outcome | None:
        """What became of it."""
        if self.drop is None or self.after is None:
            return None
        data, than = self.eval_data or self.data or "", self.against or self.source
        if than is None or self.new_head:
            return Outcome(data=data, quality=self.after, new_head=self.new_head)
        return Outcome.of(
            data,
            self.after,
            Below(name=than, drop=self.drop),
            self.original,
            other=than != self.source,
        )


class Converted(Made):
    """What convert reports."""

    follow = "acn-compress profile {out} --data {data}"
    alpha: tuple[float, ...]
    """Per layer, where it got to."""
    choosing_flops: float = 0.0
    """Floating-point operations that choosing and refitting the blocks to start from took."""


class Finetuned(Made):
    """What finetune reports."""

    follow = "acn-compress compress {out} OUT --speedup 2 --data {data}"


class Truncated(Made):
    """What truncate reports."""

    follow = "acn-compress prune {out} OUT --target-sparsity 0.3 --data {data} --epochs 2"
    unmeasured = LOOK
    depth: int
    of: int
    """Blocks there were."""
    form: str
    why: str
    """How the depth was chosen."""
    parameters_before: int

    def facts(self) -> Iterator[tuple[str, object]]:
        """How the depth was chosen."""
        yield "why", self.why

    def decided(self) -> Iterator[str]:
        """Likewise; the quality is said anyway."""
        yield self.why.rsplit(": ", 1)[0] if self.outcome() is not None else self.why


class PruneReport(Made, extra="allow"):
    """What prune reports; beyond it stands what the method itself found, under its own names."""

    follow = "acn-compress export {out} OUT --format onnx"
    unmeasured = LOOK
    method: str
    scope: str
    target: float
    """The share that was asked for."""
    achieved: float
    of: str
    """What it is a share of."""
    parameters_before: int
    parameters_after: int

    vocabulary: Vocabulary | None = None
    """If tokens were cut."""
    pruned: Quality | None = None
    """Pruned and not yet trained, where training follows."""
    pruned_drop: Drop | None = None
    training_drop: Drop | None = None
    """How far it lies below that, trained, on the same rows."""

    def facts(self) -> Iterator[tuple[str, object]]:
        """The share, and how it was checked."""
        yield "vocabulary", self.vocabulary
        if self.method != "vocabulary":
            yield "sparsity", self._share()
        if (worst := self.get("max_difference")) is not None:
            yield "check", f"largest difference to the masked original {worst:.1e}"

    def _share(self) -> str:
        return f"asked {self.target:.4f}, achieved {self.achieved:.4f} ({self.of})"

    def decided(self) -> Iterator[str]:
        """The share."""
        if self.method != "vocabulary":
            yield f"sparsity {self._share()}"

    def measured(self) -> tuple[tuple[str, Quality | None], ...]:
        """Between both, pruned and not yet trained."""
        before, *rest = super().measured()
        return before, ("pruned, untrained", self.pruned), *rest

    def display(self) -> Iterator[Block]:
        """Also whether the training did harm."""
        yield from super().display()
        drop = self.training_drop
        if self.after is not None and drop is not None and drop.low > 0:
            yield Line(
                f"The training after pruning did harm: {figures.told(drop, self.after.metric)} "
                "(95 %, paired). Try a lower --lr or more data."
            )
