"""N:M patterns: of M weights of an output that lie beside each other N stay, which some hardware
multiplies faster."""

from __future__ import annotations

import torch
from torch import Tensor

from acn_compress.errors import ConfigError
from acn_compress.network import widths, zeros
from acn_compress.network.network import Network
from acn_compress.options import Pattern, kept_of


def check(net: Network, pattern: Pattern) -> None:
    """Refuse a network of which a matrix cannot have the pattern.

    Raises:
        ConfigError: naming the first such layer.
    """
    _, of = kept_of(pattern)
    for name, layer in zeros.layers(net).items():
        if (inputs := len(widths.by_inputs(layer))) % of:
            raise ConfigError(
                f"pattern is {pattern}, but layer {name} has {inputs} inputs, which cannot be "
                f"divided by {of}. Give a target_sparsity instead."
            )


def lowest(cost: Tensor, pattern: Pattern) -> Tensor:
    """Which weights go, bool: of every M input features those of the lowest cost; of equal ones the
    first.

    Args:
        cost: [inputs, outputs], the inputs a multiple of M.
    """
    kept, of = kept_of(pattern)
    groups = cost.reshape(-1, of, cost.shape[1])
    order = groups.argsort(dim=1, stable=True)[:, : of - kept]
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order, True).view_as(cost)
