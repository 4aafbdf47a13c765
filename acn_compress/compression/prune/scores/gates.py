"""The gradient of each example's loss by a gate on each unit: the sum over tokens and the unit's
features of what the writer reads times the gradient by it. What two scores share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from acn_compress.compression.calibration import Batches, calibration
from acn_compress.compression.prune.scores.score import Units, by_block
from acn_compress.compression.statistics import Flow, flows
from acn_compress.compression.writers import Writer, writers
from acn_compress.network.network import Network


def per_example(net: Network, data: Batches | None, of: Callable[[Tensor], Tensor]) -> Units:
    """The mean over examples of a function of every gate's gradient."""
    found = writers(net)
    sums, examples = [torch.zeros(w.width.units, dtype=torch.float64) for w in found], 0
    for batch in flows(net, calibration(net, data), found):
        examples += len(batch[0].x)
        for total, writer, flow in zip(sums, found, batch, strict=True):
            total += of(gates(writer, flow)).sum(0).cpu().double()
    return by_block(net, found, [total / examples for total in sums])


def gates(writer: Writer, flow: Flow) -> Tensor:
    """Of one batch: [batch, units]."""
    moved = flow.x * (flow.gradient @ writer.weight.float())
    if flow.mask is not None and flow.mask.shape == moved.shape[:-1]:
        moved = moved * flow.mask[..., None]
    return moved.flatten(1, -2).sum(1).view(len(moved), writer.width.units, -1).sum(-1)
