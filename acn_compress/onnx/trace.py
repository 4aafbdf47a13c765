"""A network as an ONNX graph: named inputs and outputs, a batch (and a length) of any size, and
metadata that says what it is."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from acn_compress.errors import UnsupportedError
from acn_compress.network.network import Network
from acn_compress.onnx import exit as onnx_exit
from acn_compress.onnx.cache import PRESENT, Cache, is_past, take_any_empty_past_
from acn_compress.onnx.inputs import inputs_for
from acn_compress.onnx.join import join
from acn_compress.onnx.layout import weights_of
from acn_compress.onnx.metadata import producer
from acn_compress.onnx.operators import kept_operators
from acn_compress.onnx.session import reason

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

LENGTH = 12  # of the text it is traced with, in a batch of 2
OUTPUTS = (
    "logits",
    "start_logits",
    "end_logits",
    "image_embeds",
    "text_embeds",
    "last_hidden_state",
    "pooler_output",
)
EMBEDDING = "sentence_embedding"  # as sentence-transformers calls it
ALL = "past_sequence_length + sequence_length"  # of a text that is read in parts


class Traced(nn.Module):
    """The network as ONNX sees it: named tensors in, a tuple of tensors out. With early exit the
    threshold comes last, and every depth is read.

    Args:
        net: in evaluation mode.
        size: height and width of its images.
        exit_entropy: the threshold of early exit (nats), or None.
        caching: a decoder goes on from the keys and values of what it has read.

    Its `free` are the dimensions of an input that may have any size, by name.
    """

    def __init__(
        self,
        net: Network,
        size: tuple[int, int] | None = None,
        exit_entropy: float | None = None,
        caching: bool = True,
    ) -> None:
        super().__init__()
        self.net, self.model = net, net.model
        self.size, self.exit_entropy = size, exit_entropy
        example = inputs_for(net, 2, LENGTH, 0, size)
        with torch.inference_mode():
            result = net(**example)
        self.read = [name for name in OUTPUTS if isinstance(result.get(name), Tensor)]
        head = net.sentence if "last_hidden_state" in self.read else None
        unknown = None if head is None else head.unknown
        self.head = None if unknown else head
        self.note = f"No {EMBEDDING}: modules.json names a {unknown}." if unknown else None
        said = self.read if self.head is None else [*self.read, EMBEDDING]
        self.inputs = list(example)
        self.free = {0: "batch"} if net.modality == "image" else {0: "batch", 1: "sequence"}
        self.outputs = said if exit_entropy is None else onnx_exit.OUTPUTS
        self.extra = net.uncached
        if (cache := Cache.of(net) if caching else None) is not None:
            self.inputs, self.outputs = list(cache.begun(example)), [*said, *cache.names(PRESENT)]
        self.cache = cache

    def inputs_for(self, batch: int, length: int, seed: int) -> dict[str, Tensor]:
        """Random inputs of the network (see `inputs.inputs_for`), a text from its beginning."""
        inputs = inputs_for(self.net, batch, length, seed, self.size)
        return inputs if self.cache is None else self.cache.begun(inputs)

    def split(
        self, batch: int, length: int, seed: int, before: int
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """Of a decoder: what follows `before` tokens, padded in front, and what is said to it."""
        assert self.cache is not None
        inputs = inputs_for(self.net, batch, length, seed)
        inputs["attention_mask"] = inputs["attention_mask"].flip(1)
        return self.cache.split(self.model, inputs, before)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The outputs by name; with early exit those of `exit.flat`."""
        if self.exit_entropy is not None:
            given = dict(zip(self.inputs, tensors[:-1], strict=True)) | self.extra
            return onnx_exit.flat(self.net, given, tensors[-1])
        named = dict(zip(self.inputs, tensors, strict=True))
        if self.cache is not None:
            return self.cache.read(self.model, named)
        result = self.model(**named, **self.extra)
        found = tuple(result[name] for name in self.read)
        if self.head is None:
            return found
        return (*found, self.head(result.last_hidden_state, named["attention_mask"]))


class WrittenGraph(NamedTuple):
    """A graph that was written."""

    nodes: int
    opset: int


