"""Where a checkpoint comes from: a path, a Hub id with or without a network, a model in memory; and
that a model goes through pickle and copy."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import FAMILIES, net_of, network, outputs, plain, saved, tiny

import acn_compress
from acn_compress.checkpoint import hub
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.errors import ConfigError, ModelDirError
from acn_compress.network.adopt import adopt

REFUSED = "http://127.0.0.1:9"  # nobody listens


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A fresh process that may use the network, in the environment of this one."""
    kept = {k: v for k, v in os.environ.items() if k not in {"HF_HUB_OFFLINE", "PYTHONPATH"}}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**kept, "PYTHONPATH": ":".join(sys.path), **environment},
        timeout=100,
    )


def cache(folder: Path, name: str, model: Any, commit: str = "1" * 40) -> Path:
    """A model in a cache as huggingface_hub lays it out, which holds only a part of its files."""
    root = folder / f"models--{name.replace('/', '--')}"
    model.save_pretrained(root / "snapshots" / commit)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    (root / "trees").mkdir()
    files = [*(p.name for p in (root / "snapshots" / commit).iterdir()), "flax_model.msgpack"]
    listing = {f: {"size": 1, "blob_id": "0" * 40} for f in files}
    (root / "trees" / f"{commit}.json").write_text(json.dumps({"files": listing}))
    return root / "snapshots" / commit


# the Hub


