"""TOAST, "Transformer Optimization using Adaptive and Simple Transformations" (arXiv 2410.04941),
with its linear map, from the paper: what a span of blocks does to every token, fitted by least
squares (there on 500 examples, here on all that are given) and run in the place of the span.

    minimises over W   sum over tokens  |y_i W - y_{i+n}|^2

The paper leaves the span to the user; here it is the one whose input and output are most alike, as
in ReplaceMe. Other than there the map is a layer of its own, width x width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from acn_compress.compression.calibration import Batches
from acn_compress.network.network import Network
from benchmarks.peers import replaceme


def replace_(net: Network, length: int, data: Batches) -> None:
    """Put a linear map in the place of `length` blocks of a network in residual form, in place;
    the block in front of them stays."""
    gone = replaceme.span(net, length, data)
    change = linear_map(net, gone, data).to(net.dtype)
    net.blocks[gone.start - 1].register_forward_hook(_mapped(change))
    net.keep_([k for k in range(net.depth) if k not in gone])


def linear_map(net: Network, gone: range, data: Batches) -> Tensor:
    """W, [width, width], in the place of a span."""
    gram = cross = torch.zeros(net.width, net.width, dtype=torch.float64)
    for prefixes, _ in replaceme.passes(net, 0, data):
        before, after = prefixes[gone.start].double(), prefixes[gone.stop].double()
        gram, cross = gram + before.T @ before, cross + before.T @ after
    solved: Tensor = torch.linalg.lstsq(gram, cross).solution
    return solved


def _mapped(change: Tensor) -> Any:
    def hook(block: nn.Module, inputs: object, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] @ change, *output[1:])
        return output @ change

    return hook
