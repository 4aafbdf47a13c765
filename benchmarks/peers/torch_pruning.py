"""Torch-Pruning's own choice (arXiv 2301.12900; isomorphic: 2407.04616), as its examples for
transformers make it: heads and features ranked over all layers, each kind in itself. It takes a
ratio of units, so the one that comes nearest to a share of parameters is looked for. It chooses;
what it chose is cut by the package, which comes to the same network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch_pruning
from torch import nn

from acn_compress.compression.calibration import FEW, Batches, spread
from acn_compress.compression.prune.cut import cut_checked_
from acn_compress.compression.prune.ranking import Choice, Drops, choices
from acn_compress.compression.prune.scores import SCORES
from acn_compress.compression.writers import writers
from acn_compress.data.load import Data
from acn_compress.network.network import Network, first_output
from acn_compress.tasks.base import features

TRIES = 12  # ratios that are tried
LAYERS = (nn.Linear, nn.Conv2d, nn.Embedding, nn.LayerNorm)


def taylor_(net: Network, share: float, rows: Data, seed: int) -> None:
    """By weights times gradients of the loss on labels."""
    _gradients(net, rows)
    _prune_(net, share, torch_pruning.importance.GroupTaylorImportance())
    net.model.zero_grad()


def magnitude_(net: Network, share: float, rows: Batches, seed: int) -> None:
    """By weights alone."""
    _prune_(net, share, torch_pruning.importance.GroupMagnitudeImportance(p=2))


def _gradients(net: Network, rows: Data) -> None:
    """Of the loss on labels, summed over the rows."""
    task = rows.task.of(net)
    with net.evaluating():
        for batch in spread(net, rows, FEW):
            task.score(net(**features(batch)), batch).loss.sum().backward()


def _prune_(net: Network, share: float, importance: Callable[..., Any]) -> None:
    """At the ratio that comes nearest to the share, among those at which it works at all."""
    # the scores are Torch-Pruning's: asked is what a unit costs
    found = choices(net, SCORES["magnitude"].units(net, None))
    total = sum(c.cost * c.units for c in found)
    best: Drops = [[] for _ in found]
    low, high, nearest = 0.0, 1.0, share
    for _ in range(TRIES):
        ratio = (low + high) / 2
        try:
            drops = chosen(net, found, ratio, importance)
        except ZeroDivisionError:  # where a layer would lose its last head
            high = ratio
            continue
        reached = sum(c.cost * len(d) for c, d in zip(found, drops, strict=True)) / total
        if abs(reached - share) < nearest:
            nearest, best = abs(reached - share), drops
        low, high = (ratio, high) if reached < share else (low, ratio)
    cut_checked_(net, found, best)


def chosen(
    net: Network, found: Sequence[Choice], ratio: float, importance: Callable[..., Any]
) -> Drops:
    """The units that Torch-Pruning would remove at a ratio; nothing is changed."""
    places = {writer.layer: (i, writer.cut.size) for i, writer in enumerate(writers(net))}
    drops: Drops = [[] for _ in found]
    for group in groups(net, found, ratio, importance):
        for dependency, indices in group:
            if dependency.target.module in places:
                i, size = places[dependency.target.module]
                drops[i] = sorted({index // size for index in indices})
    return drops


def groups(
    net: Network, found: Sequence[Choice], ratio: float, importance: Callable[..., Any]
) -> Iterator[Any]:
    """What it would prune together: each has a `prune()`, which is not called here."""
    producers = {
        net.blocks[c.block].get_submodule(cut.path): c for c in found for cut in c.width.outputs
    }
    pruner = torch_pruning.pruner.BasePruner(
        net.model,
        net.example_inputs(),
        importance=importance,
        global_pruning=True,
        isomorphic=True,
        pruning_ratio=ratio,
        head_pruning_ratio=ratio,
        prune_num_heads=True,
        prune_head_dims=False,
        num_heads={layer: c.units for layer, c in producers.items() if c.name == "heads"},
        in_channel_groups={},  # its defaults are dicts that all pruners share
        out_channel_groups={},
        ignored_layers=[
            m for m in net.model.modules() if isinstance(m, LAYERS) and m not in producers
        ],
        output_transform=lambda output: first_output(output).sum(),
    )
    yield from pruner.step(interactive=True)
