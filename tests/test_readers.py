"""The layers that read the stream, led back in a narrower network: they are found, what is read
wrongly is read rightly again, and it pays."""

from __future__ import annotations

import pytest
import torch
from test_refit import Inputs, error
from tiny import KINDS, MODELS, outputs, tiny
from torch import nn

from acn_compress.compression import goals, refit, walk
from acn_compress.compression.prune import prune_
from acn_compress.compression.readers import readers
from acn_compress.compression.writers import writers_of
from acn_compress.network import widths
from acn_compress.network.network import Network

APART = {"pos_key_proj", "pos_query_proj"}  # read positions, in DeBERTa
SHARED = {"query_proj", "key_proj"}  # do so besides, where it shares them


@pytest.mark.parametrize("name", MODELS)
def test_what_reads_for_a_writer_is_what_puts_its_width_out(name: str) -> None:
    net = tiny(name)
    for k, found in enumerate(readers(net)):
        own = writers_of(net, k)
        assert list(found) == list(range(len(own)))
        for at, paths in found.items():
            out = {cut.path for cut in own[at].width.outputs}
            left = {path.rpartition(".")[2] for path in out - set(paths)}
            assert set(paths) <= out
            assert left in (set(), APART, SHARED)


PRE_NORM = ("vit", "llama", "gpt2", "mixer", "modernbert", "timmvit")


@pytest.mark.parametrize(
    ("name", "enough", "rows"), [*((n, walk.ENOUGH, 256) for n in PRE_NORM), ("vit", 1, 1024)]
)
def test_a_norm_that_was_damaged_is_made_up_for_in_what_reads(
    name: str, enough: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where few rows would do."""
    monkeypatch.setattr(walk, "ENOUGH", enough)
    whole = tiny(name)
    net, data = whole.twin(), Inputs(whole, rows)
    block = net.blocks[-1]
    reads = block.get_submodule(readers(net)[-1][1][0])
    norm = _norm_in_front(net, reads)
    gain = norm.get_parameter("weight")
    norm.weight = nn.Parameter(gain * (1 + torch.rand_like(gain)))
    before, untouched = error(net, whole, data), outputs(whole, **data.all)
    monkeypatch.setattr(refit, "first_changed", lambda net, whole: net.depth - 1)
    monkeypatch.setattr(walk, "narrowed", lambda net, whole: True)
    refit.refit_(net, whole, data)
    assert error(net, whole, data) < 1e-4 * before
    assert torch.equal(outputs(whole, **data.all), untouched)


def _norm_in_front(net: Network, reads: nn.Module) -> nn.Module:
    """Of the last block: what puts out what a layer reads."""
    seen: list[tuple[nn.Module, torch.Tensor]] = []
    hooks = [
        m.register_forward_hook(lambda m, x, y: seen.append((m, y)))
        for m in net.blocks[-1].modules()
        if "norm" in type(m).__name__.lower()
    ]
    hooks.append(reads.register_forward_pre_hook(lambda m, x: seen.append((m, x[0]))))
    outputs(net, **net.example_inputs())
    for hook in hooks:
        hook.remove()
    at = next(i for i, (m, _) in enumerate(seen) if m is reads)
    return seen[at - 1][0]


@pytest.mark.parametrize("name", KINDS)
def test_it_harms_no_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiny(name)
    data = Inputs(whole)
    assert ratio(whole, data, monkeypatch) < 1.02


def ratio(whole: Network, data: Inputs, monkeypatch: pytest.MonkeyPatch) -> float:
    """What is left of the error of the answers of a network that lost half of its heads and
    features: with it, over without it."""
    cut, found = whole.twin(), list[float]()
    prune_(cut, 0.5, score="magnitude", refit=False)
    for narrowed in (goals.narrowed, lambda net, whole: False):
        net = cut.twin()
        monkeypatch.setattr(walk, "narrowed", narrowed)
        refit.refit_(net, whole, data)
        assert widths.counts(net) == widths.counts(cut)
        found.append(error(net, whole, data))
    return found[0] / found[1]
