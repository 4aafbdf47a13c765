"""OpenVINO: the network as Intel's intermediate representation, in the place where `optimum-intel`
and sentence-transformers look for it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from acn_compress.checkpoint.processors import name_tokenizer_plainly
from acn_compress.checkpoint.scratch import scratch
from acn_compress.checkpoint.source import Source
from acn_compress.errors import MissingDependencyError, UnsupportedError
from acn_compress.network.network import Network
from acn_compress.onnx.compare import Run
from acn_compress.onnx.layout import FILES, LIMIT
from acn_compress.onnx.session import Array, reason
from acn_compress.onnx.trace import Traced, silence, trace
from acn_compress.onnx.write import Prepared, WrittenFile
from acn_compress.options import Export
from acn_compress.targets.base import Exported, Rows
from acn_compress.targets.program import Program, ProgramExported

FILE = "openvino_model.xml"  # its weights lie beside it, in the .bin of the same name
OPSET = 20  # of the graph it is made from
# one thread, as a call is timed; in float32, as some processors would take fewer bits by themselves
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


class OpenVinoExported(ProgramExported):
    """What an export to OpenVINO reports."""

    library = "openvino"
    runner = "OpenVINO"
    snippet = """import openvino

exact = {{"INFERENCE_PRECISION_HINT": "f32"}}  # without it some processors take fewer bits
model = openvino.Core().compile_model("{file}", "CPU", exact)
{output} = model(dict({given}))["{output}"]"""


class OpenVino(Program):
    """See `targets.base.Target`."""

    writes = f"{FILE} and its weights, beside its config and processor files"
    files: tuple[str, ...] = (FILE, str(Path(FILE).with_suffix(".bin")))
    made = "the OpenVINO model"
    verified = "In OpenVINO it says what torch says, at several batch sizes and lengths."
    report: type[Exported] = OpenVinoExported

    def check(self, net: Network, source: Source, how: Export) -> None:
        """OpenVINO must be there."""
        library()

    def save(self, ready: Prepared, file: Path, name: str) -> None:
        """From an ONNX file."""
        with scratch() as place:
            graph = place / str(FILES[None])
            external = ready.parameter_bytes > LIMIT
            trace(ready.traced, graph, name, {}, opset=OPSET, external=external)
            convert(graph, file, ready.metadata, name)

    def running(self, file: Path, traced: Traced) -> Run:
        """In OpenVINO."""
        return running(file)

    def write(
        self, net: Network, source: Source, directory: Path, how: Export, rows: Rows | None = None
    ) -> WrittenFile:
        """With a tokenizer that `optimum-intel` can read."""
        found = super().write(net, source, directory, how, rows)
        name_tokenizer_plainly(directory)
        return found


def library() -> Any:
    """The openvino package, without the telemetry that it would send when it is imported.

    Raises:
        MissingDependencyError: saying what to install.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # so import fails
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            f"format openvino needs the openvino extra ({str(error)[:120]}): "
            "pip install 'acn-compress[openvino]'"
        ) from None
    return openvino


def convert(graph: Path, file: Path, metadata: Mapping[str, str], name: str) -> None:
    """Write an ONNX file as an OpenVINO model, its weights as they are.

    Args:
        metadata: what the model says of itself, below `acn_compress` of its run-time information.
        name: what the user calls the network.
    Raises:
        UnsupportedError: in one line, if OpenVINO cannot read it.
    """
    openvino = library()
    try:
        with silence():
            model = openvino.convert_model(graph)
    except Exception as error:  # RuntimeErrors, with a stack of C++
        raise UnsupportedError(
            f"{name}: OpenVINO cannot read this network ({reason(error)}). Export to onnx."
        ) from None
    for key, value in metadata.items():
        model.set_rt_info(value, ["acn_compress", key])
    openvino.save_model(model, file, compress_to_fp16=False)


def running(file: Path) -> Run:
    """A model in OpenVINO, on the CPU."""
    model = library().Core().compile_model(file, "CPU", EXACT)

    def run(names: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        found = model(dict(inputs))
        return [found[name] for name in names]

    return run


TARGET = OpenVino()
