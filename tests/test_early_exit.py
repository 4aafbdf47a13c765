"""Early exit: it leaves where the readouts say, what lies behind does not run, and the ONNX file
does the same."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from test_cli import fails, invoke
from tiny import MODELS, network, outputs, saved, tiny
from torch import Tensor

import acn_compress
from acn_compress.checkpoint import write as output
from acn_compress.checkpoint.find import find_source
from acn_compress.data.load import load_data
from acn_compress.errors import ConfigError, UnsupportedError, VerificationError
from acn_compress.form import LayerKind
from acn_compress.measure.early_exit import (
    EarlyExit,
    entropy,
    exit_flops,
    first_sure,
    measure_exits,
)
from acn_compress.measure.quality import measure
from acn_compress.measure.readouts import readout
from acn_compress.onnx import exit as onnx_exit
from acn_compress.onnx.compare import compare, expected
from acn_compress.onnx.facts import facts_of
from acn_compress.onnx.inputs import inputs_for
from acn_compress.onnx.layout import FILES, onnx_file
from acn_compress.onnx.session import Session
from acn_compress.onnx.trace import Traced
from acn_compress.onnx.write import write_onnx
from acn_compress.quality import NOT_MEASURED

# every family with a classifier: pre- and post-norm, pooled, at the last token, timm's sequence of
# blocks, two heads
CLASSIFIERS = [
    "bert",
    "deit",
    "deit-teacher",
    "deit3",
    "dinov2",
    "distilbert",
    "electra",
    "gpt2-classification",
    "mixer",
    "registers",
    "roberta",
    "timmvit",
    "timmvit-average",
    "vit",
]
FORMS: list[tuple[float, LayerKind]] = [
    (0.0, "block"),
    (0.3, "block"),
    (1.0, "block"),
    (0.3, "branch"),
    (0.0, "plain"),
]
NEVER, AT_ONCE = -1.0, 100.0
cases = pytest.mark.parametrize(
    ("name", "form"), [(n, FORMS[i % len(FORMS)]) for i, n in enumerate(CLASSIFIERS)]
)


def spread(net: Any) -> Any:
    """The model with a head so sharp that the entropies of its depths differ by more than
    rounding."""
    with torch.no_grad():
        for key, parameter in net.model.named_parameters():
            if any(part in key for part in ("classifier", "score", "head", "fc_norm", "out_proj")):
                parameter.mul_(20)
    return net


def readouts(net: Any, inputs: dict[str, Tensor]) -> Tensor:
    """[L, batch, classes], from recorded prefixes."""
    with torch.inference_mode(), net.recording() as prefixes:
        net(**inputs)
        return torch.stack([readout(net, y, inputs).logits for y in prefixes[1:]])


class Count:
    """How often each block ran."""

    def __init__(self, net: Any) -> None:
        blocks = net.blocks
        self.calls = [0] * len(blocks)
        for i, block in enumerate(blocks):
            block.register_forward_hook(
                lambda *_, i=i: self.calls.__setitem__(i, self.calls[i] + 1)
            )

    def taken(self) -> list[int]:
        calls, self.calls[:] = list(self.calls), [0] * len(self.calls)
        return calls


@cases
def test_each_example_leaves_where_its_readouts_say_and_nothing_behind_runs(
    name: str, form: tuple[float, LayerKind]
) -> None:
    net = spread(tiny(name, *form))
    run, count, seen = EarlyExit(net, NEVER), Count(net), set()
    for seed in range(3):
        inputs = inputs_for(net, 1, 9, seed)
        found = readouts(net, inputs)
        entropies = entropy(found)[:, 0].tolist()
        for threshold in (NEVER, AT_ONCE, *(e + 1e-4 for e in entropies[:-1])):
            run.threshold = threshold
            run(inputs)  # compiles the readout
            count.taken()
            result, depth = run(inputs)
            assert depth == next((k for k, e in enumerate(entropies[:-1], 1) if e <= threshold), 3)
            assert count.taken() == [int(i < depth) for i in range(3)]
            torch.testing.assert_close(result.logits, found[depth - 1], rtol=0, atol=1e-6)
            logits, at = first_sure(found, threshold)
            assert at.tolist() == [depth] and torch.equal(logits, found[depth - 1])
            seen.add(depth)
    assert {1, 3} <= seen


@cases
def test_who_never_leaves_gets_the_whole_network_bit_for_bit(
    name: str, form: tuple[float, LayerKind]
) -> None:
    net = tiny(name, *form)
    inputs = inputs_for(net, 3, 9, 0)
    result, depth = EarlyExit(net, NEVER)(inputs)
    assert depth == 3 and torch.equal(result.logits, outputs(net, **inputs))
    result, depth = EarlyExit(net, AT_ONCE)(inputs)
    assert depth == 1 and not torch.equal(result.logits, outputs(net, **inputs))
    assert torch.equal(
        outputs(net, **inputs), outputs(net, **inputs)
    )  # nothing of it is left in the model


def test_a_batch_leaves_when_all_of_it_is_sure() -> None:
    net = spread(tiny("vit", 0.3))
    inputs = net.example_inputs(batch=4)
    least_sure = entropy(readouts(net, inputs)).amax(1).tolist()
    for threshold in (e + 1e-4 for e in least_sure[:2]):
        assert EarlyExit(net, threshold)(inputs)[1] == next(
            k for k, e in enumerate([*least_sure[:2], NEVER], 1) if e <= threshold
        )


def test_a_compiled_readout_is_one_of_its_shapes_not_of_its_values() -> None:
    """GPT-2 reads the last token that is no padding: where that is must not be baked in."""
    net = spread(tiny("gpt2-classification", 0.3))
    run = EarlyExit(net, AT_ONCE)
    for padded in (0, 3, 5):
        inputs = inputs_for(net, 1, 9, padded)
        inputs["input_ids"][:, 9 - padded :] = 0
        inputs["attention_mask"][:, 9 - padded :] = 0
        run.threshold = float(entropy(readouts(net, inputs))[0]) + 1e-4
        assert run(inputs)[1] == 1
        run.threshold -= 2e-4
        assert run(inputs)[1] > 1


def test_entropy_is_in_nats() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1e9, -1e9], [500.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(entropy(logits), torch.tensor([math.log(4), math.log(2), 0.0]))
    assert entropy(logits.half()).dtype == torch.float32


def test_flops_are_those_of_what_runs() -> None:
    net = tiny("bert", 0.3)
    inputs = inputs_for(net, 1, 9, 0)
    cost, full = exit_flops(net, inputs)
    head = 2 * (32 * 32 + 32 * 3)
    block = (full - head) / 3
    assert cost == pytest.approx([block + 2 * head, 2 * block + 3 * head, 3 * block + 3 * head])


def test_evaluate_reports_what_leaving_costs_and_saves(digits_acn: Path) -> None:
    net = network(digits_acn)
    data = load_data("digits", net, find_source(digits_acn), role="eval")
    full = acn_compress.evaluate(digits_acn, "digits")["result"]
    report = acn_compress.evaluate(digits_acn, "digits", exit_entropy=1.0, limit=40).plain()
    found, depths = report["exit"], [row["share"] for row in report["exit"]["depths"]]
    assert sum(depths) == pytest.approx(1) and found["mean_depth"] == pytest.approx(
        np.dot(depths, [1, 2, 3])
    )
    assert 1 < found["mean_depth"] < 3 and found["flops"]["speedup"] == pytest.approx(
        found["flops"]["full"] / found["flops"]["early"]
    )
    assert (
        found["result"]["low"] <= found["result"]["value"] <= found["result"]["high"]
        and found["result"]["examples"] == 40
    )
    assert found["drop"]["drop"] == pytest.approx(
        report["result"]["value"] - found["result"]["value"]
    )
    seconds = found["seconds"]
    assert (
        0 < seconds["low"] <= seconds["speedup"] <= seconds["high"]
        and seconds["examples"] == 40
        and seconds["early"] > 0
    )
    scores, at = measure_exits(net, data, NEVER)
    assert set(at) == {3} and scores.value == full["value"]
    assert np.array_equal(scores.loss, measure(net, data).loss)
    assert set(measure_exits(net, data, AT_ONCE)[1]) == {1}


def test_the_command_prints_it(digits_acn: Path) -> None:
    result = invoke("evaluate", digits_acn, "--data", "digits", "--exit-entropy", 1, "--limit", 10)
    assert result.exit_code == 0 and "early exit at an entropy of at most 1 nats" in result.stdout
    assert "examples that leave at " in result.stdout and "at full depth" in result.stdout


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("mixer", (1.0, "block")),
        pytest.param(
            "bert", (0.3, "branch"), marks=pytest.mark.slow
        ),  # tracing a text model takes its time
        pytest.param("gpt2-classification", (0.0, "block"), marks=pytest.mark.slow),
    ],
)
@pytest.mark.long
def test_the_onnx_file_leaves_where_torch_does(
    name: str, form: tuple[float, LayerKind], tmp_path: Path
) -> None:
    net = spread(tiny(name, *form))
    output.write(net, tmp_path / "m", source=None, step="test", options={}, report={})
    report = acn_compress.export(tmp_path / "m", tmp_path / "onnx", exit_entropy=AT_ONCE)
    assert (
        report["outputs"] == ["logits", "exit_depth"]
        and len(report["exit_depths"]) > 1
        and report["exit_entropy"] == AT_ONCE
    )
    said = " ".join(str(report).replace("\\\n", "").split())  # a long command is broken so
    assert (
        f"next: acn-compress evaluate {tmp_path / 'm'} --data DATA --exit-entropy {AT_ONCE:g}"
        in said
    )
    assert "quality not measured: add --data" in said  # it need not be that of the source
    file = tmp_path / "onnx" / onnx_file()
    assert facts_of(file).metadata["quality"] == NOT_MEASURED
    products = per_level(file)  # what lies behind an exit is in the branch that is not taken
    assert len(products) == 3 and products[0] == products[1] == products[2] > 0
    running = Session(file)
    # the threshold need not be given
    assert [i.name for i in running.inputs] == report["inputs"]
    run = EarlyExit(net, NEVER)
    for batch in (1, 4):
        inputs = inputs_for(net, batch, 9, 40 + batch)
        feeds = {k: v.numpy() for k, v in inputs.items()}
        assert int(running.run(["exit_depth"], feeds)[0]) == 1
        for threshold in (
            NEVER,
            *(float(e) + 1e-3 for e in entropy(readouts(net, inputs)).amax(1)),
        ):
            run.threshold = threshold
            result, depth = run(inputs)
            logits, at = running.run(
                None, feeds | {"exit_entropy": np.asarray(threshold, dtype="float32")}
            )
            assert at.dtype == np.int64 and at.shape == () and int(at) == depth
            np.testing.assert_allclose(logits, result.logits.numpy(), rtol=0, atol=1e-4)


def per_level(file: Path) -> list[int]:
    """Matrix products in the graph of a file, in the branch that is taken when it stays, in that
    branch's own, and so on."""
    graph: Any = onnx.load(str(file)).graph
    found: list[int] = []
    while graph is not None:
        found.append(sum(node.op_type in {"MatMul", "Gemm"} for node in graph.node))
        choices = [
            {a.name: a.g for a in node.attribute} for node in graph.node if node.op_type == "If"
        ]
        assert len(choices) <= 1
        assert all(
            {node.op_type for node in c["then_branch"].node} == {"Identity", "Constant"}
            for c in choices
        )
        graph = choices[0]["else_branch"] if choices else None
    return found


