"""ONNX files: written with names, dynamic sizes and metadata, and compared with the model in ONNX
Runtime before anyone sees them."""

from __future__ import annotations

import gc
import inspect
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint.directory import Source
from acn_compress.errors import VerificationError
from acn_compress.network.network import Network, longest_text
from acn_compress.onnx import exit as onnx_exit

BATCHES = (1, 2, 3, 5)  # batch sizes compared; the graph is traced with 2
LENGTHS = (7, 12, 19)  # text lengths compared; traced with 12
LIMIT = 2 << 30  # bytes of one protobuf file; larger weights go beside the graph
INT8_COSINE = (
    0.98  # smallest mean cosine of the outputs that an int8 model may have with its source
)


class _Positional(nn.Module):
    """The model as ONNX sees it: named tensors in, a tuple of tensors out. With early exit the
    threshold comes last, and every depth is read."""

    def __init__(
        self, net: Network, inputs: list[str], outputs: list[str], exit_entropy: float | None = None
    ) -> None:
        super().__init__()
        self.net, self.model = net, net.model
        self.inputs, self.exit_entropy = inputs, exit_entropy
        self.outputs = outputs if exit_entropy is None else onnx_exit.OUTPUTS
        decoder = getattr(net.config, "use_cache", None) is not None and getattr(
            net.config, "is_decoder", True
        )
        self.extra = {"use_cache": False} if decoder else {}

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        if self.exit_entropy is not None:
            return onnx_exit.flat(
                self.net,
                dict(zip(self.inputs, tensors[:-1], strict=True)) | self.extra,
                tensors[-1],
            )
        result = self.model(**dict(zip(self.inputs, tensors, strict=True)), **self.extra)
        return tuple(result[name] for name in self.outputs)


def _wrapped(net: Network, exit_entropy: float | None = None) -> _Positional:
    """Find the inputs the model takes and the outputs it gives."""
    example = inputs_for(net, 2, LENGTHS[1], 0)
    with torch.inference_mode():
        result = net(**example)
    names = ("logits", "start_logits", "end_logits", "last_hidden_state", "pooler_output")
    outputs = [n for n in names if isinstance(result.get(n), Tensor)]
    return _Positional(net, list(example), outputs, exit_entropy)


