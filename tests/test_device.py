"""Where networks run: on the device that was asked for, and on one without float64 too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from elsewhere import NAME, elsewhere
from tiny import tiny
from torch import Tensor

from acn_compress.backends import BACKENDS
from acn_compress.backends.base import Checkpoint, Load
from acn_compress.backends.latency import clock_for
from acn_compress.checkpoint.find import find_source
from acn_compress.compression import refit
from acn_compress.compression.calibration import RandomInputs
from acn_compress.compression.prune import prune_
from acn_compress.compression.prune.scores import SCORES
from acn_compress.network import device
from acn_compress.network.network import Network
from acn_compress.onnx.write import Prepared


def refitted(net: Network) -> list[Tensor]:
    small = net.twin()
    small.keep_((0, 2))
    assert refit.refit_(small, net, RandomInputs(net, 16)) > 0
    return [p.detach().cpu() for p in small.model.parameters()]


def scored(net: Network) -> list[Tensor]:
    return [s for block in SCORES["obs"].units(net, RandomInputs(net, 8)) for s in block.values()]


def zeroed(net: Network) -> list[Tensor]:
    prune_(net, 0.3, "obs", data=RandomInputs(net, 8))
    return [p.detach().cpu() for p in net.model.parameters()]


@pytest.mark.parametrize(
    ("name", "made"), [("bert", refitted), ("bert", scored), ("mixer", zeroed)]
)
def test_what_needs_float64_runs_where_there_is_none(
    name: str, made: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(made)
    monkeypatch.setattr(device, "WITHOUT_FLOAT64", {NAME})
    net, other = tiny(name), tiny(name)
    for one in (net, other) if name == "bert" else ():
        one.model.set_attn_implementation("eager")
    here = made(net)
    with elsewhere(other):
        assert other.device.type == NAME
        there = made(other)
    for mine, theirs in zip(here, there, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_a_call_ends_when_the_device_has_computed(
    digits_vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, waited = tiny("vit"), list[torch.device]()
    net.model.to(NAME)
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    source = find_source(digits_vit)
    subject = Checkpoint("net", net, source, net.example_inputs(), 0.0)
    timed = BACKENDS["torch"].variant(subject, Load(), Path())
    assert timed is not None
    timed.call()
    assert waited == [torch.device(NAME)]
    assert clock_for(1) is not clock_for(1, NAME)


def test_files_are_made_on_the_cpu(digits_vit: Path) -> None:
    net = tiny("bert")
    net.model.set_attn_implementation("eager")
    with elsewhere(net):
        ready = Prepared.of_(net, find_source(digits_vit))
        assert ready.traced.inputs_for(1, 7, 0)["input_ids"].device.type == "cpu"
