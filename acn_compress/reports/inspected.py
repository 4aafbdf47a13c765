"""What inspect reports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress

from pydantic import Field

from acn_compress.checkpoint.files import size
from acn_compress.checkpoint.original import Again
from acn_compress.found import Found
from acn_compress.onnx.facts import OnnxFacts
from acn_compress.quality import NOT_MEASURED, Outcome, told
from acn_compress.reports.base import Report, follows
from acn_compress.reports.blocks import Block, Pairs, places

LONG = 100  # characters of a fact that are shown


class Past(Found):
    """One step that was made before."""

    step: str | None = None
    source: dict[str, str] | None = None
    seed: int | None = None
    finished: str | None = None
    quality: Outcome | None = None
    """Of what it made; None if it was not measured."""


class ProfileFound(Found):
    """A profile that lies beside the weights."""

    matches: bool
    """It was made from these very weights."""


class InspectedOnnx(Report, OnnxFacts):
    """What an ONNX file is."""

    source: str
    file: str
    """Which file it is, where a directory was named."""
    bytes: int
    """Of it and the weights beside it."""
    note: str | None = None
    """What else lies there."""

    def display(self) -> Iterator[Block]:
        """One list."""
        yield Pairs(f"inspect {self.source}", list(self._rows()))

    def _rows(self) -> Iterator[tuple[str, object]]:
        yield "file", f"{self.file}, {size(self.bytes)}"
        yield "precision", self.precision
        yield "numbers", f"{self.parameters:,} stored"
        yield "opset", ", ".join(f"{domain} {n}" for domain, n in self.opsets.items())
        yield "producer", f"{self.producer or 'unknown'} (IR version {self.ir_version})"
        yield "nodes", f"{self.nodes:,}"
        yield from (("input", f"{name}: {what}") for name, what in self.inputs.items())
        yield from (("output", f"{name}: {what}") for name, what in self.outputs.items())
        yield from ((name, _brief(name, text)) for name, text in self.metadata.items())
        yield "note", self.note


class Inspected(Report):
    """What a checkpoint is; what only a supported family can tell is None for others."""

    source: str
    family: str | None
    supported: bool
    why: str | None
    """Why it is not supported."""
    remark: str | None = None
    """Why the weights are not those of the config, which every other command refuses."""
    bytes: int
    """Of the weight files."""
    dtype: str | None
    """Of most of the weights."""
    history: tuple[Past, ...]
    again: Again | None = None
    """With what its quality can be measured, where it was not."""
    profile: ProfileFound | None
    class_: str | None = Field(None, alias="class")
    task: str | None = None
    parameters: int | None = None
    parts: dict[str, int] | None = None
    """Parameters before, in and after the blocks: embeddings, blocks, head."""
    input: dict[str, str | int | None] | None = None
    labels: tuple[str, ...] | None = None
    form: str | None = None
    layer: str | None = None
    alpha: tuple[float, ...] | None = None
    blocks: tuple[int, ...] | None = None
    source_blocks: int | None = None
    widths: tuple[dict[str, int], ...] | None = None
    """Per block."""
    full_widths: dict[str, int] | None = None
    """Of a block that was never pruned."""
    sparsity: float | None = None

    def display(self) -> Iterator[Block]:
        """One list."""
        yield Pairs(f"inspect {self.source}", list(self._rows()))

    def _rows(self) -> Iterator[tuple[str, object]]:
        yield "family", self.family or "unknown"
        if not self.supported:
            yield "supported", f"no: {self.why}"
            yield "bytes", size(self.bytes)
            yield "dtype", self.dtype
            return
        assert self.blocks is not None and self.parts is not None and self.input is not None
        hybrid = f", alpha {_range(self.alpha or ())}" if self.form == "hybrid" else ""
        yield "class", self.class_
        yield "task", self.task or "none: no head that can be trained here"
        yield "form", f"{self.form} (layer: {self.layer}{hybrid})"
        whole = len(self.blocks) == self.source_blocks
        cut = f"{len(self.blocks)} of {self.source_blocks}: {places(self.blocks)}"
        yield "blocks", f"{len(self.blocks)}" if whole else cut
        yield "widths", self._widths()
        if self.sparsity:
            zeros = f"{self.sparsity:.1%} zeros"
            yield "sparsity", f"{zeros} among the weight matrices of the blocks"
        parts = ", ".join(f"{name} {n:,}" for name, n in self.parts.items())
        yield "parameters", f"{self.parameters:,} ({parts})"
        yield "weights", f"{size(self.bytes)}, {self.dtype}"
        yield "remark", self.remark
        takes = ((k, v) for k, v in self.input.items() if k != "modality" and v is not None)
        yield str(self.input["modality"]), ", ".join(f"{k} {v}" for k, v in takes)
        yield "labels", _first_few(self.labels or ())
        yield "made by", " -> ".join(str(past.step) for past in self.history)
        if self.history:
            yield "quality", self._quality()
        if self.profile is not None:
            other = "of other weights: run profile again"
            yield "profile", "of these weights" if self.profile.matches else other

    def _quality(self) -> str:
        """As the last step knew it: what is measured later is not written beside the weights."""
        outcome = self.history[-1].quality
        if outcome is not None:
            return told(outcome)
        look = follows("acn-compress evaluate {source} --data {data}", "", self.source, self.again)
        return f"{NOT_MEASURED} when it was made; measure it: {look.text}"

    def _widths(self) -> str:
        full, widths = self.full_widths or {}, self.widths or ()
        usual = _counts(full)
        if all(width == full for width in widths):
            return f"{usual} per block"
        per_block = zip(self.blocks or (), widths, strict=True)
        return "; ".join(f"block {b}: {_counts(w)}" for b, w in per_block) + f" (of {usual})"


def _brief(name: str, text: str) -> str:
    """A fact in a line; all of it is in --json."""
    if name == "provenance":
        with suppress(ValueError, TypeError, KeyError):
            return " -> ".join(str(step["step"]) for step in json.loads(text))
    whole = f"{text[:LONG]} ... ({len(text):,} characters, all in --json)"
    return text if len(text) <= LONG else whole


def _counts(widths: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in widths.items())


def _range(alpha: Sequence[float]) -> str:
    low, high = min(alpha), max(alpha)
    return f"{low:g}" if low == high else f"{low:.3f} to {high:.3f}"


def _first_few(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"{len(names)}{', among them' if len(names) > 5 else ':'} {', '.join(names[:5])}"
