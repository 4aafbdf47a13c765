"""What an ONNX file is, read from its graph; its weights are not."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from acn_compress.errors import CheckpointError
from acn_compress.found import Found
from acn_compress.onnx.session import reason

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

INT8_ON_THE_FLY = {"MatMulInteger", "ConvInteger", "DynamicQuantizeLinear"}
INT4 = {"MatMulNBits", "GatherBlockQuantized"}


class OnnxFacts(Found):
    """What an ONNX file says of itself."""

    opsets: dict[str, int]
    """By domain; that of ONNX itself is ai.onnx."""
    ir_version: int
    producer: str
    inputs: dict[str, str]
    """Type and shape by name; a size that is free has a name."""
    outputs: dict[str, str]
    nodes: int
    precision: str
    """What its products are computed in, or else the type of most of its weights."""
    parameters: int
    """Numbers of its weights, as they are stored."""
    metadata: dict[str, str]


def facts_of(file: Path) -> OnnxFacts:
    """Read a file's graph.

    Raises:
        CheckpointError: in one line, if it is damaged or something else.
    """
    import onnx

    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:  # of protobuf
        raise CheckpointError(
            f"{file}: not an ONNX file, or damaged ({reason(error)}). Export it again."
        ) from None
    weights = {t.name for t in model.graph.initializer}
    return OnnxFacts(
        opsets={o.domain or "ai.onnx": o.version for o in model.opset_import},
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs={i.name: _shape(i) for i in model.graph.input if i.name not in weights},
        outputs={o.name: _shape(o) for o in model.graph.output},
        nodes=len(model.graph.node),
        precision=_precision(model),
        parameters=sum(math.prod(t.dims) for t in model.graph.initializer),
        metadata={p.key: p.value for p in model.metadata_props},
    )


def _shape(value: ValueInfoProto) -> str:
    from onnx import TensorProto

    tensor = value.type.tensor_type
    sizes = [
        d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?")
        for d in tensor.shape.dim
    ]
    return f"{TensorProto.DataType.Name(tensor.elem_type).lower()} [{', '.join(sizes)}]"


def _precision(model: ModelProto) -> str:
    """By the operators that only one has; of the rest the type of most numbers."""
    from onnx import TensorProto

    operators = {node.op_type for node in model.graph.node}
    if operators & INT4:
        return "int4"
    if operators & INT8_ON_THE_FLY:
        return "int8"
    if "QuantizeLinear" in operators or any(name.startswith("QLinear") for name in operators):
        return "int8-static"
    types: Counter[int] = Counter()
    for tensor in model.graph.initializer:
        types[tensor.data_type] += math.prod(tensor.dims)
    most = types.most_common(1)
    return TensorProto.DataType.Name(most[0][0]).lower() if most else "unknown"