@pytest.mark.long
def test_an_onnx_file_that_leaves_elsewhere_is_refused(tmp_path: Path) -> None:
    """The nesting goes wrong for real here: the first exit says that it is at depth 2."""
    source = saved(spread(tiny("mixer", 0.3)), tmp_path / "m")
    net, file = network(source), tmp_path / FILES[None]
    write_onnx(network(source), file, find_source(source), exit_entropy=0.7)
    cases = expected(traced := Traced(net, exit_entropy=0.7), seed=0)
    assert compare(cases, Session(file).run, traced.outputs, tolerance=1e-4).max_difference <= 1e-4
    model = onnx.load(str(file))
    choice = next(node for node in model.graph.node if node.op_type == "If")
    leave = next(a.g for a in choice.attribute if a.name == "then_branch")
    (depth,) = (node.attribute[0].t for node in leave.node if node.op_type == "Constant")
    depth.CopyFrom(onnx.numpy_helper.from_array(np.asarray(2, dtype="int64")))
    onnx.save(model, str(file))
    with pytest.raises(
        VerificationError,
        match=r"the ONNX model differs from the source: exit_depth at batch 1 by",
    ):
        compare(cases, Session(file).run, traced.outputs, tolerance=1e-4)


@pytest.mark.long
def test_of_a_mismatch_with_early_exit_nothing_is_left(tmp_path: Path) -> None:
    source = saved(spread(tiny("mixer", 0.3)), tmp_path / "m")
    where = "the ONNX model differs from the source: logits at batch 1 by"
    options = ("--exit-entropy", 0.7, "--tolerance", 1e-30)
    fails(where, "export", source, tmp_path / "out", *options)
    assert list(tmp_path.iterdir()) == [source]


