"""The peers of structured pruning, as the benchmark runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import network, outputs, tiny
from torch import nn
from torch_pruning.pruner.importance import GroupMagnitudeImportance

from acn_compress.compression.calibration import RandomInputs
from acn_compress.compression.prune import SCORES
from acn_compress.compression.prune.cut import cut_checked_
from acn_compress.compression.prune.ranking import Choice, choices
from acn_compress.compression.refit import refit_
from acn_compress.compression.writers import write_, writers
from acn_compress.data.load import load_data
from acn_compress.network.network import Network
from benchmarks.peers import flap, kwon, torch_pruning
from benchmarks.structured import ROUTES, prunable

PEERS = ("torch-pruning, magnitude", "torch-pruning, taylor", "kwon", "flap")


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_reaches_the_share_in_place(name: str, digits_vit: Path) -> None:
    net = network(digits_vit)
    rows = load_data("digits", net, None, role="train", limit=64)
    whole, before = prunable(net), net.parameters
    ROUTES[name][0](net, 0.5, rows, 0)
    assert prunable(net) / whole == pytest.approx(0.5, abs=0.03)
    assert before - net.parameters == whole - prunable(net)
    assert all(p.grad is None for p in net.model.parameters())


@pytest.mark.parametrize("family", ["bert", "vit", "mixer"])
def test_what_torch_pruning_chose_is_cut_as_it_would(family: str) -> None:
    ours, theirs, importance = tiny(family), tiny(family), GroupMagnitudeImportance()
    found = _found(ours)
    cut_checked_(ours, found, torch_pruning.chosen(ours, found, 0.5, importance))
    for group in torch_pruning.groups(theirs, _found(theirs), 0.5, importance):
        group.prune()
    assert ours.parameters == theirs.parameters
    assert torch.allclose(outputs(ours), outputs(theirs), atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "vit", "mixer", "timmvit"])
def test_methods_without_labels_take_any_encoder(family: str) -> None:
    for peer in (kwon, flap):
        net = tiny(family)
        whole = prunable(net)
        peer.prune_(net, 0.4, RandomInputs(net, 32), 0)
        assert prunable(net) / whole == pytest.approx(0.6, abs=0.05)
        assert bool(outputs(net).isfinite().all())


def test_rearranging_finds_gradients_that_cancel() -> None:
    one, other = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).double()
    gradients = torch.stack([one, other, -other, 2 * one])
    fisher = gradients @ gradients.T
    assert kwon.rearranged([], fisher) == []
    assert kwon.rearranged([0, 1], fisher) == [1, 2]  # large alone, nothing together
    assert kwon.rearranged([1, 2], fisher) == [1, 2]


def test_mask_tuning_makes_up_for_a_feature_that_another_repeats(digits_vit: Path) -> None:
    net = network(digits_vit)
    for layer in (_layer(net, "mlp.fc1").weight, _layer(net, "mlp.fc1").bias):
        layer.data[3] = layer.data[2]
    second = _layer(net, "mlp.fc2").weight.data
    second[:, 2] *= 10  # enough for the damping not to be felt
    second[:, 3] = 0.5 * second[:, 2]
    whole, expected = net.twin(), outputs(net)
    found = _found(net)
    cut_checked_(net, found, [[3] if i == 1 else [] for i in range(len(found))])
    rows = load_data("digits", net, None, role="train", limit=256)
    refit_(net, whole, rows, change=kwon.Tuning(), writers_alone=True)
    now = _layer(net, "mlp.fc2").weight.data
    assert torch.allclose(now[:, 2], 1.5 * second[:, 2], rtol=0.02)
    assert torch.allclose(outputs(net), expected, atol=1e-2)


def test_a_feature_that_never_changes_goes_first_and_costs_nothing(digits_vit: Path) -> None:
    net = network(digits_vit)
    first = _layer(net, "mlp.fc1")
    first.weight.data[3], first.bias.data[3] = 0.0, 2.0
    before = outputs(net)
    seen = flap.fluctuations(net, load_data("digits", net, None, role="train", limit=64))
    writer = writers(net)[1]
    assert int(flap.score(writer, seen[1]).argmin()) == 3
    weight = writer.weight.double()
    writer.layer.weight.data[:, 3] = 0.0
    write_(writer.layer, flap.bias_change(writer, weight, seen[1].mean, [3]))
    assert torch.allclose(outputs(net), before, atol=1e-5)


def _found(net: Network) -> list[Choice]:
    """All widths."""
    return choices(net, SCORES["magnitude"].units(net, None))


def _layer(net: Network, path: str) -> nn.Linear:
    """A layer of the first block."""
    layer = net.blocks[0].get_submodule(path)
    assert isinstance(layer, nn.Linear)
    return layer
