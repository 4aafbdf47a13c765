"""ReplaceMe, "Network Simplification via Depth Pruning and Transformer Block Linearization" (arXiv
2505.02819), its least-squares form, from the paper: one linear map in place of a span of blocks.

Of all spans of n blocks the one goes whose input y_i and output y_{i+n} have the lowest cosine
distance. In front of it y_i = a + m, where m is what the MLP of block i - 1 adds; the map T that

    minimises over T   sum over tokens  |a + m T - y_{i+n}|^2

is multiplied into that MLP's output layer, so nothing is added. No ridge, as in its code.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from acn_compress.compression.calibration import Batches, spread
from acn_compress.compression.writers import rows_that_count, watching, writers_of
from acn_compress.network import widths
from acn_compress.network.network import Network
from acn_compress.network.threads import threads_for
from acn_compress.tasks.base import features


def replace_(net: Network, length: int, data: Batches) -> None:
    """Put a linear map in the place of `length` blocks of a pre-norm network in residual form, in
    place; the block in front of them stays."""
    gone = span(net, length, data)
    writer = writers_of(net, gone.start - 1)[-1]
    merge_(writer.layer, linear_map(net, gone, data))
    net.keep_([k for k in range(net.depth) if k not in gone])


def span(net: Network, length: int, data: Batches) -> range:
    """The blocks that change the stream least, by the cosine; the first one is not among them."""
    apart = distances(net, length, data)
    start = min(range(1, len(apart)), key=apart.__getitem__)
    return range(start, start + length)


def distances(net: Network, length: int, data: Batches) -> list[float]:
    """1 - cosine of y_i and y_{i + length}, the mean over tokens, for every i."""
    sums, tokens = torch.zeros(net.depth - length + 1, dtype=torch.float64), 0
    for prefixes, _ in passes(net, 0, data):
        pairs = zip(prefixes, prefixes[length:], strict=False)
        sums += torch.stack([1 - cosine_similarity(a, b, dim=-1) for a, b in pairs]).sum(1)
        tokens += len(prefixes[0])
    return [float(s) / tokens for s in sums]


def linear_map(net: Network, gone: range, data: Batches) -> Tensor:
    """T, [width, width], in the place of a span: m T instead of m."""
    gram = cross = torch.zeros(net.width, net.width, dtype=torch.float64)
    for prefixes, m in passes(net, gone.start - 1, data):
        missing = prefixes[gone.stop] - prefixes[gone.start]
        gram = gram + (m.T @ m).double()
        cross = cross + (m.T @ missing).double()
    change: Tensor = torch.linalg.solve(gram, cross)
    return torch.eye(net.width, dtype=torch.float64) + change


def merge_(layer: torch.nn.Module, change: Tensor) -> None:
    """Let a linear layer write x T where it wrote x."""
    with torch.no_grad():
        weight = widths.by_inputs(layer)
        weight.copy_(weight.double() @ change)
        if (bias := getattr(layer, "bias", None)) is not None:
            bias.copy_(bias.double() @ change)


def passes(net: Network, block: int, data: Batches) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Per batch y_0 .. y_L and what the MLP of a block adds, [tokens, width] each; no padding."""
    with torch.inference_mode(), net.evaluating(), threads_for(net):
        for batch in spread(net, data):
            given, mask = features(batch), batch.get("attention_mask")
            with net.recording() as prefixes, watching(writers_of(net, block)[-1:]) as seen:
                net.model.base_model(**given)
            yield [rows_that_count(y, mask) for y in prefixes], rows_that_count(seen[0].out, mask)
