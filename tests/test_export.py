"""Export: the ONNX file is what torch computes, or there is no file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny import network
from typer.testing import CliRunner

from acn_compress.checkpoint.directory import find_source
from acn_compress.cli.app import app
from acn_compress.errors import ConfigError, VerificationError
from acn_compress.onnx import write as onnx_model
from acn_compress.steps.export import export


@pytest.fixture(scope="module")
def exported(
    digits_acn: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("exports") / "onnx"
    return out, export(digits_acn, out)


def test_the_file_computes_what_torch_does_at_sizes_it_was_not_traced_with(
    exported: tuple[Path, Any], digits_acn: Path
) -> None:
    net = network(digits_acn)
    session = onnxruntime.InferenceSession(str(exported[0] / "model.onnx"))
    for batch in (1, 4, 9):
        inputs = net.example_inputs(batch=batch, seed=batch)
        with torch.inference_mode():
            expected = net(**inputs).logits.numpy()
        (found,) = session.run(["logits"], {"pixel_values": inputs["pixel_values"].numpy()})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_names_sizes_and_metadata_tell_what_it_is(
    exported: tuple[Path, dict[str, Any]], digits_acn: Path
) -> None:
    out, report = exported
    model = onnx.load(str(out / "model.onnx"))
    (given,), (gives,) = model.graph.input, model.graph.output
    assert (given.name, gives.name) == ("pixel_values", "logits")
    assert (
        given.type.tensor_type.shape.dim[0].dim_param == "batch"
        and given.type.tensor_type.shape.dim[2].dim_value == 8
    )
    metadata = {p.key: p.value for p in model.metadata_props}
    assert (
        json.loads(metadata["acn_structure"])["form"] == "acn"
        and json.loads(metadata["id2label"])["3"] == "3"
    )
    assert metadata["source_weights_sha256"] == find_source(digits_acn).sha256()
    assert {p.name for p in out.iterdir()} >= {
        "model.onnx",
        "config.json",
        "preprocessor_config.json",
        "report.json",
        "README.md",
    }
    assert report["bytes"] == (out / "model.onnx").stat().st_size and report["compared"] == [
        "batch 1",
        "batch 2",
        "batch 3",
        "batch 5",
    ]


def test_a_file_that_computes_something_else_is_not_left_behind(
    digits_acn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter goes wrong for real here: one weight of the written graph is changed before it
    is compared."""
    trace = onnx_model._trace

    def wrong(wrapped: Any, path: Path, *arguments: Any, **keywords: Any) -> int:
        nodes = trace(wrapped, path, *arguments, **keywords)
        model = onnx.load(str(path))
        weight = next(t for t in model.graph.initializer if len(t.dims) == 2)
        values = onnx.numpy_helper.to_array(weight).copy()
        values[0] += 1
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        onnx.save(model, str(path))
        return nodes

    monkeypatch.setattr(onnx_model, "_trace", wrong)
    result = CliRunner().invoke(app, ["export", str(digits_acn), str(tmp_path / "out")])
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert (
        "the ONNX model differs from the source: logits at batch 1 by" in result.stderr
        and "Nothing was written" in result.stderr
    )
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_holds_its_weights_twice_is_refused() -> None:
    onnx_model.check_size(10_400_000, 10_000_000)
    with pytest.raises(
        VerificationError,
        match=r"the ONNX file has 25,000,000 bytes, but the parameters only 10,000,000: something is",
    ):
        onnx_model.check_size(25_000_000, 10_000_000)


def test_int8_is_smaller_and_judged_by_its_cosine(
    exported: tuple[Path, Any], digits_acn: Path, tmp_path: Path
) -> None:
    report = export(digits_acn, tmp_path / "int8", quantize="int8")
    assert (
        report["quantized"] == "int8" and report["cosine"] >= 0.98 and 0 <= report["agreement"] <= 1
    )
    assert report["bytes"] < exported[1]["bytes"]


def test_safetensors_is_the_compact_model_directory(digits_acn: Path, tmp_path: Path) -> None:
    report = export(digits_acn, tmp_path / "out", format="safetensors")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        digits_acn / "model.safetensors"
    ).read_bytes()
    assert (
        report["format"] == "safetensors"
        and (tmp_path / "out" / "preprocessor_config.json").is_file()
    )


def test_options_that_cannot_be_meant(digits_acn: Path, tmp_path: Path) -> None:
    for options, text in (
        ({"format": "tflite"}, "format 'tflite' is not known. Expected onnx or safetensors"),
        ({"quantize": "int4"}, "quantize 'int4' is not known. Expected int8"),
        ({"format": "safetensors", "quantize": "int8"}, "quantize only works with format onnx"),
    ):
        with pytest.raises(ConfigError, match=text):
            export(digits_acn, tmp_path / "out", **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"names a file\. Name a directory"):
        export(digits_acn, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
