"""Laws of zeros that the other weights make up for, and of N:M patterns, for every family."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_prune import TRAINED, zeros
from tiny import KINDS, network, outputs, saved, tiny
from torch import Tensor, nn

from acn_compress import prune
from acn_compress.compression.prune import Aim, obs, prune_
from acn_compress.compression.prune.compensated import Surgeon, zero_
from acn_compress.compression.prune.obs import zero_all_
from acn_compress.compression.prune.shares import of_number
from acn_compress.compression.stream import Moments
from acn_compress.errors import ConfigError, VerificationError
from acn_compress.network.network import Network
from acn_compress.network.widths import by_inputs
from acn_compress.network.zeros import layers, matrices

ROWS = 4


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obs, "ROWS", ROWS)


def masks(net: Network) -> dict[str, Tensor]:
    return {name: weight == 0 for name, weight in matrices(net).items()}


# which and how many


@pytest.mark.parametrize(
    ("family", "scope"), [*((name, "layer") for name in KINDS), ("bert", "global")]
)
def test_the_share_is_exact_and_only_the_layers_of_the_blocks_change(
    family: str, scope: Any
) -> None:
    net = tiny(family)
    before = {name: value.clone() for name, value in net.model.state_dict().items()}
    own = {id(p) for layer in layers(net).values() for p in layer.parameters()}
    report = prune_(net, 0.437, "obs", scope)
    total = sum(w.numel() for w in matrices(net).values())
    assert report["achieved"] == net.structure.sparsity == zeros(net) / total
    if scope == "layer":
        assert all(int((w == 0).sum()) == round(0.437 * w.numel()) for w in matrices(net).values())
    else:
        assert zeros(net) == report["zeros"] == round(0.437 * total)
    for name, value in net.model.named_parameters():
        assert id(value) in own or torch.equal(value, before[name])


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("method", ["magnitude", "obs"])
def test_a_pattern_holds_in_every_group_of_every_matrix(family: str, method: Any) -> None:
    net = tiny(family)
    assert prune_(net, method=method, pattern="2:4")["achieved"] == 0.5
    for layer in layers(net).values():
        groups = by_inputs(layer).T.reshape(-1, 4)  # four weights of one output
        assert torch.equal((groups == 0).sum(1), torch.full((len(groups),), 2))


@pytest.mark.parametrize("method", ["magnitude", "obs"])
def test_a_pattern_of_eight_is_not_one_of_four(method: Any) -> None:
    net = tiny("gpt2")
    prune_(net, 0.5, method=method, pattern="4:8")
    weights = torch.cat([by_inputs(layer).T.reshape(-1, 8) for layer in layers(net).values()])
    assert torch.equal((weights == 0).sum(1), torch.full((len(weights),), 4))
    assert not torch.all((weights[:, :4] == 0).sum(1) == 2)


def test_magnitude_by_pattern_keeps_the_largest_as_they_are() -> None:
    net = tiny("vit")
    before = net.copy()
    prune_(net, method="magnitude", pattern="2:4")
    for old, new in zip(matrices(before).values(), matrices(net).values(), strict=True):
        largest = old.reshape(-1, 4).abs().sort(1).values[:, 2:]
        assert torch.equal(new.reshape(-1, 4).abs().sort(1).values[:, 2:], largest)


def surgeon(x: np.ndarray[Any, Any], x_0: np.ndarray[Any, Any], bias: bool) -> Surgeon:
    one = np.ones((len(x), 1))
    x, x_0 = np.hstack([x, one]), np.hstack([x_0, one])
    return Surgeon.of(Moments(torch.tensor(x.T @ x), torch.tensor(x.T @ (x_0 - x))), bias)


def test_orthogonal_inputs_give_the_choice_of_magnitude_and_change_nothing_else() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(64, 20, bias=False), np.linalg.qr(np.random.randn(200, 64))[0]
    before = layer.weight.detach().clone()
    zero_(layer, surgeon(x, x, bias=False), of_number(layer, 700))
    order = before.T.flatten().abs().argsort()
    assert set((layer.weight.T.flatten() == 0).nonzero().flatten().tolist()) == set(
        order[:700].tolist()
    )
    kept = layer.weight != 0
    torch.testing.assert_close(layer.weight[kept], before[kept])


@pytest.mark.parametrize("bias", [True, False])
def test_wide_layers_have_the_share_in_every_stretch_of_their_inputs(bias: bool) -> None:
    torch.manual_seed(0)
    rng, layer = np.random.default_rng(0), nn.Linear(300, 7, bias=bias)
    x = rng.normal(size=(400, 300)) @ rng.normal(size=(300, 300))
    with torch.no_grad():
        layer.weight[:, 100:200] = 0  # a third is zero already and stays so
    zero_(layer, surgeon(x, x, bias), of_number(layer, 1401))
    assert int((layer.weight == 0).sum()) == 1401 and bool((layer.weight[:, 100:200] == 0).all())
    assert abs(int((layer.weight[:, :100] == 0).sum()) - 350) < 60  # every 128 inputs, not 100


# what is left makes up for them


def error(x: Tensor, layer: nn.Module, weight: Tensor, bias: Tensor | None, goal: Tensor) -> float:
    """Of what a layer puts out, in numpy alone."""
    found = x.double().numpy() @ weight.detach().double().numpy()
    found = found if bias is None else found + bias.detach().double().numpy()
    return float(np.square(found - goal.double().numpy()).sum())


def through(net: Network, batch: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """What goes in and out of every layer, rows by features."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def see(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[name] = inputs[0].flatten(0, -2), output.flatten(0, -2)

        return hook

    hooks = [layer.register_forward_hook(see(name)) for name, layer in layers(net).items()]
    outputs(net, **batch)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("family", KINDS)
