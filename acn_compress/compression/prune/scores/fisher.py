"""The squared gradient of the loss by a gate on each unit, summed over examples (Kwon et al., arXiv
2204.09656): half of it is what the loss rises by when the unit goes, to second order and without
looking at the others."""

from __future__ import annotations

from torch import Tensor

from acn_compress.compression.calibration import Batches
from acn_compress.compression.prune.scores.gates import per_example
from acn_compress.compression.prune.scores.score import Score, Units
from acn_compress.network.network import Network


def fisher(net: Network, data: Batches | None) -> Units:
    """Of every unit, per example."""
    return per_example(net, data, _half_square)


def _half_square(gradient: Tensor) -> Tensor:
    return gradient.square() / 2


SCORE = Score(
    name="fisher",
    help="the squared gradient by a gate on a unit",
    of=fisher,
    adds_up=True,
)
