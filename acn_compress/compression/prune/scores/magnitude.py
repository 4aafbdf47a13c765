"""The squared group L2 norm of a unit over the mean of its width, as Torch-Pruning has it
(`GroupMagnitudeImportance(p=2, normalizer="mean")`, arXiv 2301.12900): every weight and bias that
belongs to the unit counts, whatever layer it lies in. Neither the scale of a layer nor the size of
a unit changes it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from acn_compress.architectures import Width
from acn_compress.compression.calibration import Batches
from acn_compress.compression.prune.scores.score import Score, Units, relative
from acn_compress.network import widths
from acn_compress.network.network import Network


def magnitude(net: Network, data: Batches | None = None) -> Units:
    """Of every unit; data is not looked at."""
    return tuple(
        {name: over_mean(block, width) for name, width in net.family.widths(block).items()}
        for block in net.blocks
    )


def over_mean(block: nn.Module, width: Width) -> Tensor:
    """Of the units of one width: [units]."""
    found = torch.zeros(width.units)
    for layer, cut, output in widths.layers(block, width):
        square = layer.weight.detach().float().square().sum(1 - widths.dim(layer, output))
        if output and layer.bias is not None:
            square = square + layer.bias.detach().float().square()
        found += square.view(cut.parts, width.units, cut.size).sum((0, 2)).cpu()
    return relative(found)


SCORE = Score(
    name="magnitude",
    help="the L2 norm of everything that belongs to a unit, over the mean of its kind",
    of=magnitude,
)
