"""ONNX files that people bring: opened, run and timed, or refused in one line, in finite time."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import transformers as hf
from onnx import ModelProto, TensorProto, helper
from test_cli import fails
from tiny import DINO, SHAPE, network, saved, tiny

import acn_compress
from acn_compress.backends.base import Load
from acn_compress.backends.race import race
from acn_compress.checkpoint.find import find_source
from acn_compress.errors import AcnError, CheckpointError, DataError
from acn_compress.network.adopt import adopt
from acn_compress.network.network import Network
from acn_compress.onnx.inputs import inputs_for, picture_size
from acn_compress.onnx.layout import FILES, onnx_file
from acn_compress.onnx.session import Session, reason
from acn_compress.onnx.write import write_onnx

Mutation = Callable[[ModelProto, random.Random], None]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of an ONNX file of a text model."""
    place = tmp_path_factory.mktemp("written")
    source = find_source(saved(tiny("distilbert", 0.3), place / "m"))
    write_onnx(network(place / "m"), place / FILES[None], source)
    return (place / FILES[None]).read_bytes()


def opened(content: bytes, path: Path) -> Session:
    path.write_bytes(content)
    return Session(path)


@pytest.mark.long
def test_a_whole_file_says_what_it_takes_and_gives(written: bytes, tmp_path: Path) -> None:
    running = opened(written, tmp_path / FILES[None])
    assert [i.name for i in running.inputs] == ["input_ids", "attention_mask"]
    assert running.inputs[0].shape == (None, None) and running.outputs == ["logits"]
    assert int(running.metadata["max_length"]) == 40
    feeds = running.feeds(batch=3, length=128)
    assert feeds["input_ids"].shape == (3, 40)  # as long as the model takes
    running.try_out(feeds)
    assert running.run(None, feeds)[0].shape[0] == 3


def test_what_is_no_onnx_file_is_told_in_one_line(tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"not a model", bytes(1000))):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(content)
        fails(f"{path}: ONNX Runtime cannot run this file (", "benchmark", path)


def bytes_changed(written: bytes, rng: random.Random) -> bytes:
    """Cut short, some bytes overwritten, put in or taken out."""
    found = bytearray(written)
    match rng.randrange(4):
        case 0:
            del found[rng.randrange(len(found)) :]
        case 1:
            for _ in range(rng.randrange(1, 20)):
                found[rng.randrange(len(found))] = rng.randrange(256)
        case 2:
            place = rng.randrange(4000)
            found[place:place] = rng.randbytes(rng.randrange(1, 9))
        case 3:
            place = rng.randrange(len(found))
            del found[place : place + rng.randrange(1, 50)]
    return bytes(found)


def a_huge_input(model: ModelProto, rng: random.Random) -> None:
    size = rng.choice([10**9, 10**12, 2**62])
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = size


def another_input_type(model: ModelProto, rng: random.Random) -> None:
    kinds = (TensorProto.STRING, TensorProto.BFLOAT16, TensorProto.BOOL, TensorProto.DOUBLE)
    model.graph.input[0].type.tensor_type.elem_type = rng.choice(kinds)


def a_length_that_is_none(model: ModelProto, rng: random.Random) -> None:
    (length,) = (p for p in model.metadata_props if p.key == "max_length")
    length.value = rng.choice(["x", "-5", "0", "1e99", "9" * 30, ""])


def another_operator(model: ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.node).op_type = rng.choice(["Loop", "Nope", "If", "Expand", "Range"])