def test_no_layer_strays_farther_from_the_unpruned_network_than_without_compensation(
    family: str,
) -> None:
    net = tiny(family, 0.4)
    whole, batch = net.copy(), net.example_inputs(batch=24)
    zero_all_(net, Aim(0.5, "layer"), [batch])
    now, was, before = through(net, batch), through(whole, batch), layers(whole)
    for name, layer in layers(net).items():
        x, goal, old = now[name][0], was[name][1], before[name]
        masked = by_inputs(old).masked_fill(by_inputs(layer) == 0, 0.0)
        left = error(x, layer, by_inputs(layer), layer.bias, goal)
        assert left < error(x, layer, masked, old.bias, goal), name


@pytest.mark.parametrize("family", KINDS)
def test_how_rows_lie_in_batches_and_padding_change_nothing(family: str) -> None:
    net = tiny(family)
    whole = net.example_inputs(batch=12)
    single = [{name: value[i : i + 1] for name, value in whole.items()} for i in range(12)]
    if net.modality == "text":
        lengths = [12 - i % 5 for i in range(12)]
        for i, length in enumerate(lengths):
            whole["attention_mask"][i, length:] = 0
            single[i] = {name: value[:, :length] for name, value in single[i].items()}
    other = net.copy()
    zero_all_(net, Aim(0.5, "layer"), [whole])
    zero_all_(other, Aim(0.5, "layer"), single)
    same = [
        float((a == b).float().mean())
        for a, b in zip(*map(dict.values, map(masks, (net, other))), strict=True)
    ]
    assert min(same) > 0.99


def test_every_block_runs_equally_often(monkeypatch: pytest.MonkeyPatch) -> None:
    net, ran = tiny("llama"), [0, 0, 0]
    for k, block in enumerate(net.blocks):

        def count(module: nn.Module, inputs: object, k: int = k) -> None:
            ran[k] += 1

        block.register_forward_pre_hook(count)
    prune_(net, 0.5, "obs", "layer")
    assert len(set(ran)) == 1 and ran[0] > 0


# zeros there are, kinds of numbers, what cannot be done


