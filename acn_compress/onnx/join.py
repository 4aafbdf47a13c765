"""One ONNX file of a graph and the weights that lie beside it, put together weight by weight:
`onnx.save` holds them twice, as a message and as its bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto


def join(graph: Path, weights: Path, file: Path) -> None:
    """Write `file`, the same message as `graph` with the weights of its outermost graph in it.

    Args:
        graph: as `ir.save` writes it, its large weights in `weights`; inner graphs have none.
        file: of less than 2 GiB, as no reader takes more.
    """
    import onnx

    model = onnx.load(str(graph), load_external_data=False)
    tensors = list(model.graph.initializer)
    places = [_place(t) for t in tensors]
    heads = [_head(t, length) for t, (_, length) in zip(tensors, places, strict=True)]
    model.graph.ClearField("initializer")
    rest = model.graph.SerializeToString()
    size = len(rest) + sum(map(len, heads)) + sum(length for _, length in places)
    opening = _opening(model, "graph", size)
    model.ClearField("graph")
    with file.open("wb") as out, weights.open("rb") as read:
        out.write(model.SerializeToString() + opening + rest)
        for head, (place, length) in zip(heads, places, strict=True):
            read.seek(place)
            out.write(head + read.read(length))


def _place(tensor: TensorProto) -> tuple[int, int]:
    """Where a weight lies beside the graph: its first byte and its bytes; none if in the graph."""
    said = {e.key: e.value for e in tensor.external_data}
    return int(said.get("offset", 0)), int(said.get("length", 0))


def _head(tensor: TensorProto, length: int) -> bytes:
    """All that stands in a graph before the bytes of a weight."""
    import onnx

    head = onnx.TensorProto()
    head.CopyFrom(tensor)
    head.ClearField("external_data")
    head.ClearField("data_location")
    said: bytes = head.SerializeToString() + (_opening(head, "raw_data", length) if length else b"")
    return _opening(onnx.GraphProto(), "initializer", len(said) + length) + said


def _opening(message: ModelProto | GraphProto | TensorProto, field: str, size: int) -> bytes:
    """What stands before the `size` bytes of a field, in protobuf's wire format."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    return _varint(number << 3 | 2) + _varint(size)


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
