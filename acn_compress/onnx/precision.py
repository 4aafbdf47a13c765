"""The files that stand beside a float one in fewer bits, each made by ONNX Runtime's own tools from
the same folded graph.

- fp16: weights and computation in half precision, inputs and outputs as they were. A processor
  without half-precision arithmetic computes in float32 all the same.
- int8: weights per channel, activations on the fly.
- int8-static: as QDQ nodes (QuantizeLinear, DequantizeLinear), activations in ranges that were seen
  on calibration rows. Products of two activations, as in attention, stay in float.
- int4: the weights of products and embeddings in blocks of `BLOCK` (MatMulNBits,
  GatherBlockQuantized); a type that ONNX has since opset 21.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acn_compress.errors import AcnError, UnsupportedError
from acn_compress.onnx.layout import FILES, LIMIT, file_bytes, weights_of
from acn_compress.onnx.session import Array, reason
from acn_compress.onnx.trace import silence
from acn_compress.options import Quantize

if TYPE_CHECKING:
    from onnx import ModelProto

BLOCK = 32  # weights that share a scale in int4
PRODUCTS = ("MatMul", "Gemm")

Feeds = Iterable[dict[str, Array]]


@contextmanager
def folded(path: Path) -> Iterator[Path]:
    """The graph of a float file with its constants folded, so that every weight lies where the
    quantisers look for it, half-precision ones as float32; gone afterwards.

    Raises:
        UnsupportedError: in one line, if ONNX Runtime cannot.
    """
    import onnxruntime

    made = path.with_name("folded.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(made)
    if file_bytes(path) > LIMIT:
        key = "session.optimized_model_external_initializers_file_name"
        options.add_session_config_entry(key, weights_of(made).name)
    try:
        with _told("fold the constants of this network", "quantize"):
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            _read_in_float32(made)
        yield made
    finally:
        made.unlink(missing_ok=True)
        weights_of(made).unlink(missing_ok=True)


def _read_in_float32(path: Path) -> None:
    """Turn half-precision embeddings into float32: what casts them is behind the look-up, which no
    folding can pass."""
    import onnx

    model = onnx.load(str(path))
    tables = {n.input[0] for n in model.graph.node if n.op_type == "Gather"}
    types = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    half = [t for t in model.graph.initializer if t.name in tables and t.data_type in types]
    for tensor in half:
        values = onnx.numpy_helper.to_array(tensor).astype("float32")
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    if half:
        del model.graph.value_info[:]  # of the types that were
        _save(model, path)


def _save(model: ModelProto, path: Path) -> None:
    import onnx

    large = sum(len(t.raw_data) for t in model.graph.initializer) > LIMIT
    beside: dict[str, Any] = {"location": weights_of(path).name} if large else {}
    path.unlink(missing_ok=True)
    weights_of(path).unlink(missing_ok=True)
    onnx.save(model, str(path), save_as_external_data=large, **beside)


def write_precision(
    whole: Path, graph: Path, file: Path, precision: Quantize, rows: Feeds | None
) -> None:
    """Write a file in a precision.

    Args:
        whole: the float file, whose name and facts the other bears.
        graph: it, folded.
        rows: that int8-static is calibrated on.
    Raises:
        UnsupportedError: in one line, if ONNX Runtime cannot.
    """
    import onnx

    with _told(f"make {precision} of this network", precision):
        made = _MAKERS[precision](graph, file, rows)
        _sign(onnx.load(str(whole), load_external_data=False), made, precision)
        _save(made, file)


def write_int8(whole: Path) -> Path:
    """Write the int8 file of a float one beside it, unjudged, and say where.

    Raises:
        UnsupportedError: in one line, if there can be none.
    """
    file = whole.with_name(FILES["int8"])
    with folded(whole) as graph:
        write_precision(whole, graph, file, "int8", None)
    return file


@contextmanager
def _told(what: str, precision: str) -> Iterator[None]:
    """Inside, whatever the tools raise is one line."""
    try:
        with silence():
            yield
    except (OSError, AcnError):
        raise  # the disk, which is not the tools' fault
    except Exception as error:  # of onnx, onnxruntime and protobuf
        raise UnsupportedError(
            f"ONNX Runtime cannot {what} ({reason(error)}). Export without {precision}."
        ) from None


def _sign(whole: ModelProto, made: ModelProto, precision: str) -> None:
    """Say of the other file what the float file says of itself, where the tools sign for their own
    and name every domain they know."""
    import onnx

    used = {node.domain or "" for node in made.graph.node} | {"", "ai.onnx"}
    for opset in [o for o in made.opset_import if o.domain not in used]:
        made.opset_import.remove(opset)

    made.producer_name, made.producer_version = whole.producer_name, whole.producer_version
    said = {p.key: p.value for p in whole.metadata_props}
    onnx.helper.set_model_props(made, said | {"quantized": precision})


def _fp16(graph: Path, file: Path, rows: Feeds | None) -> ModelProto:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made: ModelProto = convert_float_to_float16(onnx.load(str(graph)), keep_io_types=True)
    return made


def _int8(graph: Path, file: Path, rows: Feeds | None) -> ModelProto:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(graph), str(file), per_channel=True, weight_type=QuantType.QInt8)
    return onnx.load(str(file))


def _int8_static(graph: Path, file: Path, rows: Feeds | None) -> ModelProto:
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, rows: Feeds) -> None:
            self.rows = iter(rows)

        def get_next(self) -> dict[str, Array] | None:
            return next(self.rows, None)

    assert rows is not None
    quantize_static(
        str(graph),
        str(file),
        Reader(rows),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*PRODUCTS, "Gather"],
        nodes_to_quantize=_of_weights(onnx.load(str(graph), load_external_data=False)),
        per_channel=True,
        activation_type=QuantType.QUInt8,  # with signed ones an x86 processor takes thrice the time
        weight_type=QuantType.QInt8,
    )
    return onnx.load(str(file))


def _of_weights(graph: ModelProto) -> list[str]:
    """The products with a weight, and the embeddings, by name."""
    from onnx import TensorProto

    floats = {t.name for t in graph.graph.initializer if t.data_type == TensorProto.FLOAT}
    return [
        node.name
        for node in graph.graph.node
        if (node.op_type in PRODUCTS and node.input[1] in floats)
        or (node.op_type == "Gather" and node.input[0] in floats)
    ]


def _int4(graph: Path, file: Path, rows: Feeds | None) -> ModelProto:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    tool = MatMulNBitsQuantizer(
        onnx.load(str(graph)),
        block_size=BLOCK,
        is_symmetric=True,
        accuracy_level=4,  # activations in int8, in blocks of their own: the fastest
        op_types_to_quantize=("MatMul", "Gather"),
    )
    tool.process()
    made: ModelProto = tool.model.model
    return made


_MAKERS: Mapping[Quantize, Callable[[Path, Path, Feeds | None], ModelProto]] = {
    "fp16": _fp16,
    "int8": _int8,
    "int8-static": _int8_static,
    "int4": _int4,
}
