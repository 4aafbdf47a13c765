"""The layers that read the stream for a branch: queries, keys and values, the first layer of an
MLP. What is left of a narrower network leads its stream back as far as it can (`refit`); of what is
still missing there they read a part in what is there:

    minimise over A, a   sum over tokens  |x - x' - A x' - a|^2  +  ridge * |A|^2

x is what a branch reads in the whole network, x' in the cut one. The map goes into the layers that
read it: W (I + A) and b + W a. The ridge is what does best on examples held out; a branch whose
input cannot be bettered there stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from acn_compress.compression.least_squares import Solver
from acn_compress.compression.writers import write_, writers_of
from acn_compress.network import widths
from acn_compress.network.device import exact
from acn_compress.network.network import Network

Readers = tuple[str, ...]
"""Paths in a block of layers that read the same."""


def readers(net: Network) -> list[dict[int, Readers]]:
    """Of every block, by the number of a writer (of two that read one width, of the first), the
    layers that read what its branch reads. A layer that reads something else besides (DeBERTa's
    projections, of positions) is not among them."""
    found = [_candidates(net, k) for k in range(net.depth)]
    read: dict[nn.Module, list[Tensor]] = {}
    with ExitStack() as inside:
        for block, branches in zip(net.blocks, found, strict=True):
            for path in (path for paths in branches.values() for path in paths):
                layer = block.get_submodule(path)
                hook = partial(_keep, read.setdefault(layer, []))
                inside.callback(layer.register_forward_pre_hook(hook).remove)
        with torch.inference_mode(), net.evaluating():
            net(**net.example_inputs())
    return [
        {at: alike for at, paths in branches.items() if (alike := _alike(block, paths, read))}
        for block, branches in zip(net.blocks, found, strict=True)
    ]


def _candidates(net: Network, k: int) -> dict[int, Readers]:
    """What puts out the width that a writer reads."""
    found: dict[str, tuple[int, Readers]] = {}
    for at, writer in enumerate(writers_of(net, k)):
        found.setdefault(writer.name, (at, tuple(cut.path for cut in writer.width.outputs)))
    return dict(found.values())


def _keep(read: list[Tensor], layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    read.append(inputs[0])


def _alike(block: nn.Module, paths: Readers, read: dict[nn.Module, list[Tensor]]) -> Readers:
    """Those that are run once, on what the first of them reads."""
    seen = [(path, read[block.get_submodule(path)]) for path in paths]
    once = [(path, xs[0]) for path, xs in seen if len(xs) == 1]
    return tuple(path for path, x in once if torch.equal(x, once[0][1]))


def lead_(layers: Sequence[Any], solver: Solver) -> None:
    """Let layers read in the cut network what they read in the whole one, in place. `solver`: of
    what they read [rows, inputs] and what it lacks [rows, inputs]."""
    change = solver.best(all(getattr(layer, "bias", None) is not None for layer in layers))
    if change is None:
        return
    for layer in layers:
        write_(layer, change @ exact(widths.by_inputs(layer).detach()))
