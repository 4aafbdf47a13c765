"""Early exit inside an ONNX file: nested `If` nodes, so that ONNX Runtime does not run what lies
behind the exit.

The model is traced flat, with the readout of every depth and whether it is sure as outputs. What a
depth needs beyond the depths before it is then a set of nodes, found by walking back from its
readout, and goes into the else-branch of the depth before. Branches see the values of the graphs
around them, so nothing needs to be passed in, whatever the architecture.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from acn_compress.errors import UnsupportedError
from acn_compress.measure.early_exit import EarlyExit, entropy
from acn_compress.measure.readouts import readout
from acn_compress.network.network import Network

if TYPE_CHECKING:
    from onnxscript import ir

INPUT = "exit_entropy"  # the threshold, an input with a default
OUTPUTS = ["logits", "exit_depth"]
DEEPEST = 30  # protobuf reads 100 levels of nesting, and an exit takes three
MARGIN = 1e-4  # nats; where an entropy is closer to the threshold, rounding may decide


def check_depth(net: Network, name: str) -> None:
    """Refuse what cannot be nested.

    Raises:
        UnsupportedError: in one line.
    """
    if not 2 <= (depth := net.depth) <= DEEPEST:
        raise UnsupportedError(
            f"{name} has {depth} blocks: an ONNX file with early exit can have 2 to {DEEPEST}. "
            "Leave exit_entropy out."
        )


def flat_outputs(depth: int) -> list[str]:
    """Names of what `flat` gives for a model of so many blocks."""
    return [f"{name}_{k}" for k in range(1, depth) for name in ("logits", "sure")] + [
        f"logits_{depth}"
    ]


def flat(net: Network, inputs: dict[str, Any], threshold: Tensor) -> tuple[Tensor, ...]:
    """logits_1, sure_1 (a bool: the whole batch is), ..., logits_L, without any control flow."""
    found = []
    with net.recording() as prefixes:
        last = net(**inputs).logits
    for y in prefixes[1:-1]:
        logits = readout(net, y, inputs).logits
        found += [logits, (entropy(logits) <= threshold).all()]
    return (*found, last)


def nest_(graph: ir.Graph, threshold: float) -> None:
    """Turn the graph of `flat`, whose last input is the threshold, into one that stops: outputs
    `OUTPUTS`, the threshold with a default."""
    from onnxscript import ir

    logits, sure = list(graph.outputs)[0::2], list(graph.outputs)[1::2]
    parts = _parts(graph, logits, sure)
    graph.outputs.clear()
    for part in parts:
        graph.remove(part)
    nodes = _answer(logits[-1], len(logits))
    found = [node.outputs[0] for node in nodes]
    nodes = [*parts[-1], *nodes]
    for k in range(len(sure), 0, -1):
        left = _answer(logits[k - 1], k)
        branches = {
            "then_branch": ir.Graph(
                [], [node.outputs[0] for node in left], nodes=left, name=f"leave_{k}"
            ),
            "else_branch": ir.Graph(
                [],
                found,
                nodes=nodes,
                initializers=_take_weights(graph, parts[k]),
                name=f"after_{k}",
            ),
        }
        choice = ir.node("If", [sure[k - 1]], attributes=branches, num_outputs=2)
        for value, name, like in zip(choice.outputs, OUTPUTS, found, strict=True):
            value.name, value.type, value.shape = (
                name if k == 1 else f"{name}_after_{k - 1}",
                like.type,
                like.shape,
            )
        nodes, found = [*parts[k - 1], choice], list(choice.outputs)
    graph.extend(nodes)
    graph.outputs.extend(found)
    given = graph.inputs[-1]
    assert given.name == INPUT
    given.const_value = ir.tensor(np.asarray(threshold, dtype="float32"), name=INPUT)
    graph.initializers[INPUT] = given


def _parts(graph: ir.Graph, logits: list[ir.Value], sure: list[ir.Value]) -> list[list[ir.Node]]:
    """The nodes that depth 1, 2, ..., L needs and no depth before it, each in the graph's order."""
    place = {node: i for i, node in enumerate(graph)}
    seen: set[ir.Node] = set()
    parts = []
    for k, value in enumerate(logits):
        part, todo = set(), [value, *sure[k : k + 1]]
        while todo:
            node = todo.pop().producer()
            if node is not None and node not in seen:
                seen.add(node)
                part.add(node)
                todo += [v for v in node.inputs if v is not None]
        parts.append(sorted(part, key=lambda node: place[node]))
    return parts


def _take_weights(graph: ir.Graph, part: list[ir.Node]) -> list[ir.Value]:
    """Take the weights that only `part` uses out of the graph: ONNX Runtime hands what lies outside
    a branch to it one by one, every time."""
    own = set(part)
    names = {
        v.name
        for node in part
        for v in node.inputs
        if v is not None and v.is_initializer() and {n for n, _ in v.uses()} <= own
    }
    return [graph.initializers.pop(str(name)) for name in sorted(map(str, names))]


def _answer(logits: ir.Value, depth: int) -> list[ir.Node]:
    """What a branch returns: its logits, and the depth they were read at. A branch must make its
    own outputs, hence the identity."""
    from onnxscript import ir

    same = ir.node("Identity", [logits])
    number = ir.node(
        "Constant", [], attributes={"value": ir.tensor(np.asarray(depth, dtype="int64"))}
    )
    for node, name, type_, shape in (
        (same, "logits", logits.type, logits.shape),
        (number, "exit_depth", ir.TensorType(ir.DataType.INT64), ir.Shape([])),
    ):
        value = node.outputs[0]
        value.name, value.type, value.shape = f"{name}_at_{depth}", type_, shape
    return [same, number]


def expected(
    net: Network, inputs: dict[str, Tensor], threshold: float
) -> Iterator[tuple[float, list[Any]]]:
    """Torch's answers (`OUTPUTS`), really stopping, at the threshold and at one for every other
    depth at which these inputs can leave."""
    depth = net.depth
    with torch.inference_mode():
        sure_at = flat(net, inputs, torch.tensor(0.0))[0::2][: depth - 1]
        values = [float(entropy(logits).max()) for logits in sure_at]
    lowest = sorted(
        set(np.minimum.accumulate(values))
    )  # only a depth that is surer than all before it can be an exit
    edges = [lowest[0] - 1, *lowest, lowest[-1] + 1]
    run = EarlyExit(net, threshold)
    for t in (threshold, *((a + b) / 2 for a, b in itertools.pairwise(edges))):
        if all(abs(t - v) > MARGIN for v in values):
            run.threshold = t
            output, at = run(inputs)
            yield t, [output.logits.numpy(), np.asarray(at, dtype="int64")]