def a_node_of_its_own_output(model: ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    node.input[0] = node.output[0]


def another_number(model: ModelProto, rng: random.Random) -> None:
    number = rng.choice([t for t in model.graph.initializer if t.data_type == TensorProto.INT64])
    values = np.array(onnx.numpy_helper.to_array(number))
    values.flat[0] = rng.choice([10**9, 10**15, -7])
    number.CopyFrom(onnx.numpy_helper.from_array(values, number.name))


MEANT: list[Mutation] = [
    a_huge_input,
    another_input_type,
    a_length_that_is_none,
    another_operator,
    a_node_of_its_own_output,
    another_number,
]


@pytest.mark.parametrize("seed", range(100))
def test_a_damaged_file_runs_or_is_refused_in_one_line(
    seed: int, written: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(seed)
    content = bytes_changed(written, rng)
    if seed % 2:
        model = ModelProto.FromString(written)
        MEANT[seed // 2 % len(MEANT)](model, rng)
        content = model.SerializeToString()
    try:
        running = opened(content, tmp_path / FILES[None])
        running.try_out(running.feeds(batch=1, length=16))
    except AcnError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
        assert str(tmp_path / FILES[None]) in str(error)
    assert capfd.readouterr() == ("", "")  # ONNX Runtime itself says nothing


def test_what_does_not_end_is_stopped(tmp_path: Path) -> None:
    """A loop of 2^62 rounds."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Add", ["x", "x"], ["y"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [None]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [None]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["rounds", "true", "given"], ["found"], body=body)],
        "endless",
        [helper.make_tensor_value_info("given", TensorProto.FLOAT, ["batch"])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, [None])],
        [
            helper.make_tensor("rounds", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("true", TensorProto.BOOL, [], [True]),
        ],
    )
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=10), str(tmp_path / FILES[None])
    )
    running = Session(tmp_path / FILES[None])
    running.patience = 0.5
    began = time.monotonic()
    with pytest.raises(CheckpointError, match=r"ONNX Runtime cannot run this file within 0 s|1 s"):
        running.try_out(running.feeds(batch=2, length=4))
    assert time.monotonic() - began < 30


def test_the_reason_of_a_failure_is_its_innermost_first_line() -> None:
    try:
        try:
            raise ValueError("\n  the cause, \nand how it came to be\n")
        except ValueError as error:
            raise RuntimeError("a report\n" * 300) from error
    except RuntimeError as error:
        assert reason(error) == "the cause,"
    assert reason(KeyError()) == "KeyError" and len(reason(OSError("x" * 999))) == 200


def cropped(directory: Path, net: Network, crop: int) -> Path:
    """A model directory whose image processor crops to another size than the config's."""
    saved(net, directory)
    hf.BitImageProcessor(
        size={"shortest_edge": crop + 4}, crop_size={"height": crop, "width": crop}
    ).save_pretrained(directory)
    return directory


@pytest.mark.long
def test_images_have_the_size_that_the_processor_gives(tmp_path: Path) -> None:
    """As DINOv2 on the Hub: its config says 518, its processor crops to 224."""
    config = hf.Dinov2Config(**DINO, image_size=56, patch_size=14, num_labels=2)
    net = adopt(hf.Dinov2ForImageClassification(config).eval())
    source = find_source(cropped(tmp_path / "m", net, 28))
    size = picture_size(net, source)
    assert size == (28, 28) and net.image_size == (56, 56)
    assert inputs_for(net, 2, 0, 0, size)["pixel_values"].shape == (2, 3, 28, 28)
    assert inputs_for(net, 2, 0, 0)["pixel_values"].shape == (2, 3, 56, 56)
    acn_compress.export(tmp_path / "m", tmp_path / "onnx")
    (given,) = Session(tmp_path / "onnx" / onnx_file()).inputs
    assert given.shape == (None, 3, 28, 28)
    whole = race([tmp_path / "m"], ["torch"], Load(), repeats=2, warmup=1).rows[0].flops
    shutil.rmtree(tmp_path / "m")
    saved(net, tmp_path / "m")  # without a processor: the config's size
    larger = race([tmp_path / "m"], ["torch"], Load(), repeats=2, warmup=1).rows[0].flops
    assert whole is not None and larger is not None and larger > 2 * whole


def test_a_processor_that_does_not_fit_the_network_is_told_in_one_line(tmp_path: Path) -> None:
    """A ViT does not interpolate its positions by itself."""
    config = hf.ViTConfig(**SHAPE, image_size=16, patch_size=4, num_labels=2)
    net = adopt(hf.ViTForImageClassification(config).eval())
    source = cropped(tmp_path / "m", net, 32)
    told = "its image processor makes images of 32 x 32, but the model takes 16 x 16"
    with pytest.raises(DataError, match=told):
        picture_size(net, find_source(source))
    fails(told, "export", source, tmp_path / "out")
    fails(told, "benchmark", source)


@pytest.mark.long
def test_images_that_nothing_here_prepares_are_exported_all_the_same(tmp_path: Path) -> None:
    """Of four channels, say."""
    config = hf.ViTConfig(**SHAPE, image_size=8, patch_size=4, num_channels=4, num_labels=2)
    saved(adopt(hf.ViTForImageClassification(config).eval()), tmp_path / "m")
    acn_compress.export(tmp_path / "m", tmp_path / "onnx")
    (given,) = Session(tmp_path / "onnx" / onnx_file()).inputs
    assert given.shape == (None, 4, 8, 8)


def test_texts_have_no_picture_size(tmp_path: Path) -> None:
    net = tiny("distilbert")
    assert picture_size(net, find_source(saved(net, tmp_path / "m"))) is None
