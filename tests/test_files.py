"""The files people have: shards, loose and legacy files, wrappers, the Hub's cache, half precision,
tied weights."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from test_cli import fails
from tiny import answer, network, outputs, plain, tiny

from acn_compress import inspect, truncate
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint import save
from acn_compress.checkpoint import write as output
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.write import Written
from acn_compress.errors import CheckpointError, ModelDirError
from acn_compress.network.network import Network
from acn_compress.onnx.write import write_onnx

CAUSAL = ["gpt2", "llama", "llama-tied", "mistral", "qwen2", "qwen3"]
TIED = ["gpt2", "llama-tied", "qwen2"]


def same(net: Network, expected: Any) -> None:
    """The network and a transformers model hold the same tensors and say the same."""
    assert net.model.state_dict().keys() == expected.state_dict().keys()
    for key, value in expected.state_dict().items():
        assert torch.equal(net.model.state_dict()[key], value), key
    inputs = net.example_inputs(batch=3)
    assert torch.equal(outputs(net, **inputs), answer(expected, **inputs))


def bare(name: str, directory: Path) -> tuple[Any, Path]:
    """A plain model, and a directory with its config only."""
    model = plain(name)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(directory)
    return model, directory


# shards


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2", "vit"])
def test_a_sharded_directory_is_one_model(name: str, tmp_path: Path) -> None:
    model = plain(name)
    model.save_pretrained(tmp_path / "m", max_shard_size="20KB")
    shards = sorted((tmp_path / "m").glob("model-*.safetensors"))
    assert len(shards) > 2 and find_source(tmp_path / "m").bytes() == sum(
        p.stat().st_size for p in shards
    )
    same(network(tmp_path / "m"), model)
    assert inspect(tmp_path / "m")["parameters"] == sum(p.numel() for p in model.parameters())
    report = truncate(tmp_path / "m", tmp_path / "out", depth=2)
    assert report["depth"] == 2 and len(network(tmp_path / "out").blocks) == 2
    shards[1].unlink()
    fails(
        f"lists {len(shards)} shards, missing: {shards[1].name}",
        "truncate",
        tmp_path / "m",
        tmp_path / "o2",
        "--depth",
        1,
    )


def test_sharded_legacy_files_are_one_model(tmp_path: Path) -> None:
    model, directory = bare("llama", tmp_path)
    state = list(model.state_dict().items())
    parts = {
        "pytorch_model-00001-of-00002.bin": dict(state[:9]),
        "pytorch_model-00002-of-00002.bin": dict(state[9:]),
    }
    for file, part in parts.items():
        torch.save(part, directory / file)
    index = {"metadata": {}, "weight_map": {k: file for file, part in parts.items() for k in part}}
    (directory / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    same(network(directory), model)


def test_large_models_are_written_in_shards_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(save, "SHARD", "20KB")
    net = tiny("qwen2", 0.3)
    output.write(net, tmp_path / "m", source=None, step="test", options={}, report={})
    assert len(list((tmp_path / "m").glob("model-*.safetensors"))) > 2
    same(network(tmp_path / "m"), net.model)


# loose files

WRAPPERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": 0.5},
    "module of DataParallel": lambda state: {f"module.{k}": v for k, v in state.items()},
    "compiled in DataParallel": lambda state: {
        "state_dict": {f"module._orig_mod.{k}": v for k, v in state.items()}
    },
    "DataParallel, compiled": lambda state: {
        "model": {f"_orig_mod.module.{k}": v for k, v in state.items()}
    },
    "parameters": lambda state: {k: torch.nn.Parameter(v) for k, v in state.items()},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", ["gpt2", "llama-tied"])
def test_a_legacy_file_is_read_under_any_common_wrapper(
    name: str, wrapper: str, tmp_path: Path
) -> None:
    model, directory = bare(name, tmp_path / "config")
    torch.save(WRAPPERS[wrapper](model.state_dict()), tmp_path / "old.pth")
    same(network(tmp_path / "old.pth", config=directory), model)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_single_safetensors_file_is_read_with_its_config(name: str, tmp_path: Path) -> None:
    model, directory = bare(name, tmp_path / "config")
    state = {
        k: v.contiguous()
        for k, v in model.state_dict().items()
        if not (name in TIED and k.startswith("lm_head"))
    }
    save_file(state, tmp_path / "weights.safetensors")
    for config in (directory, directory / "config.json"):
        same(network(tmp_path / "weights.safetensors", config=config), model)


def test_the_weight_file_of_a_compressed_directory_is_the_compressed_model(tmp_path: Path) -> None:
    net = tiny("qwen3", 0.3, "branch")
    output.write(net, tmp_path / "m", source=None, step="test", options={}, report={})
    again = network(tmp_path / "m" / "model.safetensors")
    assert again.structure == net.structure
    same(again, net.model)


def test_a_file_from_before_zip_archives_is_read(tmp_path: Path) -> None:
    model, directory = bare("gpt2", tmp_path / "config")
    torch.save(model.state_dict(), tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    same(network(tmp_path / "old.bin", config=directory), model)


def test_the_hubs_own_gpt2_layout_is_read(tmp_path: Path) -> None:
    """Names without `transformer.`, no head, and the causal masks that old versions saved as
    weights."""
    model, directory = bare("gpt2", tmp_path)
    state = dict(model.transformer.state_dict())
    for i in range(3):
        state[f"h.{i}.attn.bias"] = torch.ones(64, 64).tril()[None, None]
        state[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    torch.save(state, directory / "pytorch_model.bin")
    same(network(directory), model)
    state["h.0.attn.extra"] = torch.ones(1)
    torch.save(state, directory / "pytorch_model.bin")
    with pytest.raises(
        CheckpointError, match=r"1 tensors have no place in the model: .*h\.0\.attn\.extra"
    ):
        network(directory)


def test_old_rotary_tables_are_passed_over(tmp_path: Path) -> None:
    model, directory = bare("llama", tmp_path)
    tables = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(3)}
    torch.save(dict(model.state_dict()) | tables, directory / "pytorch_model.bin")
    same(network(directory), model)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (lambda state: state | {"step": np.float64(3)}, "this pickle needs code to load"),
        (lambda state: {"state_dict": {}}, "found no state dict"),
        (lambda state: {"weights": state}, "found no state dict"),
        (lambda state: list(state.values()), "found no state dict"),
        (lambda state: torch.nn.Linear(2, 2), "this pickle needs code to load"),
    ],
)
def test_a_file_that_is_no_state_dict_is_refused(
    content: Callable[[Any], Any], text: str, tmp_path: Path
) -> None:
    model, directory = bare("llama", tmp_path / "config")
    torch.save(content(dict(model.state_dict())), tmp_path / "odd.pth")
    fails(
        text,
        "truncate",
        tmp_path / "odd.pth",
        tmp_path / "out",
        "--depth",
        1,
        "--config",
        directory,
    )
    assert not (tmp_path / "out").exists()


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    _, directory = bare("llama", tmp_path / "config")
    other, _ = bare("gpt2", tmp_path / "other")
    torch.save(other.state_dict(), tmp_path / "gpt2.pth")
    fails(
        "tensors the model needs, but the file lacks",
        "truncate",
        tmp_path / "gpt2.pth",
        tmp_path / "o",
        "--depth",
        1,
        "--config",
        directory,
    )


# the Hub's cache


def hub(cache: Path, name: str, commits: dict[str, Any], refs: dict[str, str]) -> None:
    """A cache as huggingface_hub lays it out, with a model per commit."""
    folder = cache / f"models--{name.replace('/', '--')}"
    for commit, model in commits.items():
        model.save_pretrained(folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    for ref, commit in refs.items():
        (folder / "refs" / ref).write_text(commit)


def test_a_hub_id_is_read_from_the_offline_cache_at_the_revision_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    first, second = plain("llama"), plain("llama-tied")
    one, two = "1" * 40, "2" * 40
    hub(tmp_path, "someone/tiny", {one: first, two: second}, {"main": two, "v1": one})
    same(network("someone/tiny"), second)
    same(network("someone/tiny", revision="v1"), first)
    for at in ("v1", one):
        same(network(f"someone/tiny@{at}"), first)
    report = truncate("someone/tiny@v1", tmp_path / "out", depth=1)
    assert report["source"] == "someone/tiny@v1"
    for wrong in ("someone/tiny@v2", "someone/other"):
        with pytest.raises(
            ModelDirError,
            match=f"{wrong.partition('@')[0]}.*as a Hugging Face Hub id it cannot be had either",
        ):
            find_source(wrong)


@pytest.mark.long
def test_the_environment_says_where_the_cache_is(tmp_path: Path) -> None:
    hub(tmp_path, "someone/tiny", {"1" * 40: plain("gpt2")}, {"main": "1" * 40})
    code = "import acn_compress; print(type(acn_compress.load('someone/tiny')).__name__)"
    environment = {
        "HF_HUB_CACHE": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
        "PATH": "",
        "PYTHONPATH": ":".join(sys.path),
        "HF_TOKEN": "wrong",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip() == "AcnGPT2LMHeadModel", done.stderr


# half precision and tied weights


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("loose", [True, False])
def test_half_precision_is_kept_from_any_file(
    dtype: torch.dtype, stated: bool, loose: bool, tmp_path: Path
) -> None:
    model = plain("llama").to(dtype)
    model.save_pretrained(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    if not stated:
        del config["dtype"]
        (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    if loose:
        torch.save(model.state_dict(), tmp_path / "m" / "pytorch_model.bin")
        (tmp_path / "m" / "model.safetensors").unlink()
    again = network(tmp_path / "m")
    assert {p.dtype for p in again.model.parameters()} == {dtype}
    same(again, type(model).from_pretrained(tmp_path / "m", dtype=dtype).eval())
    truncate(tmp_path / "m", tmp_path / "out", depth=2)
    assert {p.dtype for p in network(tmp_path / "out").model.parameters()} == {dtype}
    assert inspect(tmp_path / "out")["dtype"] == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("name", TIED)
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_tied_weights_are_counted_and_stored_once(name: str, alpha: float, tmp_path: Path) -> None:
    net = tiny(name, alpha)
    embedding, head = net.model.get_input_embeddings().weight, net.model.lm_head.weight
    assert embedding is head
    report: Written = output.write(
        net, tmp_path / "m", source=None, step="test", options={}, report={}
    )
    once = sum(p.numel() for p in {id(p): p for p in net.model.parameters()}.values())
    assert report["parameters"] == once == inspect(tmp_path / "m")["parameters"]
    header = int.from_bytes((tmp_path / "m" / "model.safetensors").read_bytes()[:8], "little") + 8
    assert report["bytes"] == 4 * once + header
    again = network(tmp_path / "m")
    assert again.model.get_input_embeddings().weight is again.model.lm_head.weight
    same(again, net.model)


@pytest.mark.parametrize("name", TIED)
@pytest.mark.long
def test_tied_weights_are_stored_once_in_onnx(name: str, tmp_path: Path) -> None:
    net = tiny(name, 0.3)
    net.keep_((0,))
    net.model.resize_token_embeddings(
        1000
    )  # the exporter folds the transpose of a matrix as small as the tiny models' into a copy
    output.write(net, tmp_path / "m", source=None, step="test", options={}, report={})
    source, once = find_source(tmp_path / "m"), net.parameters
    written = write_onnx(checkpoint.load_source(source), tmp_path / "model.onnx", source)
    stored = onnx.load(str(tmp_path / "model.onnx")).graph.initializer
    assert (
        written["parameters"] == once <= sum(math.prod(t.dims) for t in stored) < once + 1000 * 32
    )


def test_a_head_that_is_not_tied_stays_so(tmp_path: Path) -> None:
    net = tiny("llama", 0.3)
    output.write(net, tmp_path / "m", source=None, step="test", options={}, report={})
    again = network(tmp_path / "m")
    assert again.model.get_input_embeddings().weight is not again.model.lm_head.weight
    same(again, net.model)
