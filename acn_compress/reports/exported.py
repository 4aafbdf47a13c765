"""What export reports."""

from __future__ import annotations

from collections.abc import Iterator

from acn_compress.reports.base import Block, Line, Pairs, Report, size


class Exported(Report):
    """An ONNX file and how it was verified."""

    source: str
    out: str
    format: str
    file: str
    opset: int
    nodes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: int
    parameter_bytes: int
    bytes: int
    tolerance: float
    max_difference: float
    """To torch, over max(1, largest output)."""
    agreement: float
    compared: tuple[str, ...]
    """The inputs it was compared on."""
    seconds: float
    note: str | None = None
    exit_entropy: float | None = None
    exit_depths: tuple[int, ...] | None = None
    """At which the compared inputs left."""
    quantized: str | None = None
    cosine: float | None = None
    cosine_min: float | None = None

    def display(self) -> Iterator[Block]:
        """A list, and what to do next."""
        title = (
            f"export {self.source} (opset {self.opset}, {self.nodes} nodes, {self.seconds:.0f} s)"
        )
        yield Pairs(title, list(self._rows()))
        # how many leave early depends on what comes in, and a benchmark's inputs are random
        follow = f"benchmark ORIGINAL {self.out}"
        if self.exit_entropy is not None:
            follow = f"evaluate {self.source} --data D --exit-entropy {self.exit_entropy:g}"
        yield Line(f"next: acn-compress {follow}")

    def _rows(self) -> Iterator[tuple[str, object]]:
        alone = f"parameters alone: {size(self.parameter_bytes)}"
        yield "file", f"{self.out}/{self.file}, {size(self.bytes)} ({alone})"
        yield "inputs", ", ".join(self.inputs) + " (dynamic batch)"
        yield "outputs", ", ".join(self.outputs)
        worst = f"largest difference {self.max_difference:.1e} of {self.tolerance:.0e} allowed"
        yield "verified", f"in ONNX Runtime at {', '.join(self.compared)}: {worst}"
        if self.exit_depths is not None:
            left = ", ".join(map(str, self.exit_depths))
            how = f"at an entropy of at most {self.exit_entropy:g} nats (input exit_entropy)"
            yield "early exit", f"{how}; verified leaving at depth {left}"
        if self.cosine is not None:
            lowest = f"(lowest {self.cosine_min:.4f})"
            yield "int8", f"mean cosine with the source {self.cosine:.4f} {lowest}"
        yield "same answer", f"{self.agreement:.1%}"
        yield "note", self.note
