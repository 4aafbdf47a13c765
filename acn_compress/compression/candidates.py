"""Smaller networks of a trained one: what every part of it is worth, and what a plan of what stays
(`search.py`) makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from acn_compress.compression import refit
from acn_compress.compression.blocks import MadeUpFor, least_missed, may_go
from acn_compress.compression.calibration import Batches
from acn_compress.compression.prune import cut, ranking
from acn_compress.compression.prune.ranking import Choice
from acn_compress.compression.prune.scores import SCORES, Units
from acn_compress.compression.search import Array, Kept, Worth
from acn_compress.compression.writers import writers
from acn_compress.network import widths
from acn_compress.network.network import Network

# of the rise of the loss without a block, what stays once the others make up for it; a guess, which
# decides only which candidates are measured. What stays as it is measured does not stand beside the
# costs of units: those are foreseen, and blocks seem dear then (a ViT kept all of its twelve)
MADE_UP_FOR = 0.2


@dataclass(frozen=True)
class Candidates:
    """What can be made of a trained network.

    Args:
        net: not changed.
        data: rows that it is looked at with; labels are not.
        scores: of every unit, what the loss rises by without it, in nats per example.
        gone: blocks that may go, in the order in which they are missed least, each with what the
            loss is foreseen to rise by without it and those before it.
    """

    net: Network
    data: Batches
    scores: Units
    gone: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(cls, net: Network, data: Batches) -> Candidates:
        """Look at a network: its statistics on `FEW` rows, and its blocks on `weighed_on`."""
        scores = SCORES["obs"].units(net, data)
        if not _blocks_may_go(net):
            return cls(net, data, scores)
        gone = min(len(net.removable), net.depth - 1)
        order = least_missed(net, data, may_go(net, gone), gone, MadeUpFor(data))
        return cls(net, data, scores, tuple((k, MADE_UP_FOR * rise) for k, rise in order))

    def worth(self) -> list[Worth]:
        """Of every block."""
        return [{name: _rises(score) for name, score in block.items()} for block in self.scores]

    def make(self, plan: Sequence[Kept | None], rows: int = refit.EXAMPLES) -> Network:
        """The network of a plan, cut and refitted on so many rows; it shares what was not changed.

        Raises:
            VerificationError: if the cut network is not the masked original.
        """
        made = self.net.twin()
        choices = ranking.choices(made, self.scores)
        cut.cut_checked_(made, choices, [_drops(c, plan[c.block]) for c in choices])
        kept = [place for place, block in enumerate(plan) if block is not None]
        if len(kept) < self.net.depth:
            made.keep_(kept)
        if refit.refused(made, self.net) is None:
            refit.refit_(made, self.net, self.data, rows)
        return made

    @cached_property
    def size(self) -> Parameters:
        """Of the network's parts."""
        return Parameters.of(self.net)

    def parameters(self, plan: Sequence[Kept | None]) -> int:
        """Of the network of a plan."""
        price = self.size
        return round(price.outside + sum(price(i, k) for i, k in enumerate(plan) if k is not None))


@dataclass(frozen=True)
class Parameters:
    """What parts of a network cost in parameters.

    Args:
        outside: what lies outside the blocks.
        fixed: of every block, whatever its widths.
        unit: of every block, of one unit of a width.
    """

    outside: float
    fixed: tuple[float, ...]
    unit: tuple[dict[str, int], ...]

    @classmethod
    def of(cls, net: Network) -> Parameters:
        """Of a network."""
        unit = tuple(
            {n: widths.unit_parameters(block, w) for n, w in net.family.widths(block).items()}
            for block in net.blocks
        )
        whole = [sum(p.numel() for p in block.parameters()) for block in net.blocks]
        prunable = [
            sum(cost[name] * n for name, n in counts.items())
            for cost, counts in zip(unit, widths.counts(net), strict=True)
        ]
        fixed = tuple(float(a - b) for a, b in zip(whole, prunable, strict=True))
        return cls(net.parameters - sum(whole), fixed, unit)

    def __call__(self, block: int, kept: Mapping[str, int]) -> float:
        """Of a block that keeps so many units."""
        return self.fixed[block] + sum(self.unit[block][name] * n for name, n in kept.items())


def _blocks_may_go(net: Network) -> bool:
    """Whether a network can be refitted where blocks were left out, or has nothing to refit."""
    return net.depth > 1 and (not writers(net) or refit.refused(net) is None)


def _rises(score: Tensor) -> Array:
    """[units + 1]: with so many units kept, what the loss rises by without the others."""
    ascending = np.sort(score.double().numpy())
    return np.concatenate([[0.0], np.cumsum(ascending)])[::-1]


def _drops(choice: Choice, kept: Kept | None) -> list[int]:
    """The units that go; of a block that goes as a whole, none."""
    gone = 0 if kept is None else choice.units - kept[choice.name]
    return choice.scores.argsort(stable=True)[:gone].tolist()
