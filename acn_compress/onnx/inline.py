"""Weights that lie beside a graph, brought into its file one at a time. Whoever makes one message
of a graph and its weights holds them twice, beside the network that they came from."""

from __future__ import annotations

import os
from pathlib import Path

from onnx import TensorProto
from onnx import load as load_graph
from onnx.external_data_helper import (
    ExternalDataInfo,
    load_external_data_for_model,
    uses_external_data,
)

# numbers of fields in ONNX's messages: ModelProto.graph, GraphProto.initializer, TensorProto's data
GRAPH, WEIGHT, DATA = 7, 5, 9


def inline(path: Path, beside: Path) -> None:
    """Bring the weights in `beside` into the file of their graph; `beside` is gone afterwards.

    The fields of a message may be written in any order, so the weights come last, as protobuf
    writes them.
    """
    model = load_graph(str(path), load_external_data=False)
    weights = [TensorProto.FromString(w.SerializeToString()) for w in model.graph.initializer]
    del model.graph.initializer[:]
    load_external_data_for_model(model, str(path.parent))  # of graphs within the graph
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    parts = [_apart(weight) for weight in weights]
    whole = len(graph) + sum(len(part) + length for part, _, length in parts)
    aside = path.with_name(f"{path.name}.inline")
    beside.touch()  # where all weights are so small that they stay in the graph
    with aside.open("wb") as file, beside.open("rb") as data:
        file.write(model.SerializeToString() + _head(GRAPH, whole) + graph)
        for part, offset, length in parts:
            file.write(part)
            data.seek(offset)
            file.write(data.read(length))
    os.replace(aside, path)
    beside.unlink()


def _apart(weight: TensorProto) -> tuple[bytes, int, int]:
    """Of a weight: all that stands in front of its data, and where those lie, and how many bytes
    they are; 0 where the weight has them itself."""
    offset = length = 0
    if uses_external_data(weight):
        info = ExternalDataInfo(weight)
        offset, length = info.offset or 0, info.length or 0
        weight.ClearField("external_data")
        weight.ClearField("data_location")
    said = weight.SerializeToString() + (_head(DATA, length) if length else b"")
    return _head(WEIGHT, len(said) + length) + said, offset, length


def _head(field: int, size: int) -> bytes:
    """What stands in front of bytes within a message: their field, and their number as a varint."""
    found = bytearray([field << 3 | 2])
    while size > 127:
        found.append(size & 127 | 128)
        size >>= 7
    return bytes([*found, size])
