"""Cutting units out, with the proof that exactly they are gone: the cut network answers as the
masked original does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from acn_compress.architectures import Width
from acn_compress.compression.prune.ranking import Choice, Drops
from acn_compress.errors import VerificationError
from acn_compress.network import widths, zeros
from acn_compress.network.network import Network
from acn_compress.network.sayable import say_widths_

# largest allowed difference to the masked original, as a share of max(1, largest output); half
# precision rounds every product
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}

Sizes = tuple[dict[str, int], ...]


def cut_checked_(net: Network, choices: Sequence[Choice], drops: Drops) -> float:
    """Cut the units out, in place, and record the new widths.

    Returns:
        The difference to the masked original (see `difference`).
    Raises:
        VerificationError: if other parameters or widths are left than those of the units that
            stay, or the network answers otherwise.
    """
    if not any(drops):
        return 0.0
    left = net.parameters - sum(c.cost * len(d) for c, d in zip(choices, drops, strict=True))
    sizes = _sizes(widths.counts(net), choices, drops)
    with masking(net, choices, drops):
        masked = answers(net)
    for choice, drop in zip(choices, drops, strict=True):
        keep = sorted(set(range(choice.units)) - set(drop))
        widths.cut_(net.blocks[choice.block], choice.width, keep, net.family.fix_widths_)
    _check_sizes(net, left, sizes)
    _record_(net, sizes)
    return difference(net, masked)


@contextmanager
def masking(net: Network, choices: Sequence[Choice], drops: Drops) -> Iterator[None]:
    """Inside, the units are at zero in every block while it runs: only one block at a time has
    weights beside its own, where a masked network would take its memory twice."""
    with ExitStack() as undo:
        for k, block in enumerate(net.blocks):
            gone = [(c.width, d) for c, d in zip(choices, drops, strict=True) if c.block == k and d]
            if gone:
                mask = _Mask(gone)
                undo.callback(mask.take_off)  # where the block failed
                undo.callback(block.register_forward_pre_hook(mask.put_on).remove)
                undo.callback(block.register_forward_hook(mask.take_off).remove)
        yield


class _Mask:
    """Zeros in one block, between its two hooks."""

    def __init__(self, gone: Sequence[tuple[Width, Sequence[int]]]) -> None:
        self.gone = gone
        self.own: list[tuple[nn.Module, str, nn.Parameter]] = []

    def put_on(self, block: nn.Module, inputs: object) -> None:
        self.own = [
            (layer, name, parameter)
            for layer in block.modules()
            for name, parameter in layer.named_parameters(recurse=False)
        ]
        for width, drop in self.gone:
            widths.zero_(block, width, drop)

    def take_off(self, *_: object) -> None:
        for layer, name, parameter in self.own:
            layer.register_parameter(name, parameter)
        self.own = []


def _sizes(before: Sizes, choices: Sequence[Choice], drops: Drops) -> Sizes:
    """The widths that must be left."""
    sizes = tuple(dict(block) for block in before)
    for choice, drop in zip(choices, drops, strict=True):
        sizes[choice.block][choice.name] -= len(drop)
    return sizes


def _check_sizes(net: Network, parameters: int, sizes: Sizes) -> None:
    if (found := net.parameters) != parameters:
        raise VerificationError(
            f"pruning left {found:,} parameters, expected {parameters:,}. Please report this."
        )
    if (counted := widths.counts(net)) != sizes:
        raise VerificationError(
            f"pruning left the widths {list(counted)}, expected {list(sizes)}. Please report this."
        )


def _record_(net: Network, sizes: Sizes) -> None:
    """The new widths; the share of zeros of an earlier pruning is counted again on what is left."""
    structure, weights = net.structure, list(zeros.matrices(net).values())
    share = zeros.count(weights) / sum(w.numel() for w in weights)
    sparsity = share if structure.sparsity > 0 else 0.0
    net.set_structure_(structure.changed(widths=sizes, sparsity=sparsity))
    say_widths_(net)


def answers(net: Network) -> list[Tensor]:
    """What the network says to random inputs of two batch sizes and lengths."""
    with torch.inference_mode(), net.evaluating():
        return [
            net.answer(**net.example_inputs(batch=batch, length=length, seed=batch)).float()
            for batch, length in ((1, 7), (3, 12))
        ]


def difference(net: Network, masked: Sequence[Tensor]) -> float:
    """Compare a cut network with what the original said (`answers`) with the units at zero.

    Returns:
        The largest difference of the outputs, over max(1, the largest output).
    Raises:
        VerificationError: if it exceeds `TOLERANCE` of the network's dtype.
    """
    worst = 0.0
    for found, expected in zip(answers(net), masked, strict=True):
        now = float((found - expected).abs().max() / expected.abs().max().clamp_min(1.0))
        worst = worst if now <= worst else now  # not max(): it would hide what is not a number
    if not worst <= (bound := TOLERANCE[net.dtype]):
        raise VerificationError(
            f"the pruned model differs from the masked original by {worst:.1e}, "
            f"expected at most {bound:.0e}. Please report this."
        )
    return worst
