"""ExecuTorch: the network as a program for telephones and other small machines, its products in
XNNPACK."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from acn_compress.checkpoint.source import Source
from acn_compress.errors import MissingDependencyError, UnsupportedError
from acn_compress.network.network import Network
from acn_compress.onnx.compare import Run
from acn_compress.onnx.session import Array, reason
from acn_compress.onnx.trace import LENGTH, Traced, silence
from acn_compress.onnx.write import Prepared, WrittenFile
from acn_compress.options import Export
from acn_compress.targets.base import Exported, Rows
from acn_compress.targets.program import Program, ProgramExported

FILE = "model.pte"
# it plans its memory ahead, for the largest inputs that it will take
BATCH = 8
TOKENS = 512


class ExecuTorchExported(ProgramExported):
    """What an export to ExecuTorch reports."""

    library = "executorch"
    runner = "ExecuTorch"
    snippet = """from executorch.runtime import Runtime

method = Runtime.get().load_program("{file}").load_method("forward")
{outputs} = method.execute([{inputs}])"""


class ExecuTorch(Program):
    """See `targets.base.Target`."""

    writes = f"{FILE}, beside its config and processor files"
    files: tuple[str, ...] = (FILE,)
    made = "the ExecuTorch program"
    verified = "In ExecuTorch it says what torch says, at several batch sizes and lengths."
    report: type[Exported] = ExecuTorchExported

    def check(self, net: Network, source: Source, how: Export) -> None:
        """ExecuTorch must be there, and inputs not too large to plan for."""
        if net.modality == "audio":
            raise UnsupportedError(
                f"{source.name}: format executorch plans its memory ahead, but clips have no "
                "longest. Export to onnx."
            )
        library()

    def save(self, ready: Prepared, file: Path, name: str) -> None:
        """Lowered to XNNPACK."""
        save_program(ready.traced, file, name)

    def running(self, file: Path, traced: Traced) -> Run:
        """In ExecuTorch."""
        return running(file, traced)

    def write(
        self, net: Network, source: Source, directory: Path, how: Export, rows: Rows | None = None
    ) -> WrittenFile:
        """With a note of how much the program takes."""
        found = super().write(net, source, directory, how, rows)
        tokens = f", of {longest(net)} tokens" if net.modality == "text" else ""
        said = (found.note, f"It takes {BATCH} rows at most{tokens}.")
        return found.model_copy(update={"note": " ".join(filter(None, said))})


def library() -> Any:
    """The executorch package's compiler.

    Raises:
        MissingDependencyError: saying what to install.
    """
    try:
        with silence():
            from executorch import exir
            from executorch.backends.xnnpack.partition import xnnpack_partitioner
    except ImportError as error:
        raise MissingDependencyError(
            f"format executorch needs the executorch extra ({str(error)[:120]}): "
            "pip install 'acn-compress[executorch]'"
        ) from None
    return exir, xnnpack_partitioner.XnnpackPartitioner


def longest(net: Network) -> int:
    """Tokens of the longest text that a program takes."""
    return min(net.longest_text, TOKENS)


def save_program(traced: Traced, file: Path, name: str) -> None:
    """Write a network as a program.

    Args:
        name: what the user calls it.
    Raises:
        UnsupportedError: in one line, if torch or ExecuTorch cannot write it.
    """
    with silence(), torch.no_grad():
        exir, partitioner = library()
        try:
            lowered = exir.to_edge_transform_and_lower(
                _program(traced), partitioner=[partitioner()]
            )
            made = lowered.to_executorch()
        except Exception as error:  # of torch or of a backend, in hundreds of lines
            raise UnsupportedError(
                f"{name}: ExecuTorch cannot take this network ({reason(error)}). Export to onnx."
            ) from None
    with file.open("wb") as into:
        made.write_to_file(into)


def _program(traced: Traced) -> ExportedProgram:
    example = traced.inputs_for(2, LENGTH, 0)
    most = {0: BATCH, 1: longest(traced.net)}
    free = {place: Dim(name, max=most[place]) for place, name in traced.free.items()}
    given = tuple(example.values())
    return torch.export.export(traced, given, dynamic_shapes=((free,) * len(given),), strict=False)


def running(file: Path, traced: Traced) -> Run:
    """A program, loaded. Its inputs and outputs have an order and no names."""
    with silence(), _stderr_closed():
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(file).load_method("forward")

    def run(names: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        given = [torch.from_numpy(inputs[name]) for name in traced.inputs]
        found = dict(zip(traced.outputs, method.execute(given), strict=True))
        return [found[name].numpy().copy() for name in names]

    return run


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """The library, which is not written in Python, tells there which processor it finds."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


TARGET = ExecuTorch()
