"""The energy that a unit hands on, on examples: the mean square of its features where they enter
the layers that write into the stream, times the squared norm of the weights that read them there,
over the mean of its width. A feature that is always near zero, or that nothing reads, is worth
little. For zeros this is Wanda (arXiv 2306.11695); here it is summed over a unit, as FLAP does
(arXiv 2312.11983) without taking off the mean, since no bias makes up for what goes.
"""

from __future__ import annotations

import torch

from acn_compress.compression.calibration import FEW, Batches, spread
from acn_compress.compression.prune.scores.score import Score, Units, by_block, relative
from acn_compress.compression.writers import rows_that_count, watching, writers
from acn_compress.network.network import Network
from acn_compress.network.threads import threads_for
from acn_compress.tasks.base import features


def activation(net: Network, data: Batches | None) -> Units:
    """Of every unit, from one pass over the data."""
    assert data is not None  # the score says that it needs some
    found = writers(net)
    sums = [torch.zeros(writer.weight.shape[1]) for writer in found]
    with watching(found) as seen, torch.inference_mode(), net.evaluating(), threads_for(net):
        for batch in spread(net, data, FEW):
            net(**(inputs := features(batch)))
            mask = net.counted(inputs)
            for energy, through in zip(sums, seen, strict=True):
                energy += rows_that_count(through.x, mask).float().square().sum(0).cpu()
    handed_on = [
        energy * writer.weight.float().square().sum(0).cpu()
        for energy, writer in zip(sums, found, strict=True)
    ]
    units = [
        energy.view(writer.width.units, -1).sum(1)
        for energy, writer in zip(handed_on, found, strict=True)
    ]
    return tuple(
        {name: relative(score) for name, score in block.items()}
        for block in by_block(net, found, units)
    )


SCORE = Score(
    name="activation",
    help="the energy that a unit hands on, on examples",
    of=activation,
    needs_data=True,
)
