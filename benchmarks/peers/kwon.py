"""Kwon et al. 2022, "A Fast Post-Training Pruning Framework for Transformers" (arXiv 2204.09656),
from the paper. Departures: squared gradients are of answers drawn from the network's own, as for
every score here, not of labels; what is counted is parameters, not operations; one unit of every
width stays; a tuned mask is multiplied into the weights behind it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from acn_compress.compression.calibration import FEW, Batches
from acn_compress.compression.least_squares import Solver
from acn_compress.compression.prune.cut import cut_checked_
from acn_compress.compression.prune.ranking import Choice, Drops, choices
from acn_compress.compression.prune.scores.gates import gates
from acn_compress.compression.prune.scores.score import by_block
from acn_compress.compression.refit import refit_
from acn_compress.compression.statistics import flows
from acn_compress.compression.writers import Writer, writers
from acn_compress.network.network import Network

FARTHEST = 10.0  # a tuned mask may be from one (section 4.3: masks lie in [-10, 10])
DAMPING = 1.0  # of the least squares (section 4.3)


def prune_(net: Network, share: float, rows: Batches, seed: int) -> None:
    """Search, rearrange, cut and tune."""
    whole, fisher = net.twin(), informations(net, rows, seed)
    units = by_block(net, writers(net), [square.diagonal() for square in fisher])
    found = choices(net, units)
    drops = [rearranged(d, f) for d, f in zip(search(found, share), fisher, strict=True)]
    cut_checked_(net, found, drops)
    refit_(net, whole, rows, change=Tuning(), writers_alone=True)


def informations(net: Network, rows: Batches, seed: int) -> list[Tensor]:
    """The Fisher information of the masks of every writer, [units, units] (section 3.3)."""
    found = writers(net)
    squares = [torch.zeros((w.width.units,) * 2, dtype=torch.float64) for w in found]
    for batch in flows(net, rows, found, FEW, seed):
        for square, writer, flow in zip(squares, found, batch, strict=True):
            gradient = gates(writer, flow).double()
            square += gradient.T @ gradient
    return squares


def search(found: Sequence[Choice], share: float) -> Drops:
    """Section 4.1, algorithm 1: for every number of heads that go, those worth least and as many
    features as fit into the share; of all these the masks that lose least on the diagonal."""
    *heads, second = (_ascending(found, kind) for kind in dict.fromkeys(c.name for c in found))
    first = heads[0] if heads else []  # MPNet's cannot go: all blocks share one bias of positions
    budget = round(share * sum(c.cost * c.units for c in found))
    least, best = torch.inf, (0, 0)
    lost, lost_second = (_cumulated(kind) for kind in (first, second))
    cost, cost_second = (found[kind[0][1]].cost if kind else 0 for kind in (first, second))
    for n in range(len(first) + 1):
        m = (budget - n * cost) // cost_second
        if 0 <= m <= len(second) and lost[n] + lost_second[m] < least:
            least, best = lost[n] + lost_second[m], (n, m)
    drops: Drops = [[] for _ in found]
    for _, i, unit in first[: best[0]] + second[: best[1]]:
        drops[i].append(unit)
    return drops


def _ascending(found: Sequence[Choice], kind: str) -> list[tuple[float, int, int]]:
    """(score, choice, unit) of all units of a kind but the best of each width, which stays."""
    return sorted(
        (float(c.scores[unit]), i, unit)
        for i, c in enumerate(found)
        if c.name == kind
        for unit in c.scores.argsort(stable=True)[:-1].tolist()
    )


def _cumulated(kind: Sequence[tuple[float, int, int]]) -> list[float]:
    """What is lost with the first so many."""
    return torch.tensor([0.0, *(score for score, _, _ in kind)]).double().cumsum(0).tolist()


def rearranged(drop: Sequence[int], fisher: Tensor) -> list[int]:
    """Section 4.2: the same number of units of a layer, exchanged one by one for those whose
    gradients cancel better: sum over pairs of dropped units, of the whole block."""
    gone = torch.zeros(len(fisher), dtype=torch.bool)
    gone[list(drop)] = True
    if not drop:
        return []
    pull = fisher[:, gone].sum(1)  # of all dropped units on each
    kept = (~gone).nonzero()[:, 0]
    for unit in kept[fisher.diagonal()[kept].argsort(stable=True)].tolist():
        gone[unit] = True
        pull += fisher[:, unit]
        # without one of them the sum over pairs is smaller by this
        smaller = (2 * pull - fisher.diagonal()).masked_fill(~gone, -torch.inf)
        back = int(smaller.argmax())
        gone[back] = False
        pull -= fisher[:, back]
    return gone.nonzero()[:, 0].tolist()


class Tuning:
    """Section 4.3: one factor for every unit that is left, so that the stream behind the branch is
    the whole network's, by damped least squares around one, layer by layer; over with the first
    layer whose factors go too far."""

    def __init__(self) -> None:
        self.over = False

    def __call__(self, writer: Writer, solver: Solver) -> Tensor | None:
        """The change of a writer's weight; the bias stays."""
        units, size = writer.width.units, writer.cut.size
        weight, rows = writer.weight.double(), solver.normal_()
        assert rows.gram is not None and rows.cross is not None
        features = weight.shape[1]
        gram, cross = rows.gram[:features], rows.cross[:features]
        pairs = (weight.T @ weight * gram[:, :features]).view(units, size, units, size).sum((1, 3))
        wanted = (weight.T * cross).sum(1).view(units, size).sum(1)
        factors = torch.linalg.solve(pairs + DAMPING * torch.eye(units).double(), wanted)
        self.over = self.over or bool((1 + factors).abs().max() > FARTHEST)
        if self.over:
            return None
        change = weight.T * factors.repeat_interleave(size)[:, None]
        return torch.cat([change, change.new_zeros(1, change.shape[1])])
