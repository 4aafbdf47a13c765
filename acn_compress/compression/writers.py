"""The layers that write a branch into the stream: attention's output, the second layer of an MLP.
The network is linear in each of them, so what is cut in front of one can be made up for in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from acn_compress.architectures import Cut, Width
from acn_compress.network import widths
from acn_compress.network.device import exact
from acn_compress.network.network import Network

BRANCH = {"heads": 0, "tokens": 0, "mlp": 1}
"""By the name of a width: the branch of its block that it lies in."""


@dataclass(frozen=True)
class Writer:
    """One such layer.

    Args:
        block: position of its block.
        name: of the width that it reads.
        width: that width.
        cut: where it lies in the layer.
        layer: nn.Linear, or transformers' Conv1D, which stores [in, out].
        scale: what multiplies what it writes (LayerScale), [width] or a number; None for nothing.
        norm: an RMS norm behind it; None for none.
    """

    block: int
    name: str
    width: Width
    cut: Cut
    layer: Any
    scale: Tensor | None
    norm: nn.Module | None = None

    @property
    def branch(self) -> int:
        """Position of its branch in the block."""
        return BRANCH[self.name]

    @property
    def weight(self) -> Tensor:
        """[out, in]."""
        return widths.by_inputs(self.layer).detach().T

    def into_stream(self, there: Tensor, here: Tensor) -> Tensor:
        """What the stream lacks, [batch, ..., width], where it wrote `here` and not `there`."""
        if self.norm is not None:
            there, here = self.norm(there), self.norm(here)
        lack = there - here
        lack = lack.transpose(1, 2) if self.cut.along_tokens else lack
        return lack if self.scale is None else lack * self.scale

    def from_stream(self, lack: Tensor, wrote: Tensor, like: Tensor) -> Tensor:
        """What it has to write beside what it `wrote` for the stream to get `lack` more. Behind a
        norm any length would do: it is that of `like`."""
        lack = lack if self.scale is None else lack / self.scale
        lack = lack.transpose(1, 2) if self.cut.along_tokens else lack
        if self.norm is None:
            return lack
        gain: Tensor = self.norm(torch.ones_like(wrote[..., :1, :]))
        wanted: Tensor = (self.norm(wrote) + lack) / gain
        length = torch.linalg.vector_norm(like, dim=-1, keepdim=True)
        normed = torch.linalg.vector_norm(self.norm(like) / gain, dim=-1, keepdim=True)
        found: Tensor = wanted * (length / normed) - wrote
        return found


def writers_of(net: Network, k: int) -> list[Writer]:
    """Those of block k, in the order in which they run."""
    block = net.blocks[k]
    return [
        Writer(
            block=k,
            name=name,
            width=width,
            cut=cut,
            layer=block.get_submodule(cut.path),
            scale=_scale(block, cut),
            norm=None if cut.norm is None else block.get_submodule(cut.norm),
        )
        for name, width in net.family.widths(block).items()
        for cut in width.inputs
    ]


def writers(net: Network) -> list[Writer]:
    """Those of all blocks, in the order in which they run."""
    return [writer for k in range(net.depth) for writer in writers_of(net, k)]


def _scale(block: nn.Module, cut: Cut) -> Tensor | None:
    if isinstance(cut.scale, str):
        return block.get_parameter(cut.scale).detach()
    return None if cut.scale is None else torch.tensor(cut.scale)


@dataclass
class Seen:
    """What went through a layer last: into it [batch, ..., in], out of it [batch, ..., out]."""

    x: Tensor
    out: Tensor


class Stopped(Exception):
    """The last layer that is watched has run: nothing behind it need be."""


def watching(found: Sequence[Writer], stops: bool = False) -> AbstractContextManager[list[Seen]]:
    """Inside, what goes through the writers is seen, in their order; `stops`: a pass raises
    `Stopped` behind the last of them."""
    return watching_layers([writer.layer for writer in found], stops)


@contextmanager
def watching_layers(found: Sequence[nn.Module], stops: bool = False) -> Iterator[list[Seen]]:
    """`watching` of any linear layers."""
    seen = [Seen(torch.empty(0), torch.empty(0)) for _ in found]
    with ExitStack() as hooks:
        for layer, slot in zip(found, seen, strict=True):
            hooks.callback(layer.register_forward_hook(_see(slot)).remove)
        if stops:
            hooks.callback(found[-1].register_forward_hook(_stop).remove)
        yield seen


def _stop(*_: object) -> None:
    raise Stopped


def _see(slot: Seen) -> Any:
    def see(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if torch.is_grad_enabled() and not output.requires_grad:
            output.requires_grad_()  # the first layer on the way: gradients begin here
        slot.x, slot.out = inputs[0].detach(), output

    return see


def rows_that_count(values: Tensor, mask: Tensor | None) -> Tensor:
    """[batch, length, n] as [rows, n], without padding."""
    if mask is None or mask.shape != values.shape[:-1]:
        return values.flatten(0, -2)
    return values[mask.bool()]


def write_(layer: nn.Module, change: Tensor | None) -> None:
    """Give a linear layer (nn.Linear, or transformers' Conv1D, which stores [in, out]) its new
    weights."""
    if change is None:
        return
    weight = change[:-1] if widths.dim(layer, output=True) == 1 else change[:-1].T
    layer.weight = _plus(layer.get_parameter("weight"), weight)
    if getattr(layer, "bias", None) is not None:
        layer.bias = _plus(layer.get_parameter("bias"), change[-1])


def _plus(parameter: nn.Parameter, change: Tensor) -> nn.Parameter:
    """Another parameter in its place; a twin of the network keeps its own."""
    now = exact(parameter.detach()) + change
    return nn.Parameter(now.to(parameter), parameter.requires_grad)
