"""inspect tells what a checkpoint is from config and headers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import network, saved, tiny

from acn_compress import inspect, prune
from acn_compress.checkpoint import write as output
from acn_compress.checkpoint.files import write_json
from acn_compress.checkpoint.find import find_source
from acn_compress.compression.prune import prune_
from acn_compress.errors import CheckpointError, ModelDirError


def numel(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def vit(**options: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=8,
        patch_size=4,
        num_channels=1,
        **options,
    )
    return transformers.ViTForImageClassification(config).eval()


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    model = vit(id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1})
    model.save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


def test_a_plain_checkpoint_is_described(plain: Path) -> None:
    report = inspect(plain)
    net = network(plain)
    expected = {
        "step": "inspect",
        "source": str(plain),
        "family": "vit",
        "supported": True,
        "remark": None,
        "why": None,
        "class": "ViTForImageClassification",
        "task": "image-classification",
        "form": "residual",
        "layer": "block",
        "alpha": [1.0] * 3,
        "blocks": [0, 1, 2],
        "source_blocks": 3,
        "sparsity": 0.0,
        "widths": [{"heads": 4, "mlp": 64}] * 3,
        "full_widths": {"heads": 4, "mlp": 64},
        "dtype": "float32",
        "labels": ["cat", "dog"],
        "input": {"modality": "image", "channels": 1, "height": 8, "width": 8},
        "history": [],
        "again": None,
        "profile": None,
        "parameters": net.parameters,
        "bytes": (plain / "model.safetensors").stat().st_size,
    }
    found = report.plain()
    assert {k: found[k] for k in expected} == expected
    assert found.keys() - expected.keys() == {"parts"}
    json.dumps(found)


def test_the_parts_add_up(plain: Path) -> None:
    report, model = inspect(plain), network(plain).model
    assert report["parts"] == {
        "embeddings": numel(model.vit.embeddings),
        "blocks": numel(model.vit.layers),
        "head": numel(model.vit.layernorm) + numel(model.classifier),
    }
    assert sum(report["parts"].values()) == report["parameters"]


def test_structure_and_history_of_a_compressed_model_are_told(plain: Path, tmp_path: Path) -> None:
    prune(plain, tmp_path / "a", target_sparsity=0.5)
    prune(tmp_path / "a", tmp_path / "b", target_sparsity=0.25, method="magnitude")
    net = network(tmp_path / "b")
    net.truncate_(2)
    structure = net.structure
    net.set_structure_(structure.with_alpha((0.0, 0.0)))
    output.write(
        net,
        tmp_path / "c",
        source=find_source(tmp_path / "b"),
        step="test",
        options={},
        report={},
        seed=3,
    )
    report = inspect(tmp_path / "c")
    assert (report["family"], report["form"], report["blocks"], report["source_blocks"]) == (
        "vit",
        "acn",
        (0, 1),
        3,
    )
    assert (
        report["widths"] == network(tmp_path / "c").structure.widths != (report["full_widths"],) * 2
    )
    assert report["full_widths"] == {"heads": 4, "mlp": 64}
    assert report["sparsity"] > 0.2
    assert report["parameters"] == network(tmp_path / "c").parameters
    assert [(s["step"], s["source"]["name"], s["seed"]) for s in report["history"]] == [
        ("prune", plain.name, None),  # the place is nobody's business
        ("prune", "a", None),
        ("test", "b", 3),
    ]


def test_weights_are_not_loaded(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("acn_compress.checkpoint.weights.read", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    assert inspect(plain)["parameters"] > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_is_the_files_not_the_configs(dtype: torch.dtype, plain: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = plain / "model.safetensors"
    save_file({k: v.to(dtype) for k, v in load_file(file).items()}, file)
    assert inspect(plain)["dtype"] == str(dtype).removeprefix("torch.")


def test_a_loose_weight_file_is_described_with_its_config(plain: Path, tmp_path: Path) -> None:
    loose = tmp_path / "weights.bin"
    torch.save(network(plain).model.state_dict(), loose)
    report = inspect(loose, config=plain)
    assert (report["class"], report["bytes"], report["dtype"]) == (
        "ViTForImageClassification",
        loose.stat().st_size,
        "float32",
    )
    with pytest.raises(CheckpointError, match="Pass --config"):
        inspect(loose)


def test_a_model_without_a_head_has_no_task_and_no_labels(tmp_path: Path) -> None:
    transformers.ViTModel(vit().config).save_pretrained(tmp_path / "features")
    report = inspect(tmp_path / "features")
    assert (report["class"], report["task"], report["labels"]) == ("ViTModel", None, ())


def test_a_profile_is_told_apart_from_one_of_other_weights(plain: Path) -> None:
    profile = plain / "profile.json"
    write_json(profile, {"weights_sha256": find_source(plain).sha256()})
    assert inspect(plain).plain()["profile"] == {"matches": True}
    write_json(profile, {"weights_sha256": "0" * 64})
    assert inspect(plain).plain()["profile"] == {"matches": False}


def test_an_unsupported_family_says_why(tmp_path: Path) -> None:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], num_labels=2
    )
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "resnet")
    report = inspect(tmp_path / "resnet")
    assert (report["family"], report["supported"], report["dtype"]) == ("resnet", False, "float32")
    assert (
        "is of type 'resnet', which acn-compress has no adapter for: "
        "it has stages of different width" in report["why"]
    )
    assert report["bytes"] == (tmp_path / "resnet" / "model.safetensors").stat().st_size


def test_what_is_no_checkpoint_is_an_error(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelDirError, match="no such file or directory"):
        inspect(tmp_path / "nothing" / "here" / "at-all")
    file = plain / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        inspect(plain)
    (plain / "config.json").write_text("{}")
    with pytest.raises(CheckpointError):
        inspect(plain)


def test_magnitude_pruning_alone_shows_as_sparsity(plain: Path, tmp_path: Path) -> None:
    net = network(plain)
    prune_(net, 0.5, "magnitude")
    output.write(net, tmp_path / "out", source=None, step="test", options={}, report={})
    assert inspect(tmp_path / "out")["sparsity"] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(
    ("field", "value"), [("num_hidden_layers", 1), ("hidden_size", 16), ("image_size", 16)]
)
def test_a_file_that_is_not_its_configs_is_told_in_the_words_of_who_refuses_it(
    field: str, value: int, plain: Path
) -> None:
    assert inspect(plain)["remark"] is None
    config = json.loads((plain / "config.json").read_text())
    assert config[field] != value
    (plain / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(CheckpointError) as refused:
        network(plain)
    assert inspect(plain)["remark"] == str(refused.value)


@pytest.mark.parametrize("family", ["vit", "bert", "llama", "gpt2", "clip"])
def test_weights_that_fit_have_no_remark(family: str, tmp_path: Path) -> None:
    assert inspect(saved(tiny(family, 0.3), tmp_path / "m"))["remark"] is None


def test_a_pointer_of_git_lfs_is_named_as_such(plain: Path) -> None:
    (plain / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    )
    for read in (inspect, network):
        with pytest.raises(CheckpointError, match=r"Git-LFS pointer.*git lfs pull"):
            read(plain)
