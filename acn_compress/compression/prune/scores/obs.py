"""Optimal Brain Surgeon over units (LeCun 1990; Hassibi 1993; by groups Kurtic et al., ZipLM, arXiv
2302.04089): what the loss rises by when a unit goes and the others make up for it as well as they
can.

Per layer, with C the second moments of what it reads, weighted by squared gradients, and G those of
the gradients of what it writes (K-FAC, arXiv 1503.05671), A = G^1/2 W and H = (C + damping)^-1:

    cost of unit u      tr(A_u H_uu^-1 A_u^T)
    after it is gone    A -= A_u H_uu^-1 H_u:      H -= H_:u H_uu^-1 H_u:

Heads go one by one, features some at a time. Costs that only fall because others went before are
raised to theirs, so that the order of a layer is kept in a ranking over all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from acn_compress.compression.backwards import moments_of
from acn_compress.compression.calibration import Batches, calibration
from acn_compress.compression.prune.scores.score import Score, Units, by_block
from acn_compress.compression.statistics import Moments
from acn_compress.compression.writers import Writer, writers, writers_of
from acn_compress.network.device import exact
from acn_compress.network.network import Network

DAMPING = 1e-2  # of the mean second moment; 1e-4 to 1e-1 made no real difference
SHARE = 0.03  # of the features that are left, which go at a time
HELD = 0.75  # of the units held, that are left when the memory of the others is let go
MEMORY = 5 << 28  # bytes of moments that may be held at a time: all of a BERT-base's


def obs(net: Network, data: Batches | None) -> Units:
    """Of every unit, the rise of the loss per example, in nats."""
    scores = [
        [path(writer, of_it) for writer, of_it in zip(found, of_them, strict=True)]
        for found, of_them in moments_of(net, calibration(net, data), _stages(net))
    ]
    return by_block(net, writers(net), [cost for stage in reversed(scores) for cost in stage])


def _stages(net: Network) -> list[range]:
    """All blocks, as many at a time as their moments may take memory."""
    stages: list[list[int]] = []
    room = 0
    for k in range(net.depth):
        shapes = [writer.weight.shape for writer in writers_of(net, k)]
        size = sum(8 * (features**2 + out**2) for out, features in shapes)
        if not stages or size > room:
            stages.append([])
            room = MEMORY
        stages[-1].append(k)
        room -= size
    return [range(stage[0], stage[-1] + 1) for stage in stages]


def path(writer: Writer, found: Moments) -> Tensor:
    """The cost of every unit of a writer [units], from taking one after the other; float64. Its
    moments are used up."""
    size, units = writer.cut.size, writer.width.units
    weight, inverse = _in_the_metric(exact(writer.weight), found)
    held = torch.arange(units, device=weight.device)  # the units of `weight` and `inverse`
    alive = torch.ones(units, dtype=torch.bool, device=weight.device)
    costs, least = torch.zeros(units, dtype=torch.float64), 0.0
    while len(ids := alive.nonzero()[:, 0]) > 0:
        if len(ids) < HELD * len(held):
            index = _features(ids, size)
            weight, inverse = weight[:, index], inverse[index][:, index]
            held, alive, ids = held[ids], alive[ids], torch.arange(len(ids), device=ids.device)
        now = _costs(weight, inverse, ids, size)
        go = now.argsort(stable=True)[: 1 if size > 1 else max(1, int(SHARE * len(ids)))]
        for place in go.tolist():
            # a little more for each, so that the order stays where costs are equal
            least = max(least * (1 + 1e-9), float(now[place]), 1e-300)
            costs[held[ids[place]]] = least
        _remove_(weight, inverse, ids[go], size)
        alive[ids[go]] = False
    return costs


def _in_the_metric(weight: Tensor, found: Moments) -> tuple[Tensor, Tensor]:
    """A [out, in] and H [in, in], float32, scaled so that the second moments are about one."""
    values, vectors = torch.linalg.eigh(found.outputs)
    root = (vectors * values.clamp_min(0).sqrt()).T
    features = weight.shape[1]
    square = found.inputs  # in place, as such squares are larger than the network's layers
    mean = square.diagonal()[:features].mean().clamp_min(torch.finfo(square.dtype).tiny)
    square.diagonal()[:features] += DAMPING * mean
    # the bias takes part and is not held back; it is never removed
    square.diagonal()[features:] += 1e-9 * square.diagonal()[features:] + 1e-12 * mean
    factor, failed = torch.linalg.cholesky_ex(square)
    whole = torch.linalg.inv(square) if failed else torch.cholesky_inverse(factor, out=factor)
    inverse = whole[:features, :features].mul_(mean).float().contiguous()
    return (root @ weight * mean.sqrt()).float(), inverse


def _costs(weight: Tensor, inverse: Tensor, ids: Tensor, size: int) -> Tensor:
    """Of the units that are left: [len(ids)]."""
    if size == 1:
        own = inverse.diagonal()[ids].clamp_min(torch.finfo(inverse.dtype).tiny)
        return weight[:, ids].square().sum(0) / own
    index = _features(ids, size).view(-1, size)
    own = inverse[index[:, :, None], index[:, None, :]]
    parts = weight[:, index].transpose(0, 1)  # [units, out, size]
    return torch.einsum("uij,uij->u", torch.linalg.solve(own, parts, left=False), parts)


def _remove_(weight: Tensor, inverse: Tensor, units: Tensor, size: int) -> None:
    """Take units out and let the rest make up for them, in place."""
    index = _features(units, size)
    rows = inverse[index]
    share = torch.linalg.solve(rows[:, index], rows)
    weight -= weight[:, index] @ share
    inverse -= inverse[:, index] @ share
    weight[:, index], inverse[index], inverse[:, index] = 0.0, 0.0, 0.0
    inverse[index, index] = 1.0


def _features(units: Tensor, size: int) -> Tensor:
    """Of some units, in their order."""
    return (units[:, None] * size + torch.arange(size, device=units.device)).flatten()


SCORE = Score(
    name="obs",
    help="what the loss rises by when a unit goes and the others make up for it",
    of=obs,
    adds_up=True,
)
