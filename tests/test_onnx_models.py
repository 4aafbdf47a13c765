"""ONNX files as models: evaluated and inspected like any other, whoever made them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
import torch
import transformers as hf
from test_cli import fails

import acn_compress
from acn_compress.onnx.layout import onnx_file
from acn_compress.reports.inspected import InspectedOnnx


@pytest.fixture(scope="module")
def exported(digits_vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "onnx"
    acn_compress.export(digits_vit, out, quantize=("int8", "int4"))
    return out


@pytest.mark.long
def test_an_onnx_directory_is_evaluated_as_what_it_was_made_from(
    exported: Path, digits_vit: Path
) -> None:
    found = acn_compress.evaluate(exported, data="digits", against=digits_vit)
    assert found.other is not None and found.result.value == found.other.value > 0.5
    assert "model.onnx was taken; beside it lie model_q4.onnx" in " ".join(str(found).split())
    small = acn_compress.evaluate(exported / onnx_file("int8"), data="digits", against=exported)
    assert small.result.loss != found.result.loss
    assert small.other == found.result and not small.remarks
    timed = acn_compress.benchmark([exported, exported / onnx_file("int8")], repeats=5)
    assert [told.partition(" was taken")[0] for told in timed.remarks] == [
        f"{exported}: model.onnx"
    ]
    fails("is an ONNX file", "evaluate", exported, "--data", "digits", "--exit-entropy", 0.5)


@pytest.mark.long
def test_a_strangers_file_is_evaluated_with_the_config_that_lies_with_it(
    digits_vit: Path, tmp_path: Path
) -> None:
    """Made by plain torch, without a word of ours in it."""
    plain = hf.AutoModelForImageClassification.from_pretrained(digits_vit).eval()
    pixels = torch.zeros(2, plain.config.num_channels, 8, 8)
    batch = {"pixel_values": {0: torch.export.Dim("n")}}
    file = tmp_path / "theirs.onnx"
    torch.onnx.export(
        plain,
        kwargs={"pixel_values": pixels},
        f=str(file),
        dynamo=True,
        input_names=["pixel_values"],
        output_names=["logits"],
        dynamic_shapes=batch,
        verbose=False,
    )
    bare = ("evaluate", file, "--data", "digits")
    fails("no config.json beside it", *bare)
    fails("no config.json. Expected that of the original", *bare, "--config", tmp_path / "nowhere")
    named = acn_compress.evaluate(file, data="digits", config=digits_vit)
    config = digits_vit / "config.json"
    assert named.result == acn_compress.evaluate(file, data="digits", config=config).result
    plain.config.save_pretrained(tmp_path)
    shutil.copy(digits_vit / "preprocessor_config.json", tmp_path)
    found = acn_compress.evaluate(tmp_path, data="digits")
    assert found.result == named.result
    assert found.result.value == acn_compress.evaluate(digits_vit, data="digits").result.value
    said = acn_compress.inspect(file)
    assert isinstance(said, InspectedOnnx) and said.producer.startswith("pytorch")
    shutil.copy(file, tmp_path / "other.onnx")
    fails("has several ONNX files (other.onnx, theirs.onnx)", "evaluate", tmp_path, "--data", "x")


def test_inspect_says_what_is_in_a_file(exported: Path) -> None:
    said = acn_compress.inspect(exported)
    assert isinstance(said, InspectedOnnx)
    assert (said.precision, said.opsets) == ("float", {"ai.onnx": 20})
    assert said.inputs == {"pixel_values": "float [batch, 3, 8, 8]"}
    assert said.outputs == {"logits": "float [batch, 10]"}
    assert json.loads(said.metadata["id2label"])["3"] == "3"
    int4 = acn_compress.inspect(exported / onnx_file("int4"))
    assert isinstance(int4, InspectedOnnx)
    assert (int4.precision, int4.opsets) == ("int4", {"ai.onnx": 21, "com.microsoft": 1})
    assert int4.bytes == (exported / onnx_file("int4")).stat().st_size < said.bytes
    int8 = acn_compress.inspect(exported / onnx_file("int8"))
    assert isinstance(int8, InspectedOnnx) and int8.precision == "int8"


@pytest.mark.long
def test_a_config_that_is_not_the_files_is_refused(
    exported: Path, digits_vit: Path, tmp_path: Path
) -> None:
    """Whether the file names its classes or not."""
    shutil.copy(digits_vit / "preprocessor_config.json", tmp_path)
    config = json.loads((digits_vit / "config.json").read_text())
    names = [str(n) for n in range(10)]
    for labels, said in (
        (names[::-1], "class 0 is 0, but in"),
        ([*names, "x"], "class 10 is none"),
    ):
        config["id2label"] = dict(enumerate(labels))
        config["label2id"] = {name: n for n, name in enumerate(labels)}
        (tmp_path / "config.json").write_text(json.dumps(config))
        file = exported / onnx_file()
        fails(said, "evaluate", file, "--data", "digits", "--config", tmp_path)
    bare = tmp_path / "bare.onnx"
    model = onnx.load(str(exported / onnx_file()))
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {"id2label": "[no labels"})  # by anybody
    onnx.save(model, str(bare))
    fails(
        "gives 10 classes, but the config that was read has 11",
        "evaluate",
        bare,
        "--data",
        "digits",
    )
