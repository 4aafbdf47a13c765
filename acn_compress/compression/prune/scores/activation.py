"""The energy that a unit hands on, on examples: the mean square of its features where they enter
the layers that write into the stream, times the squared norm of the weights that read them there,
over the mean of its width. A feature that is always near zero, or that nothing reads, is worth
little. For zeros this is Wanda (arXiv 2306.11695); here it is summed over a unit, as FLAP does
(arXiv 2312.11983) without taking off the mean, since no bias makes up for what goes.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from acn_compress.architectures import Width
from acn_compress.compression.calibration import FEW, Batches, spread
from acn_compress.compression.prune.scores.score import Score, Units
from acn_compress.network import widths
from acn_compress.network.network import Network
from acn_compress.network.threads import threads_for
from acn_compress.tasks.base import features


class _Energy:
    """Sums the squares of what enters a layer: [features] over all tokens; padding counts too."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer, self.sum, self.rows = layer, torch.zeros(()), 0

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach().float().flatten(0, -2)
        self.sum, self.rows = self.sum + x.square().sum(0).cpu(), self.rows + len(x)

    def handed_on(self) -> Tensor:
        """Per feature: mean square times the squared norm of the weights that read it."""
        weight: Tensor = self.layer.weight.detach().float().cpu()  # type: ignore[operator]
        reads = weight.square().sum(1 - widths.dim(self.layer, output=False))
        return self.sum / max(1, self.rows) * reads


def activation(net: Network, data: Batches | None) -> Units:
    """Of every unit, from one pass over the data."""
    assert data is not None  # the score says that it needs some
    with ExitStack() as hooks:
        found = [
            {name: _watch(hooks, block, width) for name, width in net.family.widths(block).items()}
            for block in net.blocks
        ]
        with torch.inference_mode(), net.evaluating(), threads_for(net):
            for batch in spread(net, data, FEW):
                net(**features(batch))
    return tuple({name: score() for name, score in block.items()} for block in found)


def _watch(hooks: ExitStack, block: nn.Module, width: Width) -> partial[Tensor]:
    """Watch what enters the layers that read a width; the score of its units, to be called
    later."""
    watched = []
    for cut in width.inputs:
        layer = block.get_submodule(cut.path)
        watched.append((energy := _Energy(layer), cut.size))
        hooks.callback(layer.register_forward_pre_hook(energy).remove)
    return partial(_over_mean, watched, width.units)


def _over_mean(watched: list[tuple[_Energy, int]], units: int) -> Tensor:
    """[units], the mean of them 1."""
    found = torch.stack([e.handed_on().view(units, size).sum(1) for e, size in watched]).sum(0)
    return found / found.mean().clamp_min(torch.finfo(found.dtype).tiny)


SCORE = Score(
    name="activation",
    help="the energy that a unit hands on, on examples",
    of=activation,
    needs_data=True,
)
