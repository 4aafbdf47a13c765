"""Widths that are the same in every block, and the plain transformers checkpoint that they make."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import network, outputs, saved, tiny

from acn_compress import options
from acn_compress.compression.prune import prune_
from acn_compress.compression.prune.ranking import alike, cheapest, choices
from acn_compress.compression.prune.scores import SCORES
from acn_compress.errors import ConfigError
from acn_compress.network import widths
from acn_compress.surface import checked

FAMILIES = ("bert", "distilbert", "gpt2", "llama", "mistral", "qwen2", "qwen3", "vit", "deit")
HEADLESS = {"bert", "distilbert", "gpt2"}  # a config cannot say fewer heads

# who has never heard of this package; broken torchvisions break transformers as a whole
STRANGER = """
import json, sys
from pathlib import Path
sys.modules["torchvision"] = None
import torch, transformers
from safetensors.torch import load_file, save_file
for place in map(Path, sys.argv[1:]):
    name = json.loads((place / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, name).from_pretrained(place).eval()
    with torch.inference_mode():
        answer = model(**load_file(place / "inputs"))
    save_file({"answer": answer["logits"].contiguous()}, place / "answer")
assert "acn_compress" not in sys.modules
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_every_block_keeps_as_much_and_the_checkpoint_is_plain(family: str, tmp_path: Path) -> None:
    net = tiny(family)
    report = prune_(net, 0.4, uniform=True, refit=False)
    first, *rest = counted = widths.counts(net)
    assert all(block == first for block in rest) and counted != widths.counts(tiny(family))
    if family in HEADLESS:
        assert first["heads"] == 4
    assert 0.3 < report["achieved"] <= 0.4 and "plain transformers loads it" in report["note"]
    directory = saved(net, tmp_path / "out")
    config = json.loads((directory / "config.json").read_text())
    assert config["model_type"] == net.config.model_type.removeprefix("acn_")
    assert "from transformers import" in (directory / "README.md").read_text()
    assert torch.equal(outputs(network(directory)), outputs(net))


@pytest.mark.long
def test_a_process_without_this_package_gives_the_same_answers(tmp_path: Path) -> None:
    nets = {family: tiny(family) for family in ("vit", "llama", "bert", "dinov2")}
    for family, net in nets.items():
        prune_(net, 0.45, uniform=True)
        save_file(net.example_inputs(batch=3, seed=5), saved(net, tmp_path / family) / "inputs")
    places = [str(tmp_path / family) for family in nets]
    subprocess.run([sys.executable, "-c", STRANGER, *places], check=True, cwd=tmp_path)
    for family, net in nets.items():
        answer = load_file(tmp_path / family / "answer")["answer"]
        assert torch.equal(answer, outputs(net, **net.example_inputs(batch=3, seed=5)))


def test_each_block_keeps_its_own_best_units() -> None:
    net, large = tiny("vit"), (slice(32, 64), slice(0, 32), slice(16, 48))
    layers = [block.get_submodule("mlp.fc1") for block in net.blocks]
    for layer, some in zip(layers, large, strict=True):
        layer.weight.data[some] *= 10  # type: ignore[index, operator]
    best = [rows(layer, some) for layer, some in zip(layers, large, strict=True)]
    prune_(net, 0.5, score="magnitude", uniform=True, refit=False)
    for layer, wanted in zip(layers, best, strict=True):
        kept = rows(layer, slice(None))
        assert kept <= wanted or kept > wanted


def test_the_way_to_the_share_is_the_cheapest_of_all() -> None:
    net = tiny("vit")
    scores = SCORES["obs"].units(net, None)
    found = choices(net, scores, per_parameter=True)
    total, ways = sum(c.cost * c.units for c in found), alike(found)
    heads, features = (w.steps for w in ways)
    for share in (0.2, 0.35, 0.5, 0.7):
        drops = cheapest(found, share, ways)
        gone = sum(c.cost * len(d) for c, d in zip(found, drops, strict=True)) / total
        loss = sum(c.cost * c.values[u] for c, d in zip(found, drops, strict=True) for u in d)
        step = features[0].cost / total
        assert share - step < gone <= share
        for h in range(len(heads) + 1):
            for m in range(len(features)):
                cost = sum(s.cost for s in (*heads[:h], *features[:m])) / total
                if share - step < cost <= share:
                    assert loss <= sum(s.loss for s in (*heads[:h], *features[:m])) + 1e-12


def rows(layer: Any, some: slice) -> set[tuple[float, ...]]:
    return {tuple(row) for row in layer.weight[some].tolist()}


@pytest.mark.parametrize(
    ("family", "share", "alpha", "why"),
    [
        ("bert", 0.8, 1.0, "a config of 'bert' cannot say fewer heads"),
        ("vit", 0.5, 0.0, "it is in acn form"),
        ("timmvit", 0.5, 1.0, "a config of 'timm_wrapper' cannot say fewer MLP features"),
    ],
)
def test_what_no_config_can_say_is_uniform_all_the_same_and_told(
    family: str, share: float, alpha: float, why: str, tmp_path: Path
) -> None:
    net = tiny(family, alpha)
    note = prune_(net, share, uniform=True, refit=False)["note"]
    assert f"plain transformers cannot load it: {why}" in note
    first, *rest = widths.counts(net)
    assert all(block == first for block in rest)
    directory = saved(net, tmp_path / "out")
    assert json.loads((directory / "config.json").read_text())["model_type"].startswith("acn_")
    assert torch.equal(outputs(network(directory)), outputs(net))


@pytest.mark.parametrize("family", ["vit", "llama", "dinov2-swiglu", "mixer", "timmvit"])
@pytest.mark.parametrize("how", [{"uniform": True}, {}, {"scope": "layer"}])
def test_features_are_left_in_multiples(family: str, how: dict[str, Any]) -> None:
    net = tiny(family)
    before = widths.counts(net)
    prune_(net, 0.4, round_to=16, refit=False, score="magnitude", **how)
    assert widths.counts(net) != before
    for block, whole in zip(net.blocks, before, strict=True):
        for name, width in net.family.widths(block).items():
            size = min(cut.size for cut in (*width.outputs, *width.inputs))
            assert width.units == whole[name] or width.units * size % 16 == 0


def test_what_differs_from_block_to_block_is_made_alike_first(tmp_path: Path) -> None:
    net = tiny("vit")
    prune_(net, 0.3, score="magnitude", refit=False)
    net = network(saved(net, tmp_path / "free"))
    counted = widths.counts(net)
    assert counted[0] != counted[1] or counted[1] != counted[2]
    with pytest.raises(ConfigError, match=r"to make them alike 0\.\d+ must go\. Choose at least"):
        prune_(net, 0.001, uniform=True)
    prune_(net, 0.6, uniform=True, refit=False)
    first, *rest = widths.counts(net)
    assert all(block == first for block in rest)
    directory = saved(net, tmp_path / "out")
    assert json.loads((directory / "config.json").read_text())["model_type"] == "vit"


def test_a_plain_checkpoint_can_be_cut_freely_again(tmp_path: Path) -> None:
    net = tiny("llama")
    prune_(net, 0.4, uniform=True)
    again = network(saved(net, tmp_path / "plain"))
    prune_(again, 0.3, score="magnitude")
    assert torch.equal(outputs(network(saved(again, tmp_path / "free"))), outputs(again))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"uniform": True, "method": "magnitude"}, "method magnitude removes no widths"),
        ({"round_to": 8, "method": "obs"}, "method obs removes no widths"),
        ({"uniform": True, "scope": "layer"}, "has both uniform and scope layer"),
    ],
)
def test_what_cannot_be_meant_is_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked(options.Prune, {"target_sparsity": 0.5, **how})