def inputs_for(net: Network, batch: int, length: int, seed: int) -> dict[str, Tensor]:
    """Random inputs of the model, the last text padded: as `checkpoint.example_inputs`, with token
    types where it takes them."""
    inputs = net.example_inputs(batch=batch, length=length, seed=seed)
    if "input_ids" not in inputs:
        return inputs
    if batch > 1:
        inputs["attention_mask"][-1, -(inputs["input_ids"].shape[1] // 3) :] = 0
    if (
        getattr(net.config, "type_vocab_size", 0) > 1
        and "token_type_ids" in inspect.signature(net.model.forward).parameters
    ):
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    return inputs


def write_onnx(
    net: Network,
    path: Path,
    source: Source,
    *,
    opset: int = 20,
    tolerance: float = 1e-4,
    quantize: str | None = None,
    exit_entropy: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Write and verify one ONNX file. A half-precision model keeps its weights so and computes in
    float32; int8 starts from float32.

    Args:
        net: emptied when its weights are written, so that they and ONNX Runtime's are never held
            at once.
        exit_entropy: the file leaves at the first depth that is so sure (nats; see `early_exit`);
            not with `quantize`.
    Returns:
        Plain data for a report.
    Raises:
        VerificationError: if it differs from the model.
    """
    dtype = net.dtype
    halved = dtype in {torch.float16, torch.bfloat16} and not quantize
    if halved:
        _compute_in_float32_(net.model)
    else:
        net.model.float()
    net.model.eval()
    wrapped = _wrapped(net, exit_entropy)
    size = sum(p.numel() * p.element_size() for p in net.model.parameters()) + sum(
        b.numel() * b.element_size() for b in net.model.buffers()
    )
    nodes = _trace(wrapped, path, source, opset, external=size > LIMIT)
    check_size(file_bytes(path), size)
    report: dict[str, Any] = {
        "file": path.name,
        "opset": opset,
        "nodes": nodes,
        "inputs": wrapped.inputs,
        "outputs": wrapped.outputs,
    }
    report |= {
        "parameters": net.parameters,
        "parameter_bytes": size,
        "tolerance": tolerance,
    }
    expected = _expected(wrapped, seed)
    if exit_entropy is not None:
        report |= {
            "exit_entropy": exit_entropy,
            "exit_depths": sorted({int(case.outputs[1]) for case in expected}),
        }
    net.model.to("meta")
    gc.collect()  # the traced program holds the weights too, in cycles
    report |= compare(expected, path, wrapped.outputs, tolerance=tolerance)
    if halved:
        report["note"] = (
            f"The file holds the weights in {str(dtype).removeprefix('torch.')} as the source does, and computes in float32."
        )
    elif dtype != torch.float32:
        report["note"] = "The source is in half precision; the weights were quantised from float32."
    if quantize:
        report |= _quantize(expected, path, wrapped.outputs)
    report["bytes"] = file_bytes(path)
    return report


class _HalfEmbedding(nn.Embedding):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


class _HalfLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(
            x, self.weight.float(), None if self.bias is None else self.bias.float()
        )


class _HalfConv1D(nn.Module):
    """Of transformers' Conv1D, whose weight is [in, out]."""

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.float().T, self.bias.float())


_HALF = {"Embedding": _HalfEmbedding, "Linear": _HalfLinear, "Conv1D": _HalfConv1D}


def _compute_in_float32_(net: nn.Module) -> None:
    """Leave the large weights in half precision and let their layers read them as float32: nothing
    is held twice."""
    for module in net.modules():
        if (half := _HALF.get(type(module).__name__)) is not None:
            module.__class__ = half
            continue
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point():
                tensor.data = tensor.data.float()


def _trace(wrapped: _Positional, path: Path, source: Source, opset: int, external: bool) -> int:
    """Write the graph with named inputs and outputs, a dynamic batch (and sequence), and metadata.
    Returns its nodes."""
    import onnx

    example = inputs_for(wrapped.net, 2, LENGTHS[1], 0)
    text = wrapped.net.modality == "text"
    batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence")
    dynamic: tuple[Any, ...] = tuple(
        {0: batch, 1: sequence} if text else {0: batch} for _ in example
    )
    tensors, inputs, outputs, threshold = (
        tuple(example.values()),
        wrapped.inputs,
        wrapped.outputs,
        wrapped.exit_entropy,
    )
    if threshold is not None:
        outputs = onnx_exit.flat_outputs(wrapped.net.depth)
        tensors, inputs, dynamic = (
            (*tensors, torch.tensor(threshold)),
            [*inputs, onnx_exit.INPUT],
            (*dynamic, None),
        )
    with _silence():
        program = torch.onnx.export(
            wrapped,
            tensors,
            dynamo=True,
            opset_version=opset,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=(dynamic,),
            verbose=False,
        )
        assert program is not None
        if threshold is not None:
            onnx_exit.nest_(program.model.graph, threshold)
        nodes = sum(1 for _ in program.model.graph.all_nodes())
        for node in (
            program.model.graph.all_nodes()
        ):  # the exporter stores a stack trace per node: more bytes than a small model
            node.metadata_props.clear()
            node.doc_string = None
        for key, value in _metadata(wrapped.net, source).items():
            program.model.metadata_props[key] = value
        program.save(str(path), external_data=external)
        for (
            graph
        ) in program.model.graphs():  # onnxscript's rules keep the last graph, and so its weights
            for weight in graph.initializers.values():
                weight.const_value = None
    onnx.checker.check_model(str(path))
    return nodes


def _metadata(net: Network, source: Source) -> dict[str, str]:
    labels = getattr(net.config, "id2label", None) or {}
    text = net.modality == "text"
    return ({"max_length": str(longest_text(net.config))} if text else {}) | {
        "acn_structure": net.structure.model_dump_json(),
        "source_weights_sha256": source.sha256(),
        "acn_compress_version": modeldir.packages().get("acn-compress", ""),
        "id2label": json.dumps({str(k): v for k, v in labels.items()}),
    }


@contextmanager
def _silence() -> Iterator[None]:
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


def file_bytes(path: Path) -> int:
    """Bytes of an ONNX file and of the weights that lie beside it."""
    return sum(p.stat().st_size for p in path.parent.glob(path.name + "*"))


def check_size(written: int, parameter_bytes: int) -> None:
    """An ONNX file holds the weights once and a graph; more than 5 % and 2 MB above the weights
    means something is in it twice.

    Raises:
        VerificationError: with both sizes.
    """
    if written > 1.05 * parameter_bytes + (2 << 20):
        raise VerificationError(
            f"the ONNX file has {written:,} bytes, but the parameters only {parameter_bytes:,}: something is stored twice."
        )


def session(path: Path, threads: int = 1, *, lean: bool = False) -> Any:
    """An ONNX Runtime session on the CPU; `lean` keeps no second, rewritten copy of the weights,
    which takes more time per run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = (
        threads,
        1,
        3,
    )
    if lean:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.execution_order = (
            onnxruntime.ExecutionOrder.PRIORITY_BASED
        )  # a weight becomes float32 when it is needed, not first
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Expected:
    """One set of inputs, what it is, and torch's outputs for it."""

    what: str
    inputs: dict[str, Any]
    outputs: list[Any]


def _expected(wrapped: _Positional, seed: int) -> list[Expected]:
    """Torch's outputs for several batch sizes and lengths, and with early exit at several
    thresholds."""
    text = wrapped.net.modality == "text"
    found = []
    for number, batch in enumerate(BATCHES):
        inputs = inputs_for(wrapped.net, batch, LENGTHS[number % len(LENGTHS)], seed + number)
        what = f"batch {batch}" + (f" x length {inputs['input_ids'].shape[1]}" if text else "")
        arrays = {k: v.numpy() for k, v in inputs.items()}
        if wrapped.exit_entropy is not None:
            for threshold, outputs in onnx_exit.expected(wrapped.net, inputs, wrapped.exit_entropy):
                found.append(
                    Expected(
                        what,
                        arrays | {onnx_exit.INPUT: np.asarray(threshold, dtype="float32")},
                        outputs,
                    )
                )
            continue
        with torch.inference_mode():
            found.append(Expected(what, arrays, [t.numpy() for t in wrapped(*inputs.values())]))
    return found


def _pairs(
    expected: list[Expected], path: Path, names: list[str]
) -> Iterator[tuple[str, list[Any], list[Any]]]:
    """(what, torch's outputs, ONNX Runtime's outputs)."""
    running = session(path, lean=file_bytes(path) > LIMIT)
    for case in expected:
        mask = case.inputs.get("attention_mask")
        sides = (case.outputs, running.run(names, case.inputs))
        ours, theirs = (
            [
                t if mask is None else _of_tokens(n, t, mask != 0)
                for n, t in zip(names, side, strict=True)
            ]
            for side in sides
        )
        yield case.what, ours, theirs


def _of_tokens(name: str, output: Any, mask: Any) -> Any:
    """An output without what it says at padding: that means nothing, and under a sliding window not
    even the same nothing."""
    if output.shape[:2] != mask.shape:
        return output
    if output.ndim == 3:
        return output[mask]
    return np.where(mask, output, 0) if name in {"start_logits", "end_logits"} else output


def compare(
    expected: list[Expected], path: Path, names: list[str], *, tolerance: float
) -> dict[str, Any]:
    """Compare an ONNX file with what the model said to several inputs.

    Raises:
        VerificationError: at the first output beyond `tolerance`.
    """
    worst, agree, rows, compared = 0.0, 0, 0, []
    for what, ours, theirs in _pairs(expected, path, names):
        for name, a, b in zip(names, ours, theirs, strict=True):
            difference = float(np.abs(a - b).max()) / max(1.0, float(np.abs(a).max()))
            if a.shape != b.shape or not difference <= tolerance:
                raise VerificationError(
                    f"the ONNX model differs from the source: {name} at {what} by {difference:.1e}, allowed {tolerance:.1e}. Nothing was written."
                )
            worst = max(worst, difference)
        agree += int((ours[0].argmax(-1) == theirs[0].argmax(-1)).sum())
        rows += ours[0][..., 0].size
        compared.append(what)
    return {
        "max_difference": worst,
        "agreement": agree / rows,
        "compared": list(dict.fromkeys(compared)),
    }


def _quantize(expected: list[Expected], path: Path, names: list[str]) -> dict[str, Any]:
    """Replace the file by its int8 version (weights per channel, activations on the fly), if its
    outputs stay close."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = path.with_name("int8.onnx")
    with _silence():
        quantize_dynamic(str(path), str(small), per_channel=True, weight_type=QuantType.QInt8)
    cosines, agree, rows = [], 0, 0
    for _, ours, theirs in _pairs(expected, small, names):
        a, b = ours[0].reshape(-1, ours[0].shape[-1]), theirs[0].reshape(-1, theirs[0].shape[-1])
        cosines += list(
            (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1) + 1e-12)
        )
        agree += int((a.argmax(-1) == b.argmax(-1)).sum())
        rows += len(a)
    mean = float(np.mean(cosines))
    if not mean >= INT8_COSINE:
        raise VerificationError(
            f"int8: outputs have a mean cosine of {mean:.4f} with the source, expected at least {INT8_COSINE}. Export without --quantize."
        )
    small.replace(path)
    return {
        "quantized": "int8",
        "cosine": mean,
        "cosine_min": float(np.min(cosines)),
        "agreement": agree / rows,
    }