def test_zeros_that_are_there_stay_and_count() -> None:
    net = tiny("vit")
    prune_(net, 0.3, "magnitude")
    first = masks(net)
    report = prune_(net, 0.6, "obs", "global")
    assert report["zeros"] == zeros(net) == round(0.6 * report["weights"])
    assert all(bool(now[first[name]].all()) for name, now in masks(net).items())
    assert "pruned before" in report["note"]
    with pytest.raises(
        ConfigError, match=r"target_sparsity is 0\.2, but 0\.\d+ of .* are zeros already"
    ):
        prune_(net, 0.2, "obs")
    prune_(net, method="obs", pattern="2:4")
    assert all(bool(((m.view(-1, 4)).sum(1) >= 2).all()) for m in masks(net).values())


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_share_of_zero_changes_nothing(scope: Any) -> None:
    net = tiny("gpt2")
    before, structure = copy.deepcopy(net.model.state_dict()), net.structure
    assert prune_(net, 0.0, "obs", scope)["achieved"] == 0
    assert net.structure == structure
    assert all(torch.equal(v, before[k]) for k, v in net.model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_exactly_as_many_zeros(dtype: torch.dtype) -> None:
    net = tiny("llama")
    net.model.to(dtype)
    report = prune_(net, 0.5, "obs")
    assert report["zeros"] == zeros(net) == round(0.5 * report["weights"]) and net.dtype == dtype


def test_the_random_inputs_follow_from_the_seed() -> None:
    a, b, c = tiny("bert"), tiny("bert"), tiny("bert")
    for net, seed in ((a, 1), (b, 1), (c, 2)):
        report = prune_(net, 0.5, "obs", seed=seed)
    assert torch.equal(outputs(a), outputs(b)) and not torch.equal(outputs(a), outputs(c))
    assert f"on {ROWS} random inputs" in report["note"]


def test_weights_that_are_no_numbers_are_an_error() -> None:
    net = tiny("vit")
    list(matrices(net).values())[-1].data[0, 0] = float("nan")
    with pytest.raises(VerificationError, match="Are there NaN weights in the source"):
        prune_(net, 0.5, "obs")


def test_a_width_that_does_not_divide_is_refused_before_anything_changes() -> None:
    net = tiny("mixer")  # four tokens
    before = outputs(net)
    for method in ("obs", "magnitude"):
        with pytest.raises(
            ConfigError,
            match=r"pattern is 4:8, but layer 0\.mlp_tokens\.fc1 has 4 inputs, .* divided by 8",
        ):
            prune_(net, method=method, pattern="4:8")
    assert torch.equal(outputs(net), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs target_sparsity, or a pattern"),
        ({"pattern": "2:4"}, "has pattern 2:4, which method structured does not make"),
        ({"pattern": "2:4", "method": "movement"}, "which method movement does not make"),
        (
            {"pattern": "2:4", "method": "obs", "target_sparsity": 0.7},
            r"has target_sparsity 0\.7, but pattern 2:4 makes 0\.5\. Leave one of them out",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_in_one_line(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as found:
        prune(tmp_path / "nothing there", tmp_path / "out", **options)
    assert "\n" not in str(found.value)
    with pytest.raises(ConfigError, match=message):
        prune_(tiny("vit"), **options)


# from the disk and back


@pytest.mark.parametrize("family", ["gpt2", "mixer"])
def test_pruned_saved_and_loaded_is_bit_equal(family: str, tmp_path: Path) -> None:
    source = saved(tiny(family, 0.4), tmp_path / "source")
    report = prune(source, tmp_path / "out", method="obs", pattern="2:4")
    expected, loaded = network(source), network(tmp_path / "out")
    prune_(expected, 0.5, "obs", pattern="2:4")
    assert loaded.structure == expected.structure and report["target"] == 0.5
    for key, value in expected.model.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[key])


def test_training_back_keeps_the_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obs, "ROWS", 64)
    source = saved(tiny("vit", 0.0), tmp_path / "source")
    how: dict[str, Any] = {"method": "obs", "pattern": "2:4"}
    only = {key: TRAINED[key] for key in ("data", "limit")}
    prune(source, tmp_path / "pruned", **how, **only)
    report = prune(source, tmp_path / "out", **how, **TRAINED)
    pruned, trained = network(tmp_path / "pruned"), network(tmp_path / "out")
    assert trained.structure == pruned.structure
    for before, after in zip(matrices(pruned).values(), matrices(trained).values(), strict=True):
        assert torch.equal(before == 0, after == 0) and not torch.equal(before, after)
    assert "rows of digits:train" in report["note"]
