"""Export: the ONNX file is what torch computes, or there is no file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers as hf
from brought import dense, encoder, texts
from packaging import version
from test_cli import fails
from tiny import network, saved, tiny

import acn_compress
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.licence import licence
from acn_compress.checkpoint.provenance import history
from acn_compress.errors import ConfigError, UnsupportedError, VerificationError
from acn_compress.found import Found
from acn_compress.network.sentence import POOLS
from acn_compress.onnx.compare import compare, expected
from acn_compress.onnx.join import join
from acn_compress.onnx.layout import FILES, find_onnx, onnx_file
from acn_compress.onnx.metadata import described
from acn_compress.onnx.operators import kept_operators
from acn_compress.onnx.session import Session
from acn_compress.onnx.trace import Traced
from acn_compress.onnx.write import check_size, write_onnx
from acn_compress.options import Export, Format
from acn_compress.quality import NOT_MEASURED, told
from acn_compress.targets import TARGETS


@pytest.fixture(scope="module")
def exported(digits_acn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Found]:
    out = tmp_path_factory.mktemp("exports") / "onnx"
    return out, acn_compress.export(digits_acn, out)


@pytest.mark.long
def test_the_file_computes_what_torch_does_at_sizes_it_was_not_traced_with(
    exported: tuple[Path, Found], digits_acn: Path
) -> None:
    net = network(digits_acn)
    session = onnxruntime.InferenceSession(str(exported[0] / onnx_file()))
    for batch in (1, 4, 9):
        inputs = net.example_inputs(batch=batch, seed=batch)
        with torch.inference_mode():
            expected = net(**inputs).logits.numpy()
        (found,) = session.run(["logits"], {"pixel_values": inputs["pixel_values"].numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.long
def test_names_sizes_and_metadata_tell_what_it_is(
    exported: tuple[Path, Found], digits_acn: Path
) -> None:
    out, report = exported
    model = onnx.load(str(out / onnx_file()))
    (given,), (gives,) = model.graph.input, model.graph.output
    assert (given.name, gives.name) == ("pixel_values", "logits")
    shape = given.type.tensor_type.shape
    assert shape.dim[0].dim_param == "batch" and shape.dim[2].dim_value == 8
    metadata = {p.key: p.value for p in model.metadata_props}
    assert json.loads(metadata["acn_structure"])["form"] == "acn"
    assert json.loads(metadata["id2label"])["3"] == "3"
    assert metadata["source_weights_sha256"] == find_source(digits_acn).sha256()
    assert model.producer_name == "acn-compress" and model.producer_version
    assert metadata["model_type"] == "vit" and metadata["task"] == "image-classification"
    assert [step["step"] for step in json.loads(metadata["provenance"])] == ["finetune", "convert"]
    assert metadata["quality"] == told(history(find_source(digits_acn)).quality) != NOT_MEASURED
    assert f"| quality | {metadata['quality']} |" in (out / "README.md").read_text()
    images, stored = json.loads(metadata["preprocessor"]), processor(out)
    assert images == {name: stored[name] for name in images}
    assert {p.name for p in out.iterdir()} >= {
        "onnx",
        "config.json",
        "preprocessor_config.json",
        "report.json",
        "README.md",
    }
    assert report["bytes"] == (out / "onnx" / "model.onnx").stat().st_size
    assert report["compared"] == ["batch 1", "batch 2", "batch 3", "batch 5"]
    assert find_onnx(out) == find_onnx(str(out / onnx_file())) == out / "onnx" / "model.onnx"
    assert find_onnx(digits_acn) is None


def processor(directory: Path) -> dict[str, object]:
    stored: dict[str, object] = json.loads((directory / "preprocessor_config.json").read_text())
    return stored


def test_a_graph_needs_no_class_of_ours(exported: tuple[Path, Found], digits_acn: Path) -> None:
    """So its config says nothing of one, though plain transformers must refuse its source."""
    assert json.loads((digits_acn / "config.json").read_text())["model_type"] == "acn_vit"
    config = json.loads((exported[0] / "config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("vit", ["ViTForImageClassification"])
    assert "acn" not in config and config["id2label"]["3"] == "3"


def test_an_onnx_file_is_found_in_directories_old_and_new_but_not_beside_weights(
    exported: tuple[Path, Found], digits_acn: Path, tmp_path: Path
) -> None:
    old, checkpoint = tmp_path / "old", tmp_path / "checkpoint"
    old.mkdir()
    shutil.copy(exported[0] / onnx_file(), old)
    assert find_onnx(old) == old / "model.onnx"
    shutil.copytree(digits_acn, checkpoint)
    shutil.copytree(exported[0] / "onnx", checkpoint / "onnx")
    assert find_onnx(checkpoint) is None
    assert find_onnx(checkpoint / onnx_file()) is not None


@pytest.mark.parametrize(
    ("card", "named"),
    [
        ("---\nlicense: mit\n---\n# A\n", "mit"),
        ("---\ntags: [a]\nlicense: 'apache-2.0' \n---\n", "apache-2.0"),
        ("---\ntags: [a]\n---\nlicense: mit\n", None),
        ("license: mit\n", None),
        ("---\nlicense: [mit]\n", None),
        (None, None),
    ],
)
def test_the_licence_of_the_source_goes_with_what_is_made_of_it(
    card: str | None, named: str | None, tmp_path: Path
) -> None:
    source, copy = saved(tiny("mixer"), tmp_path / "m"), tmp_path / "copy"
    (source / "README.md").unlink()
    if card is not None:
        (source / "README.md").write_text(card)
    acn_compress.export(source, copy, format="safetensors")
    assert licence(find_source(source)) == licence(find_source(copy)) == named
    found = described(network(copy), find_source(copy), None)
    assert found.get("license") == named


@pytest.mark.long
def test_weights_too_large_for_the_graph_lie_beside_it_by_the_name_that_others_look_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acn_compress.onnx.write.LIMIT", 0)
    source, out = saved(tiny("mixer"), tmp_path / "m"), tmp_path / "whole"
    report = acn_compress.export(source, out)
    files = {p.name: p.stat().st_size for p in (out / "onnx").iterdir()}
    assert set(files) == {"model.onnx", "model.onnx_data"}
    assert report["bytes"] == sum(files.values())
    config = json.loads((out / "config.json").read_text())
    assert config["transformers.js_config"] == {"use_external_data_format": {"model.onnx": 1}}
    if version.parse(onnxruntime.__version__) < version.parse("1.32"):
        with pytest.raises(UnsupportedError, match="cannot make int8 of this network"):
            acn_compress.export(source, tmp_path / "int8", quantize=("int8",))
        return
    acn_compress.export(source, tmp_path / "int8", quantize=("int8",))
    assert {p.name for p in (tmp_path / "int8" / "onnx").iterdir()} >= {*files}


def test_a_file_put_together_weight_by_weight_is_the_one_that_onnx_reads(tmp_path: Path) -> None:
    """Weights in the graph and beside it, lengths of one to three bytes of protobuf."""
    arrays = {f"w{n}": np.arange(n, dtype="float32") for n in (0, 1, 30, 100, 40_000, 3_000_000)}
    arrays["half"] = np.ones((5, 70), dtype="float16")
    inputs = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n"])]
    node = onnx.helper.make_node("Add", ["x", "w1"], ["y"])
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n"])]
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    made = onnx.helper.make_graph([node], "g", inputs, outputs, weights)
    apart, whole = tmp_path / "apart.onnx", tmp_path / "whole.onnx"
    model = onnx.helper.make_model(made, producer_name="we")
    onnx.save(model, apart, save_as_external_data=True, location="data", size_threshold=256)
    join(apart, tmp_path / "data", whole)
    ours, theirs = onnx.load(whole), onnx.load(apart)
    for tensor in theirs.graph.initializer:
        tensor.ClearField("data_location")
    assert ours == theirs
    found = {t.name: onnx.numpy_helper.to_array(t) for t in ours.graph.initializer}
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    assert onnxruntime.InferenceSession(str(whole)).run(None, {"x": np.zeros(1, "float32")})


@pytest.mark.long
def test_a_sentence_encoders_graph_also_gives_its_embedding(tmp_path: Path) -> None:
    """Every pooling at once, and what follows it; the reference is written out here."""
    source, out = tmp_path / "m", tmp_path / "onnx"
    encoder(source, {f"pooling_mode_{name}": True for name in POOLS}, "Dense", "Normalize")
    weight, bias = torch.randn(5, 6 * 16), torch.randn(5)
    dense(source / "2_Dense", weight, bias)
    report = acn_compress.export(source, out)
    assert report["outputs"] == ["last_hidden_state", "pooler_output", "sentence_embedding"]
    session = onnxruntime.InferenceSession(str(out / onnx_file()))
    plain = hf.AutoModel.from_pretrained(source).eval()
    encode = hf.AutoTokenizer.from_pretrained(out)
    given = encode(texts(7), padding=True, return_tensors="pt", return_token_type_ids=True)
    (found,) = session.run(["sentence_embedding"], {k: v.numpy() for k, v in given.items()})
    with torch.inference_mode():
        hidden = plain(**given).last_hidden_state
    for row, states, mask in zip(found, hidden, given["attention_mask"], strict=True):
        h = states[mask == 1]
        steps = torch.arange(1.0, len(h) + 1)[:, None]
        pooled = [h[0], h.amax(0), h.mean(0), h.sum(0) / len(h) ** 0.5]
        pooled += [(h * steps).sum(0) / steps.sum(), h[-1]]
        expected = torch.tanh(weight @ torch.cat(pooled) + bias)
        np.testing.assert_allclose(row, expected / expected.norm(), rtol=0, atol=1e-5)


@pytest.mark.long
def test_an_embedding_that_cannot_be_computed_is_not_given(tmp_path: Path) -> None:
    source = encoder(tmp_path / "m", {"pooling_mode_mean_tokens": True}, "LSTM")
    report = acn_compress.export(source, tmp_path / "onnx")
    assert report["outputs"] == ["last_hidden_state", "pooler_output"]
    assert report["note"] == "No sentence_embedding: modules.json names a LSTM."


def test_a_pooling_that_leaves_out_the_prompt_is_not_taken_for_one_that_does_not(
    tmp_path: Path,
) -> None:
    flags = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    source = encoder(tmp_path / "m", flags)
    assert (head := network(source).sentence) is not None and head.unknown is None
    prompts = {"prompts": {"q": "w1 "}, "default_prompt_name": "q"}
    (source / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    assert (head := network(source).sentence) is not None
    assert head.unknown == "Pooling that leaves out the prompt"


def test_a_file_that_computes_something_else_is_refused(
    exported: tuple[Path, Found], digits_acn: Path, tmp_path: Path
) -> None:
    """The exporter goes wrong for real here: one weight of the written graph is changed before it
    is compared."""
    file = shutil.copyfile(exported[0] / onnx_file(), tmp_path / FILES[None])
    cases = expected(traced := Traced(network(digits_acn)), seed=0)
    assert compare(cases, Session(file).run, traced.outputs, tolerance=1e-4).agreement == 1
    model = onnx.load(str(file))
    weight = next(t for t in model.graph.initializer if len(t.dims) == 2)
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0] += 1
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, str(file))
    told = "the ONNX model differs from the source: logits at batch 1 by .*Nothing was written"
    with pytest.raises(VerificationError, match=told):
        compare(cases, Session(file).run, traced.outputs, tolerance=1e-4)


@pytest.mark.long
def test_of_a_file_that_computes_something_else_nothing_is_left_behind(tmp_path: Path) -> None:
    """No two libraries compute the same to the last bit of 1e-30."""
    source = saved(tiny("vit", 0.3), tmp_path / "m")
    told = "the ONNX model differs from the source: logits at batch 1 by"
    fails(told, "export", source, tmp_path / "out", "--tolerance", 1e-30)
    assert list(tmp_path.iterdir()) == [source]


def test_a_file_that_holds_its_weights_twice_is_refused() -> None:
    check_size(10_400_000, 10_000_000)
    with pytest.raises(
        VerificationError,
        match="has 25,000,000 bytes, but the parameters only 10,000,000: something is stored twice",
    ):
        check_size(25_000_000, 10_000_000)


@pytest.mark.parametrize("opset", [18, 23])
@pytest.mark.long
def test_the_file_has_the_opset_that_was_asked_for(opset: int, tmp_path: Path) -> None:
    source = find_source(saved(tiny("mixer"), tmp_path / "m"))
    report = write_onnx(network(tmp_path / "m"), tmp_path / FILES[None], source, opset=opset)
    (stored,) = onnx.load(str(tmp_path / FILES[None])).opset_import
    assert report.opset == stored.version == opset


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"opset": 3}, "opset is 3, expected 18 to 24"),
        ({"opset": 99}, "opset is 99, expected 18 to 24"),
        ({"tolerance": -1.0}, "tolerance is -1, expected a difference that may be"),
        ({"tolerance": float("nan")}, "tolerance is nan, expected a difference that may be"),
    ],
)
def test_what_no_file_can_have_is_not_blamed_on_the_model(
    options: dict[str, float], told: str, tmp_path: Path
) -> None:
    source = find_source(saved(tiny("mixer"), tmp_path / "m"))
    with pytest.raises(ConfigError, match=told):
        write_onnx(network(tmp_path / "m"), tmp_path / FILES[None], source, **options)  # type: ignore[arg-type]
    assert find_onnx(tmp_path) is None


@pytest.mark.long
def test_a_network_that_the_exporter_cannot_write_is_told_in_one_line(tmp_path: Path) -> None:
    source = find_source(saved(tiny("vit"), tmp_path / "m"))
    net = network(tmp_path / "m")

    def depends_on_data(module: object, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output if output.sum() > 0 else -output

    net.model.vit.layernorm.register_forward_hook(depends_on_data)
    told = r"torch's ONNX exporter cannot write this network at opset 20 \("
    with pytest.raises(UnsupportedError, match=told) as error:
        write_onnx(net, tmp_path / FILES[None], source)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_safetensors_is_the_compact_model_directory(digits_acn: Path, tmp_path: Path) -> None:
    report = acn_compress.export(digits_acn, tmp_path / "out", format="safetensors", data="digits")
    assert "not looked at" in str(report)  # the data
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        digits_acn / "model.safetensors"
    ).read_bytes()
    assert report["format"] == "safetensors"
    assert (tmp_path / "out" / "preprocessor_config.json").is_file()


def test_every_target_says_what_it_takes_and_how_it_is_verified() -> None:
    assert set(TARGETS) == set(get_args(Format))
    for target in TARGETS.values():
        assert target.writes and target.verified.endswith(".")
        assert set(target.takes) <= set(Export.model_fields)


def test_options_that_cannot_be_meant(digits_acn: Path, tmp_path: Path) -> None:
    *others, last = map(repr, get_args(Format))
    for options, text in (
        ({"format": "tflite"}, f"format is 'tflite', expected: {', '.join(others)} or {last}"),
        ({"quantize": "int3"}, "quantize.0 is 'int3', expected: 'fp16', 'int8', .* or 'int4'"),
        ({"opset": 3}, "opset is 3, expected: greater than or equal to 18"),
        ({"opset": 99}, "opset is 99, expected: less than or equal to 24"),
        ({"tolerance": -1}, "tolerance is -1, expected: greater than 0"),
        ({"format": "safetensors", "quantize": "int8"}, "quantize only works with format onnx"),
        ({"format": "safetensors", "opset": 21}, "opset only works with format onnx"),
    ):
        with pytest.raises(ConfigError, match=text):
            acn_compress.export(digits_acn, tmp_path / "out", **options)
    with pytest.raises(ConfigError, match=r"names a file\. Name a directory"):
        acn_compress.export(digits_acn, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_the_exporters_table_is_made_once_inside_and_torchs_own_outside() -> None:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    own = vars(ONNXRegistry)["from_torchlib"]
    with kept_operators():
        first = ONNXRegistry.from_torchlib(opset_version=20)
    with pytest.raises(RuntimeError, match="stop"), kept_operators():
        assert ONNXRegistry().from_torchlib(opset_version=20) is first
        raise RuntimeError("stop")
    assert vars(ONNXRegistry)["from_torchlib"] is own
