"""A network run block by block beside itself as it was, so that every layer can be changed on the
inputs it has once all layers before it are changed, and be told what they were.

What flows into the next block is kept for every batch, so the work grows with the number of blocks
and not with its square; of the network as it was, one block is kept at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

import torch
from torch import Tensor, nn

from acn_compress.compression.writers import Stopped, rows_that_count
from acn_compress.network import zeros
from acn_compress.network.device import exact
from acn_compress.network.network import Network
from acn_compress.network.stack import Call
from acn_compress.network.threads import threads_for

Batch = dict[str, Tensor]
Flow = tuple[Tensor, Tensor | None]  # what goes into a block: the stream, and what is held beside
See = Callable[[str, Tensor], None]  # (path of a layer in its block, what it reads)


class Moments(NamedTuple):
    """What layers read: sums over all tokens but padding, [inputs + 1, inputs + 1], float64."""

    gram: Tensor
    """Of x x^T, where x is an input in the network as it is now, with a one behind it."""
    lack: Tensor
    """Of x (x_0 - x)^T, where x_0 is the same input in the network as it was."""


def walk_(
    net: Network, batches: Sequence[Batch], change_: Callable[[list[str], Moments], None]
) -> None:
    """Go through the linear layers of all blocks in the order in which they run, and change them.

    Args:
        net: changed in place, by `change_`.
        batches: what the model is called with; the stream of all of them is kept, twice.
        change_: called once for all layers that read the same inputs, with their names (as in
            `zeros.layers`) and the inputs' moments.
    """
    with torch.no_grad(), net.evaluating(), threads_for(net):
        calls = [net.calls(**batch) for batch in batches]
        masks = [net.counted(batch) for batch in batches]
        now, was = _Stream(calls, masks), _Stream(calls, masks)
        for k, block in enumerate(net.blocks):
            before = copy.deepcopy(block)
            for paths in now.groups(k, block):
                read = zip(now.read(k, block, paths[0]), was.read(k, before, paths[0]), strict=True)
                change_([f"{k}.{path}" for path in paths], _moments(read))
            now.advance_(k, block)
            was.advance_(k, before)


def _moments(read: Iterator[tuple[Tensor, Tensor]]) -> Moments:
    """Of what is read now and what was, [rows, inputs + 1] each."""
    x, x_0 = next(read)
    gram, lack = exact(x.T @ x), exact(x.T @ (x_0 - x))
    for x, x_0 in read:
        gram += exact(x.T @ x)
        lack += exact(x.T @ (x_0 - x))
    return Moments(gram, lack)


def _ignore(path: str, x: Tensor) -> None:
    """What is read need not be seen."""


class _Stream:
    """What flows into the next block of a network, batch by batch."""

    def __init__(self, calls: list[list[Call]], masks: list[Tensor | None]) -> None:
        self.calls, self.masks = calls, masks
        self.flows: list[Flow] = [(blocks[0].stream, None) for blocks in calls]

    def groups(self, k: int, block: nn.Module) -> list[list[str]]:
        """The layers that read the same tensor together, in the order in which they run."""
        seen: dict[int, tuple[Tensor, list[str]]] = {}  # what is kept here keeps its id for itself

        def see(path: str, x: Tensor) -> None:
            seen.setdefault(id(x), (x, []))[1].append(path)

        self._run(k, block, 0, see)
        return [paths for _, paths in seen.values()]

    def read(self, k: int, block: nn.Module, layer: str) -> Iterator[Tensor]:
        """Per batch what a layer reads with a one behind it, [rows, inputs + 1]; no padding."""
        seen: list[Tensor] = []

        def see(path: str, x: Tensor) -> None:
            if path == layer:
                seen.append(x)
                raise Stopped

        for i, mask in enumerate(self.masks):
            with suppress(Stopped):
                self._run(k, block, i, see)
            x = rows_that_count(seen.pop(), mask).float()
            yield torch.cat([x, x.new_ones(len(x), 1)], 1)

    def advance_(self, k: int, block: nn.Module) -> None:
        """Go on behind the block."""
        self.flows = [self._run(k, block, i) for i in range(len(self.flows))]

    def _run(self, k: int, block: nn.Module, i: int, see: See = _ignore) -> Flow:
        """Run `block` as block k on batch i; what its layers read is seen. Returns what flows
        out."""
        call = self.calls[i][k]
        with ExitStack() as hooks:
            for path, layer in zeros.linear(block).items():
                hooks.callback(layer.register_forward_pre_hook(_showing(see, path)).remove)
            flow: Flow = block(*self.flows[i], *call.args, **call.kwargs)
        return flow


def _showing(see: See, path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """The hook that shows what a layer reads."""
    return lambda layer, inputs: see(path, inputs[0])
