"""torch.export: the network as a program in a .pt2 file, which torch loads and runs without
transformers and without this package."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from acn_compress.errors import UnsupportedError
from acn_compress.onnx.compare import Run
from acn_compress.onnx.session import Array, reason
from acn_compress.onnx.trace import LENGTH, Traced, silence
from acn_compress.onnx.write import Prepared
from acn_compress.targets.base import Exported
from acn_compress.targets.program import Program, ProgramExported

FILE = "model.pt2"
METADATA = "metadata.json"  # within it


class TorchExported(ProgramExported):
    """What an export with torch.export reports."""

    library = "pytorch"
    runner = "torch"
    snippet = """import torch

model = torch.export.load("{file}").module()
{output} = model({given})["{output}"]"""


class TorchExport(Program):
    """See `targets.base.Target`."""

    writes = f"{FILE}, beside its config and processor files"
    files: tuple[str, ...] = (FILE,)
    made = "the exported program"
    verified = "Loaded again it says what the network says, at several batch sizes and lengths."
    report: type[Exported] = TorchExported

    def save(self, ready: Prepared, file: Path, name: str) -> None:
        """By torch.export."""
        save_program(ready.traced, file, name, ready.metadata)

    def running(self, file: Path, traced: Traced) -> Run:
        """In torch."""
        return running(file)


class Named(nn.Module):
    """Named tensors in, named tensors out.

    Args:
        traced: what is called.
    """

    def __init__(self, traced: Traced) -> None:
        super().__init__()
        self.traced = traced

        def forward(**given: Tensor) -> dict[str, Tensor]:
            found = traced(*(given[name] for name in traced.inputs))
            return dict(zip(traced.outputs, found, strict=True))

        # torch takes a program's names of inputs, and what of them is dynamic, from the signature
        named = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in traced.inputs]
        forward.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
        self.forward = forward


def save_program(traced: Traced, file: Path, name: str, metadata: Mapping[str, str]) -> None:
    """Write a network as a program.

    Args:
        name: what the user calls it.
        metadata: what the file says of itself.
    Raises:
        UnsupportedError: in one line, if torch cannot export it.
    """
    with silence(), torch.no_grad():
        program = _program(traced, name)
        for node in program.graph.nodes:  # where it stood in files of this machine
            node.meta.pop("stack_trace", None)
        try:
            torch.export.save(program, file, extra_files={METADATA: json.dumps(dict(metadata))})
        except Exception as error:  # what it can trace and not write: a mask that calls a function
            raise UnsupportedError(
                f"{name}: torch.export cannot write the program of this network ({reason(error)}). "
                "Use format onnx."
            ) from None


def _program(traced: Traced, name: str) -> ExportedProgram:
    example = traced.inputs_for(2, LENGTH, 0)
    free = dict.fromkeys(traced.free, Dim.DYNAMIC)
    try:
        return torch.export.export(
            Named(traced), (), example, dynamic_shapes=dict.fromkeys(example, free), strict=False
        )
    except Exception as error:  # it has many classes, and texts of hundreds of lines
        raise UnsupportedError(
            f"{name}: torch.export cannot export this network ({reason(error)}). "
            "Export to safetensors."
        ) from None


def running(file: Path) -> Run:
    """A program, loaded."""
    with silence():
        model = torch.export.load(file).module()

    def run(names: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        with torch.inference_mode():
            found = model(**{name: torch.from_numpy(a) for name, a in inputs.items()})
        return [found[name].numpy() for name in names]

    return run


TARGET = TorchExport()
