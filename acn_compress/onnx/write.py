"""Writing one ONNX file of a network, and proving it before anyone sees it."""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from acn_compress.checkpoint.source import Source
from acn_compress.errors import ConfigError, VerificationError
from acn_compress.network.network import Network
from acn_compress.onnx import half
from acn_compress.onnx.compare import Compared, Expected, Run, compare, expected
from acn_compress.onnx.inputs import preparation
from acn_compress.onnx.layout import LIMIT, file_bytes
from acn_compress.onnx.metadata import described
from acn_compress.onnx.session import Session
from acn_compress.onnx.trace import Traced, trace

OPSETS = range(18, 25)  # that torch's exporter writes: asked for less, it writes 18 all the same


class WrittenFile(Compared):
    """A file that was made of a network, and how it was proven."""

    file: str
    """Its name."""
    inputs: list[str]
    """Names."""
    outputs: list[str]
    """Names."""
    parameters: int
    """Of the network, tied ones once."""
    parameter_bytes: int
    """Bytes of its parameters and buffers, dense layers behind the pooling included."""
    tolerance: float
    """The difference that was allowed."""
    bytes: int
    """Of the file and the weights beside it."""
    note: str | None = None
    """What else to know."""


class OnnxFile(WrittenFile):
    """An ONNX file."""

    opset: int
    """The operator set that the file has."""
    nodes: int
    """Of its graph."""
    exit_entropy: float | None = None
    """The threshold of early exit, in nats."""
    exit_depths: list[int] | None = None
    """Depths at which the compared inputs left."""


def write_onnx(
    net: Network,
    path: Path,
    source: Source,
    *,
    opset: int = 20,
    tolerance: float = 1e-4,
    exit_entropy: float | None = None,
    seed: int = 0,
) -> OnnxFile:
    """Write and verify one ONNX file. A half-precision model keeps its weights so and computes in
    float32.

    Args:
        net: emptied when its weights are written, so that they and ONNX Runtime's are never held
            at once.
        source: where it came from; its image processor says how large its images are.
        opset: ONNX operator set.
        tolerance: largest difference to torch, over max(1, largest output).
        exit_entropy: the file leaves at the first depth that is so sure (nats; see `early_exit`).
        seed: of the inputs that are compared.
    Raises:
        ConfigError: if an option cannot be meant.
        UnsupportedError: if the network cannot be written.
        VerificationError: if it differs from the model.
    """
    check_options(opset, tolerance)
    ready = Prepared.of_(net, source, exit_entropy)
    graph = trace(
        ready.traced,
        path,
        source.name,
        ready.metadata,
        opset=opset,
        external=ready.parameter_bytes > LIMIT,
    )
    size = file_bytes(path)
    check_size(size, ready.parameter_bytes)
    _check_opset(graph.opset, opset)
    cases = ready.expected_(seed)
    folded = net.dtype not in half.TYPES
    running = Session(path, lean=size > LIMIT, folded=folded)
    return OnnxFile(
        **ready.proven(path, size, cases, running.run, tolerance=tolerance),
        opset=graph.opset,
        nodes=graph.nodes,
        exit_entropy=exit_entropy,
        exit_depths=None if exit_entropy is None else _left(cases),
    )


@dataclass(frozen=True)
class Prepared:
    """A network that a file is to be made of.

    Args:
        traced: it, in the precision in which it is written.
        metadata: what the file says of itself.
        parameters: of the network, tied ones once.
        parameter_bytes: of all that it holds.
        note: what else to know.
    """

    traced: Traced
    metadata: Mapping[str, str]
    parameters: int
    parameter_bytes: int
    note: str | None

    @classmethod
    def of_(
        cls,
        net: Network,
        source: Source,
        exit_entropy: float | None = None,
        *,
        caching: bool = True,
    ) -> Prepared:
        """Prepare a network. `caching` as in `trace.Traced`."""
        note = _prepare_(net)
        images = preparation(net, source)
        traced = Traced(net, None if images is None else images.size, exit_entropy, caching)
        return cls(
            traced,
            described(net, source, images),
            net.parameters,
            _weight_bytes(traced),
            " ".join(filter(None, (note, traced.note))) or None,
        )

    def expected_(self, seed: int) -> list[Expected]:
        """What the network says to several inputs; it is empty afterwards."""
        cases = expected(self.traced, seed)
        self.traced.net.model.to("meta")
        gc.collect()  # the traced program holds the weights too, in cycles
        return cases

    def proven(
        self,
        path: Path,
        size: int,
        cases: list[Expected],
        run: Run,
        *,
        tolerance: float,
        made: str = "the ONNX model",
    ) -> WrittenFile:
        """A file that was written, compared with what the network said.

        Args:
            size: bytes of it and what lies beside it.
            run: the file, in what runs it.
            made: what it is called.
        Raises:
            VerificationError: if it says something else.
        """
        traced = self.traced
        return WrittenFile(
            **compare(cases, run, traced.outputs, tolerance=tolerance, made=made),
            file=path.name,
            inputs=traced.inputs,
            outputs=traced.outputs,
            parameters=self.parameters,
            parameter_bytes=self.parameter_bytes,
            tolerance=tolerance,
            bytes=size,
            note=self.note,
        )


def check_options(opset: int, tolerance: float) -> None:
    """Refuse what no file could have or pass.

    Raises:
        ConfigError: with what is expected.
    """
    if opset not in OPSETS:
        raise ConfigError(f"opset is {opset}, expected {OPSETS[0]} to {OPSETS[-1]}.")
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ConfigError(
            f"tolerance is {tolerance:g}, expected a difference that may be: 0 or more, as 1e-4."
        )


def check_size(written: int, parameter_bytes: int, made: str = "the ONNX file") -> None:
    """A file holds the weights once and a graph; more than 5 % and 2 MB above the weights
    means something is in it twice.

    Raises:
        VerificationError: with both sizes.
    """
    if written > 1.05 * parameter_bytes + (2 << 20):
        raise VerificationError(
            f"{made} has {written:,} bytes, but the parameters only {parameter_bytes:,}: "
            "something is stored twice."
        )


def _prepare_(net: Network) -> str | None:
    """Bring a network to the CPU, where files are made and run, in the precision that is written.
    Returns what to say about it."""
    dtype, name = net.dtype, str(net.dtype).removeprefix("torch.")
    net.model.eval().cpu()
    if dtype in half.TYPES:
        half.compute_in_float32_(net)
        return f"The file holds the weights in {name} as the source does, and computes in float32."
    net.model.float()
    return None


def _weight_bytes(traced: Traced) -> int:
    behind = traced.head.tensors() if traced.head else ()
    held = (*traced.model.parameters(), *traced.model.buffers(), *behind)
    return sum(t.numel() * t.element_size() for t in held)


def _left(cases: list[Expected]) -> list[int]:
    """The depths at which the cases of early exit leave."""
    return sorted({int(case.outputs[1]) for case in cases})


def _check_opset(found: int, asked: int) -> None:
    """Refuse an operator set that is not the one that was asked for.

    Raises:
        VerificationError: with both.
    """
    if found != asked:
        raise VerificationError(
            f"the ONNX file has opset {found}, but {asked} was asked for. "
            f"Ask for {found}. Nothing was written."
        )
