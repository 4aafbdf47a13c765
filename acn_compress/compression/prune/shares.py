"""How many weights of each matrix go, and which: what `compensated.zero_` is to choose by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from acn_compress.compression.prune import patterns
from acn_compress.compression.prune.compensated import BLOCK, Choice, Surgeon, rows_of
from acn_compress.compression.stream import Batch, Moments, walk_
from acn_compress.network import widths, zeros
from acn_compress.network.network import Network
from acn_compress.options import Pattern, Scope, kept_of

Choices = Mapping[str, Choice]
"""By the name of the layer."""


def of_pattern(net: Network, pattern: Pattern) -> Choices:
    """So many of every so many, in every matrix.

    Raises:
        ConfigError: if a matrix cannot have the pattern.
    """
    patterns.check(net, pattern)
    choice = Choice(kept_of(pattern)[1], lambda at, cost: patterns.lowest(cost, pattern))
    return dict.fromkeys(zeros.layers(net), choice)


def of_share(net: Network, share: float, scope: Scope, batches: Sequence[Batch]) -> Choices:
    """Exactly so many zeros as make the share.

    Raises:
        ConfigError: if more are zero already.
    """
    numbers = NUMBERS[scope](net, share, batches)
    return {name: of_number(layer, numbers[name]) for name, layer in zeros.layers(net).items()}


def of_number(layer: Any, number: int) -> Choice:
    """So many of one matrix: of every `BLOCK` input features the same share of those weights that
    are not zero yet."""
    zero = widths.by_inputs(layer) == 0
    free = [0, *(~zero).sum(1).cumsum(0).tolist()]
    share = (number - int(zero.sum())) / max(1, free[-1])

    def lowest(at: int, cost: Tensor) -> Tensor:
        more = round(share * free[at + len(cost)]) - round(share * free[at])
        order = cost.flatten().argsort(stable=True)[: more + int((cost < 0).sum())]
        drop = torch.zeros_like(cost, dtype=torch.bool)
        drop.view(-1)[order] = True
        return drop

    return Choice(BLOCK, lowest)


def _alike(net: Network, share: float, batches: Sequence[Batch]) -> dict[str, int]:
    """Zeros of each matrix: the same share of all."""
    return {n: zeros.wanted([w], share, n) for n, w in zeros.matrices(net).items()}


def _below_one_threshold(net: Network, share: float, batches: Sequence[Batch]) -> dict[str, int]:
    """Zeros of each matrix: as many as cost less than one threshold over all."""
    wanted = zeros.wanted(list(zeros.matrices(net).values()), share, "the blocks")
    costs = _costs(net, batches)
    bound = zeros.threshold(list(costs.values()), wanted, zeros.by_value)
    lowest = zeros.lowest(list(costs.values()), bound, zeros.by_value)
    return {name: int(drop.sum()) for name, drop in zip(costs, lowest, strict=True)}


def _costs(net: Network, batches: Sequence[Batch]) -> dict[str, Tensor]:
    """What each weight costs if only it goes, in the network as it is: of what its layer puts out,
    the share of the mean square. [inputs, outputs], float32; of a zero -1."""
    layers, costs = zeros.layers(net), {}

    def look(names: list[str], moments: Moments) -> None:
        inverse = Surgeon.of(moments, bias=False).upper.square().sum(0)
        gram = moments.gram[:-1, :-1]
        for name in names:
            rows = rows_of(layers[name])[: len(inverse)]
            square = (rows * (gram @ rows)).sum()
            cost = rows.square() / inverse[:, None] / square
            costs[name] = cost.masked_fill(rows == 0, -1.0).float()

    walk_(net, batches, look)
    return costs


NUMBERS: dict[Scope, Callable[[Network, float, Sequence[Batch]], dict[str, int]]] = {
    "global": _below_one_threshold,
    "layer": _alike,
}