def trace(
    traced: Traced,
    path: Path,
    name: str,
    metadata: Mapping[str, str],
    *,
    opset: int,
    external: bool,
) -> WrittenGraph:
    """Write the graph, its weights beside it if `external`.

    Args:
        name: what the user calls the network.
        metadata: what the file says of itself.
    Raises:
        UnsupportedError: in one line, if torch's exporter fails.
    """
    import onnx
    from onnxscript import ir

    # with gradients the exporter may choose other kernels when it traces than when it decomposes
    with silence(), kept_operators(), torch.no_grad():
        program = _export(traced, name, opset)
        if traced.exit_entropy is not None:
            onnx_exit.nest_(program.model.graph, traced.exit_entropy)
        nodes = _lighten_(program)
        program.model.metadata_props.update(metadata)
        program.model.producer_name, program.model.producer_version = producer()
        # weights of early exit lie in inner graphs, which `join` does not put together
        whole = traced.exit_entropy is not None and not external
        ir.save(program.model, path, external_data=None if whole else weights_of(path).name)
        written = WrittenGraph(nodes, program.model.opset_imports[""])
        _forget_weights_(program)
    onnx.checker.check_model(str(path))
    if not (whole or external):
        graph = path.rename(path.with_name(f"{path.name}.graph"))
        join(graph, weights_of(path), path)
        graph.unlink()
        weights_of(path).unlink()
    return written


def _export(traced: Traced, name: str, opset: int) -> ONNXProgram:
    example = _example(traced)
    tensors, inputs, outputs = tuple(example.values()), traced.inputs, traced.outputs
    dynamic = _sizes(traced, example)
    if traced.exit_entropy is not None:
        outputs = onnx_exit.flat_outputs(traced.net.depth)
        tensors, inputs = (*tensors, torch.tensor(traced.exit_entropy)), [*inputs, onnx_exit.INPUT]
        dynamic = (*dynamic, None)
    try:
        program = torch.onnx.export(
            traced,
            tensors,
            dynamo=True,
            opset_version=opset,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=(dynamic,),
            verbose=False,
        )
    except Exception as error:  # its own class around torch's, in hundreds of lines
        raise UnsupportedError(
            f"{name}: torch's ONNX exporter cannot write this network at opset {opset} "
            f"({reason(error)}). Try another opset, or export to safetensors."
        ) from None
    assert program is not None
    if traced.cache is not None:
        take_any_empty_past_(program.model.graph, traced.cache)
        mask = next(i for i in program.model.graph.inputs if i.name == "attention_mask")
        assert mask.shape is not None
        mask.shape[1] = ALL
    return program


def _example(traced: Traced) -> dict[str, Tensor]:
    """Inputs it is traced with; a decoder in the middle of a text, as the exporter takes a size of
    0 or 1 for fixed."""
    if traced.cache is None:
        return traced.inputs_for(2, LENGTH, 0)
    return traced.split(2, LENGTH, 0, LENGTH // 2 + 1)[0]


def _sizes(traced: Traced, example: Mapping[str, Tensor]) -> tuple[dict[int, Any] | None, ...]:
    """Per input, the names of the dimensions that may have any size."""
    if traced.cache is None:
        sizes = {place: torch.export.Dim(name) for place, name in traced.free.items()}
        return (sizes,) * len(example)
    # transformers.js and optimum know the sizes by these names
    batch, read = {0: torch.export.Dim("batch_size")}, torch.export.Dim("sequence_length")
    past = batch | {2: torch.export.Dim("past_sequence_length")}
    told = {"attention_mask": batch | {1: torch.export.Dim.DYNAMIC}}
    return tuple(past if is_past(n) else told.get(n, batch | {1: read}) for n in example)


def _lighten_(program: ONNXProgram) -> int:
    """Take away the stack trace that the exporter stores per node: more bytes than a small model.
    Returns the nodes."""
    nodes = list(program.model.graph.all_nodes())
    for node in nodes:
        node.metadata_props.clear()
        node.doc_string = None
    return len(nodes)


def _forget_weights_(program: ONNXProgram) -> None:
    """onnxscript's rules keep the last graph, and so its weights."""
    for graph in program.model.graphs():
        for weight in graph.initializers.values():
            weight.const_value = None


@contextmanager
def silence() -> Iterator[None]:
    """The exporter talks on every channel; what matters is verified afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
