"""FLAP, "Fluctuation-based Adaptive Structured Pruning" (arXiv 2312.11983), from the paper and its
reference code: units whose inputs to the next layer hardly fluctuate go, and what they write on
average goes into its bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from acn_compress.compression.calibration import ROWS, Batches, spread
from acn_compress.compression.prune.cut import cut_checked_
from acn_compress.compression.prune.ranking import choices, everywhere
from acn_compress.compression.prune.scores.score import by_block
from acn_compress.compression.writers import Writer, rows_that_count, watching, write_, writers
from acn_compress.network.network import Network
from acn_compress.network.threads import threads_for
from acn_compress.tasks.base import features


@dataclass
class Fluctuation:
    """What a writer reads, over all tokens but padding: sums of [features]."""

    rows: int = 0
    sum: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        """[rows, features] more."""
        self.rows += len(x)
        self.sum, self.squares = self.sum + x.sum(0), self.squares + x.square().sum(0)

    @property
    def mean(self) -> Tensor:
        return torch.as_tensor(self.sum) / self.rows

    @property
    def variance(self) -> Tensor:
        return torch.as_tensor(self.squares) / self.rows - self.mean.square()


def prune_(net: Network, share: float, rows: Batches, seed: int) -> None:
    """Choose, add the biases and cut."""
    layers, seen = writers(net), fluctuations(net, rows)
    scores = [score(writer, of_it) for writer, of_it in zip(layers, seen, strict=True)]
    found = choices(net, by_block(net, layers, scores))
    drops = everywhere(found, share)
    before = [writer.weight.double() for writer in layers]
    cut_checked_(net, found, drops)
    for writer, weight, of_it, drop in zip(layers, before, seen, drops, strict=True):
        write_(writer.layer, bias_change(writer, weight, of_it.mean, drop))


def fluctuations(net: Network, rows: Batches) -> list[Fluctuation]:
    """Of every writer, in one pass."""
    found = writers(net)
    sums = [Fluctuation() for _ in found]
    with torch.no_grad(), net.evaluating(), threads_for(net), watching(found) as seen:
        for batch in spread(net, rows, ROWS):
            net(**(given := features(batch)))
            for so_far, slot in zip(sums, seen, strict=True):
                so_far.add(rows_that_count(slot.x, given.get("attention_mask")).double())
    return sums


def score(writer: Writer, seen: Fluctuation) -> Tensor:
    """The metric WIFV (section 3.2): the variance of a feature times the squared norm of the
    weights that read it; standardised over its layer (section 3.3), and the mean over a unit. As
    in the reference code it is squared in attention."""
    metric = seen.variance * writer.weight.double().square().sum(0)
    metric = metric.square() if writer.cut.size > 1 else metric
    standard = (metric - metric.mean()) / metric.std()
    return standard.view(writer.width.units, -1).mean(1)


def bias_change(writer: Writer, weight: Tensor, mean: Tensor, drop: Sequence[int]) -> Tensor:
    """Section 3.4: what the dropped units wrote on average; no weight changes."""
    gone = (torch.tensor(drop, dtype=torch.long)[:, None] * writer.cut.size) + torch.arange(
        writer.cut.size
    )
    change = weight.new_zeros(writer.weight.shape[1] + 1, len(weight))
    change[-1] = weight[:, gone.flatten()] @ mean[gone.flatten()]
    return change
