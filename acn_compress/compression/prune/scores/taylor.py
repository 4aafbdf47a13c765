"""The absolute change of the loss of an example when a unit goes, to first order (Molchanov et al.,
arXiv 1906.10771): its features times the gradient by them."""

from __future__ import annotations

from torch import Tensor

from acn_compress.compression.calibration import Batches
from acn_compress.compression.prune.scores.gates import per_example
from acn_compress.compression.prune.scores.score import Score, Units
from acn_compress.network.network import Network


def taylor(net: Network, data: Batches | None) -> Units:
    """Of every unit, per example."""
    return per_example(net, data, Tensor.abs)


SCORE = Score(
    name="taylor",
    help="the change of the loss by a unit, to first order",
    of=taylor,
    adds_up=True,
)