@pytest.mark.long
def test_a_mistyped_source_is_answered_at_once_without_a_network(tmp_path: Path) -> None:
    (tmp_path / "no-such-dir").mkdir()
    code = (
        f"import os, sys; os.chdir({str(tmp_path)!r})\n"
        "from acn_compress.cli import main\n"
        "sys.argv[1:] = ['profile', 'nosuchdir', '--data', 'digits']; main()"
    )
    started = time.perf_counter()
    done = run(code, HF_ENDPOINT=REFUSED, HF_HUB_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1 and time.perf_counter() - started < 60
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "nosuchdir: no such directory here" in last and "Did you mean no-such-dir?" in last


def test_the_hub_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def refuse(self: object, name: str, **options: object) -> None:
        asked.append((name, options["revision"]))
        raise huggingface_hub.errors.HTTPError("nobody there\nat all")  # type: ignore[attr-defined]

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cache(tmp_path, "someone/tiny-llama", plain("llama"))
    with pytest.raises(ModelDirError, match=r"HTTPError: nobody there\).*tiny-llama\?$"):
        find_source("someone/tiny-lama@v1")
    assert asked == [("someone/tiny-lama", "v1")]


@pytest.mark.long
def test_a_cached_model_works_without_a_network(tmp_path: Path) -> None:
    cache(tmp_path, "someone/tiny", plain("gpt2"))
    code = "import acn_compress; print(type(acn_compress.load('someone/tiny')).__name__)"
    done = run(code, HF_ENDPOINT=REFUSED, HF_HUB_CACHE=str(tmp_path))
    assert done.stdout.strip() == "AcnGPT2LMHeadModel", done.stderr


def test_only_what_is_read_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    wanted = {
        "README.md",  # for the licence
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "modules.json",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
    }
    others = {
        "pytorch_model.bin",
        "tf_model.h5",
        "tokenizer.py",
        "vocab.pkl",
        "onnx/model.onnx",
        "openvino/model.safetensors",
        "modeling_evil.py",
        "training_args.bin",
    }
    info = SimpleNamespace(siblings=[SimpleNamespace(rfilename=f) for f in wanted | others])
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **kwargs: info)
    seen: dict[str, list[str]] = {}

    def snapshot(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        seen[name] = allow_patterns
        return "/there"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert hub.download("a/b") == Path("/there")
    assert wanted <= set(seen["a/b"]) and not others & set(seen["a/b"])


# models in memory


@pytest.mark.parametrize("name", ["vit", "bert", "gpt2", "llama-tied", "timmvit", "mixer"])
def test_a_transformers_model_in_memory_is_a_source(name: str) -> None:
    model = plain(name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    source = find_source(model)
    net = load_source(source)
    inputs = net.example_inputs()
    with torch.inference_mode():
        expected = net_of(model).answer(**inputs)
    assert torch.equal(outputs(net, **inputs), expected)
    with torch.no_grad():
        for parameter in net.model.parameters():
            parameter.zero_()
    net.truncate_(1)
    after = model.state_dict()
    assert type(model) is type(plain(name)) and before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert net_of(model).depth == 3 and torch.equal(outputs(net_of(model), **inputs), expected)


def test_a_model_that_load_returned_is_a_source_too(tmp_path: Path) -> None:
    directory = saved(tiny("qwen3", 0.3, "branch"), tmp_path / "m")
    model = acn_compress.load(directory)
    source = find_source(model)
    assert source.name == str(directory) and source.directory == directory
    assert source.read("provenance.json") is not None
    net = load_source(source)
    assert net.structure == network(directory).structure
    inputs = net.example_inputs()
    assert torch.equal(outputs(net, **inputs), outputs(network(directory), **inputs))
    net.set_alphas_((0.0,) * 6, "branch")
    assert net_of(model).current_alphas() == pytest.approx([0.3] * 6)


def test_the_hash_of_a_model_in_memory_is_that_of_its_tensors() -> None:
    model = plain("bert")
    first = find_source(model).sha256()
    assert first == find_source(plain("bert")).sha256() != find_source(plain("roberta")).sha256()
    with torch.no_grad():
        next(iter(model.parameters()))[0, 0] += 1
    assert find_source(model).sha256() != first
    assert find_source(model).bytes() == sum(4 * p.numel() for p in model.state_dict().values())


def test_a_model_in_memory_can_get_another_head() -> None:
    net = load_source(
        find_source(plain("bert-masked")), task="text-classification", labels=["a", "b"]
    )
    assert net.config.id2label == {0: "a", 1: "b"} and net.fresh


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="src is a Linear, expected a model directory"):
        find_source(torch.nn.Linear(2, 2))


# pickle and copy


@pytest.mark.parametrize("name", ["vit", "bert", "gpt2", "mixer"])
@pytest.mark.parametrize("alpha", [1.0, 0.3])
@pytest.mark.parametrize("learned", [False, True])
def test_a_loaded_model_goes_through_pickle_and_copy(
    name: str, alpha: float, learned: bool, tmp_path: Path
) -> None:
    net = net_of(acn_compress.load(saved(tiny(name, alpha), tmp_path / "m")))
    net.learn_alphas_(learned)
    for again in (
        pickle.loads(pickle.dumps(net.model)),
        copy.deepcopy(net.model),
        net.twin().model,
    ):
        other = net_of(again)
        assert type(again) is type(net.model) and other.structure == net.structure
        assert torch.equal(outputs(other), outputs(net))
        assert other.current_alphas() == net.current_alphas()
        assert len(other.learned_alphas()) == (3 if learned else 0)


@pytest.mark.long
def test_a_pickled_model_is_read_by_another_process(tmp_path: Path) -> None:
    net = net_of(acn_compress.load(saved(tiny("vit", 0.3), tmp_path / "m")))
    inputs = net.example_inputs()
    file = tmp_path / "model.pickle"
    file.write_bytes(pickle.dumps((net.model, inputs, outputs(net, **inputs))))
    code = (
        f"import pickle; model, inputs, expected = pickle.load(open({str(file)!r}, 'rb'))\n"
        "print(type(model).__name__, bool((model(**inputs).logits == expected).all()))"
    )
    assert run(code).stdout.strip() == "AcnViTForImageClassification True"


def test_every_family_pickles() -> None:
    for name in sorted(FAMILIES):
        net = tiny(name, 0.3)
        outputs(net)
        net = pickle.loads(pickle.dumps(net))  # with what transformers left on it
        again = pickle.loads(pickle.dumps(net.model))
        for model in (again, pickle.loads(pickle.dumps(copy.deepcopy(again)))):
            assert torch.equal(outputs(net_of(model)), outputs(net)), name


@pytest.mark.parametrize("name", ["vit", "bert", "llama"])
def test_a_step_takes_a_model_in_memory(name: str, tmp_path: Path) -> None:
    model = plain(name)
    report = acn_compress.truncate(model, tmp_path / "out", depth=2)
    assert report["source"] == type(model).__name__ and report["depth"] == 2
    cut = adopt(copy.deepcopy(model))
    cut.truncate_(2)
    inputs = cut.example_inputs()
    assert torch.equal(outputs(network(tmp_path / "out"), **inputs), outputs(cut, **inputs))
    assert net_of(model).depth == 3