def test_what_cannot_leave_early_is_told_why(digits_acn: Path, tmp_path: Path) -> None:
    for name, task in (
        ("bert-tokens", "token-classification"),
        ("gpt2", "causal-lm"),
        ("bert-features", "features"),
    ):
        assert name in MODELS
        source = tmp_path / name
        output.write(tiny(name), source, source=None, step="test", options={}, report={})
        text = "exit_entropy needs a classifier of images or of texts, "
        text += f"but {source} is for {task}. Leave the option out."
        fails(text, "export", source, tmp_path / "out", "--exit-entropy", 0.7)
        fails(text, "evaluate", source, "--data", "digits", "--exit-entropy", 0.7)
    fails(
        "exit_entropy is nan, expected a number of nats",
        "evaluate",
        digits_acn,
        "--data",
        "digits",
        "--exit-entropy",
        "nan",
    )
    for options in ({"format": "safetensors"}, {"quantize": "int8"}):
        with pytest.raises(
            ConfigError, match="exit_entropy only works with format onnx, and not with quantize"
        ):
            acn_compress.export(digits_acn, tmp_path / "out", exit_entropy=0.7, **options)  # type: ignore[arg-type]
    cut = network(digits_acn)
    cut.truncate_(1)
    with pytest.raises(
        UnsupportedError, match="it has 1 blocks: an ONNX file with early exit can have 2 to 30"
    ):
        onnx_exit.check_depth(cut, "it")
    assert not (tmp_path / "out").exists()
