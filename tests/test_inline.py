"""Weights beside a graph, brought into its file: it is the model that it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from acn_compress.onnx.inline import inline


def made(name: str, rows: int) -> TensorProto:
    rng = np.random.default_rng(rows)
    return numpy_helper.from_array(rng.random((rows, 3), dtype=np.float32), name)


def model() -> onnx.ModelProto:
    """A sum, of weights of several sizes; one lies in a graph within the graph."""
    said = helper.make_tensor_value_info
    branch = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["out"])],
        "branch",
        [],
        [said("out", TensorProto.FLOAT, ["n", 3])],
        [made("inner", 40)],
    )
    nodes = [
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Identity", ["large"], ["z"]),
        helper.make_node("Identity", ["small"], ["s"]),
    ]
    outputs = [said(name, TensorProto.FLOAT, ["n", 3]) for name in "yzs"]
    weights = [made("small", 1), made("large", 3000)]
    given = [said("yes", TensorProto.BOOL, [])]
    graph = helper.make_graph(nodes, "g", given, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_the_file_is_what_protobuf_writes(tmp_path: Path) -> None:
    whole, file = model(), tmp_path / "m.onnx"
    onnx.save(model(), file, save_as_external_data=True, location="m.onnx_data", size_threshold=100)
    beside = tmp_path / "m.onnx_data"
    assert beside.stat().st_size > 36000
    inline(file, beside)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    onnx.checker.check_model(str(file))
    found = onnx.load(file)
    assert file.stat().st_size == found.ByteSize()
    branches = [a.g for a in found.graph.node[0].attribute]
    for graph in (found.graph, *branches):
        for weight in graph.initializer:
            weight.ClearField("data_location")  # said or not, it is in the file
    assert found == whole
