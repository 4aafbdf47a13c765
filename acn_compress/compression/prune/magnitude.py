"""Magnitude pruning: exactly so many weights of the blocks' matrices become zero, the smallest
first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from acn_compress.compression.prune import patterns, zeroed
from acn_compress.compression.prune.method import Aim, Method, Pruned, Pruning, Start
from acn_compress.errors import VerificationError
from acn_compress.network import widths, zeros
from acn_compress.network.network import Network
from acn_compress.options import Pattern


def prune_(net: Network, aim: Aim, start: Start) -> Pruning:
    """Set the smallest weights to zero, now; nothing is touched where a share cannot be reached."""
    if aim.pattern is None:
        _zero_share_(net, aim)
    else:
        _zero_pattern_(net, aim.pattern)
    found, check_held = zeroed.record_(net, aim, start), zeroed.holding_zeros(net)

    def finish_() -> Pruned:
        check_held()
        return found.weighed(net)

    return Pruning(finish_)


def _zero_share_(net: Network, aim: Aim) -> None:
    named = zeros.matrices(net)
    groups = [
        (weights := [named[name] for name in names], zeros.wanted(weights, aim.target, where))
        for where, names in zeros.groups(net, aim.scope).items()
    ]
    for weights, wanted in groups:
        zero_smallest_(weights, wanted)


def _zero_pattern_(net: Network, pattern: Pattern) -> None:
    patterns.check(net, pattern)
    for layer in zeros.layers(net).values():
        weight = widths.by_inputs(layer).detach()
        weight.masked_fill_(patterns.lowest(weight.abs(), pattern), 0.0)


def zero_smallest_(weights: Sequence[Tensor], number: int) -> None:
    """Set exactly `number` weights to zero, the smallest first; of equal ones the first in order.

    Raises:
        VerificationError: if there are not so many zeros then.
    """
    if number == 0:
        return
    bound = zeros.threshold(weights, number, zeros.by_magnitude)
    for weight, drop in zip(weights, zeros.lowest(weights, bound, zeros.by_magnitude), strict=True):
        with torch.no_grad():
            weight.masked_fill_(drop, 0.0)
    if bound[0] > zeros.INFINITY or zeros.count(weights) != number:
        raise VerificationError(
            f"pruning left {zeros.count(weights)} zeros, expected {number}. "
            "Are there NaN weights in the source?"
        )


METHOD = Method(
    name="magnitude",
    help="sets the smallest weights to zero, then trains what is left",
    note=zeroed.NOTE,
    prune_=prune_,
)
