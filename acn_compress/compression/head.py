"""The layer that answers. It reads what is left of a network, so it is solved for last, as what
writes into the stream is (`refit`): by least squares it is to say what the whole network says.

    minimise over W, b   sum over rows  |z - W x - b|^2  +  ridge * |W - W_0|^2

x is what it reads in the cut network, z what it says in the whole one: logits or other numbers, of
an example or of a token. The ridge is what does best on examples held out; a layer that cannot be
bettered there stays. The words of a language model are not solved for: their layer may be the
embedding, and is as large as the network.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor, nn

from acn_compress.compression.least_squares import Rows, Solver
from acn_compress.compression.writers import Seen, rows_that_count, watching_layers, write_
from acn_compress.network.network import Network


class End(NamedTuple):
    """A batch, and where two networks lead with it.

    Args:
        number: of the batch.
        given: what the models are called with.
        net, whole: y behind all blocks of the cut network and of the whole one; None where they
            have to be run for it.
    """

    number: int
    given: dict[str, Tensor]
    net: Tensor | None = None
    whole: Tensor | None = None


def solve_(net: Network, whole: Network, ends: Iterable[End]) -> float:
    """Solve the layer that answers, in place; the parameters of `whole` stay.

    Returns:
        The floating-point operations it took, without those of the networks.
    """
    if (name := answering(net)) is None:
        return 0.0
    layer, solver = net.model.get_submodule(name), Solver()
    for end in ends:
        mask = net.counted(end.given)
        here = _read(net, name, end.given, end.net)
        lack = _read(whole, name, end.given, end.whole).out - here.out
        rows = (rows_that_count(part, mask).float() for part in (here.x, lack))
        solver.add(Rows(*rows), end.number)
    width, inputs = layer.out_features, layer.in_features
    solver.share_(inputs, width, net.device)
    write_(layer, solver.best(layer.bias is not None))
    return solver.flops


def answering(net: Network) -> str | None:
    """The name of the linear layer whose output is the answer; None where there is none."""
    behind = {
        name: module
        for name, module in net.model.named_modules()
        if isinstance(module, nn.Linear) and module is not net.model.get_output_embeddings()
    }
    with torch.inference_mode(), net.evaluating(), watching_layers(list(behind.values())) as seen:
        answer = net.answer(**net.example_inputs())
    said = (name for name, slot in zip(behind, seen, strict=True) if _same(slot.out, answer))
    return next(said, None)


def _same(out: Tensor, answer: Tensor) -> bool:
    return out.numel() == answer.numel() and torch.equal(out.flatten(), answer.flatten())


def _read(net: Network, name: str, given: dict[str, Tensor], y: Tensor | None) -> Seen:
    """What the layer reads and says."""
    with ExitStack() as inside:
        if y is not None:
            inside.enter_context(net.injecting(y))
        (seen,) = inside.enter_context(watching_layers([net.model.get_submodule(name)]))
        net(**given)
    return seen
