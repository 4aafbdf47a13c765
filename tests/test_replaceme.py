"""ReplaceMe, the peer of `benchmarks.decoder`: blocks that do nothing go for nothing, and where the
blocks are linear the map is exact."""

from __future__ import annotations

import pytest
import torch
from tiny import answer, tiny

from acn_compress.compression.calibration import RandomInputs
from acn_compress.compression.writers import writers_of
from acn_compress.network.network import Network
from benchmarks.peers import replaceme


def silenced(net: Network, k: int) -> None:
    """Block k adds nothing."""
    for writer in writers_of(net, k):
        for parameter in writer.layer.parameters():
            torch.nn.init.zeros_(parameter)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_block_that_adds_nothing_is_found_and_goes_for_nothing(name: str) -> None:
    net = tiny(name)
    silenced(net, 1)
    inputs = net.example_inputs()
    before = answer(net.model, **inputs)
    replaceme.replace_(net, 1, RandomInputs(net, rows=64))
    assert 1 not in net.structure.blocks and 0 in net.structure.blocks
    torch.testing.assert_close(answer(net.model, **inputs), before, rtol=1e-4, atol=1e-5)


def test_a_merged_map_acts_on_what_the_layer_writes() -> None:
    layer, change = torch.nn.Linear(5, 3), torch.randn(3, 3, dtype=torch.float64)
    x = torch.randn(4, 5)
    expected = layer(x).double() @ change
    replaceme.merge_(layer, change)
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-4, atol=1e-5)
