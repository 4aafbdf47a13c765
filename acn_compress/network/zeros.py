"""Zeros among the weights of the blocks: which matrices may have them, how many make a share, and
exactly the lowest so many of a ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from acn_compress.errors import ConfigError
from acn_compress.network.network import Network
from acn_compress.options import Scope

Key = Callable[[Tensor], Tensor]

INFINITY = 0x7F800000  # the bits of infinity; what is beyond is no number
HALF = 1 << 15  # shifts the signed upper half of a key to 0 and more


def matrices(net: Network) -> dict[str, nn.Parameter]:
    """The weight matrices that get zeros, by "block.layer": the 2-D weights of the blocks' linear
    layers."""
    return {name: layer.weight for name, layer in layers(net).items()}


def layers(net: Network) -> dict[str, Any]:
    """The layers of these matrices, by "block.layer"."""
    return {
        f"{i}.{path}": layer
        for i, block in enumerate(net.blocks)
        for path, layer in linear(block).items()
    }


def linear(block: nn.Module) -> dict[str, Any]:
    """The linear layers of a block (nn.Linear, or transformers' Conv1D), by their paths."""
    return {
        path: module
        for path, module in block.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }


def places(net: Network) -> list[tuple[Tensor, Tensor]]:
    """Every 2-D weight of the blocks with the places where it is zero (bool, of its shape)."""
    blocks = net.blocks
    return [(p, p == 0) for block in blocks for p in block.parameters() if p.dim() == 2]


def groups(net: Network, scope: Scope) -> dict[str, list[str]]:
    """The matrices that share one ranking, by the name an error calls them."""
    names = list(matrices(net))
    return {"the blocks": names} if scope == "global" else {name: [name] for name in names}


def count(weights: Sequence[Tensor]) -> int:
    """Zeros in all of them."""
    return sum(int((w == 0).sum()) for w in weights)


def correct_(net: Network) -> None:
    """Make the sparsity that a structure claims that of the weights themselves: somebody may have
    trained them since, or cut blocks off."""
    structure, weights = net.structure, list(matrices(net).values())
    found, total = count(weights), sum(w.numel() for w in weights)
    if structure.sparsity > 0 and round(structure.sparsity * total) != found:
        net.set_structure_(structure.changed(sparsity=min(found, total - 1) / total))


def wanted(weights: Sequence[Tensor], target: float, where: str) -> int:
    """Zeros that make the share, to the nearest weight; one weight always stays, and zeros that are
    there are never undone.

    Raises:
        ConfigError: if more than `target` of `where` are zeros already.
    """
    total, present = sum(w.numel() for w in weights), count(weights)
    found = min(round(target * total), total - 1)
    if target > 0 and present > found:
        share = present / total
        raise ConfigError(
            f"target_sparsity is {target}, but {share:.4f} of {where} are zeros already. Choose "
            "more than that, or 0."
        )
    return found if target > 0 else present


def by_magnitude(weight: Tensor) -> Tensor:
    """The bits of every magnitude as float32, flat: as integers they are ordered as the magnitudes
    are, and NaN comes last."""
    return weight.detach().abs().float().flatten().view(torch.int32)


def by_value(values: Tensor) -> Tensor:
    """Flat integers that are ordered as the float32 `values` are: those of negative numbers have
    every bit but the sign turned."""
    bits = (values.detach().float() + 0.0).flatten().view(torch.int32)  # + 0.0: minus zero is zero
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def threshold(tensors: Sequence[Tensor], number: int, key: Key) -> tuple[int, int]:
    """The `number`-th lowest key and how many of those equal to it are among the `number` lowest.

    Counted half a word at a time, so that no more than one matrix is ever copied.
    """
    found, left = 0, number
    for shift in (16, 0):
        seen = torch.zeros(1 << 16, dtype=torch.int64)
        for tensor in tensors:
            bits = key(tensor)
            part = (bits >> 16) + HALF if shift else bits[bits >> 16 == found >> 16] & 0xFFFF
            seen += torch.bincount(part, minlength=1 << 16).cpu()
        upto = seen.cumsum(0)
        place = int(torch.searchsorted(upto, left))
        found, left = (
            (place - HALF) << 16 if shift else found | place,
            left - int(upto[place] - seen[place]),
        )
    return found, left


def lowest(tensors: Sequence[Tensor], bound: tuple[int, int], key: Key) -> Iterator[Tensor]:
    """Where the lowest are (bool, of each tensor's shape), given `threshold`; of equal ones the
    first in order."""
    at, equal = bound
    for tensor in tensors:
        bits = key(tensor)
        below, ties = bits < at, (bits == at).nonzero().squeeze(1)[:equal]
        below[ties], equal = True, equal - len(ties)
        yield below.view_as(tensor)
