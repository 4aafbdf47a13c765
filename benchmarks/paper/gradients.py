"""Which part of a block's gradient comes over its own long connection alone.

With the loss E, the output sum y_L = x_0 + x_1 + ... + x_L, its gradient g = dE/dy_L, and theta_i
the parameters of block i, which adds x_i = F_i(h_{i-1}) to the sum:

    full gradient     FG_i = dE/dtheta_i
    direct gradient   DG_i = (dx_i/dtheta_i)^T g
                      what reaches block i over its own long connection, no other block in between
    through the net   NG_i = (d(y_L - y_i)/dtheta_i)^T g = FG_i - DG_i
                      what reaches it through the blocks behind it

All three are vectors over all parameters of the block; the ratio is that of their Euclidean norms,
||DG_i|| / ||FG_i||. The last block has no block behind it, so its ratio is 1 by definition; a ratio
above 1 means that NG_i points against DG_i. In a residual network y_L is the last hidden state and
the same definitions hold: the direct path is the chain of skips.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from acn_compress.found import Found
from acn_compress.network.network import Network
from acn_compress.tasks import Task, features


class Shares(Found):
    """Per block: `ratio` ||DG_i|| / ||FG_i||, and `part`, the share of ||FG_i|| in the sum over all
    blocks."""

    ratio: list[float]
    part: list[float]


def block_gradients(
    net: Network, batch: dict[str, Tensor], task: Task
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """DG_i, NG_i and FG_i of every block, each [parameters of the block], of the mean loss over
    `batch`."""
    with net.recording() as prefixes:
        loss = _loss(net, batch, task)
    g, last, found = _at_the_sum(net, batch, task, prefixes[-1]), prefixes[-1], []
    for i, block in enumerate(net.blocks, 1):
        parameters = [p for p in block.parameters() if p.requires_grad]
        # y_{i-1} does not depend on block i, so the difference sees theta_i through x_i alone
        direct = _gradient(prefixes[i] - prefixes[i - 1], parameters, g)
        behind = torch.zeros_like(direct)
        if i < net.depth:
            behind = _gradient(last - prefixes[i], parameters, g)
        found.append((direct, behind, _gradient(loss, parameters)))
    return found


def shares(net: Network, batch: dict[str, Tensor], task: Task) -> Shares:
    """The norms of `block_gradients`, compared."""
    gradients = block_gradients(net, batch, task)
    full = [float(fg.norm()) for _, _, fg in gradients]
    direct = [float(dg.norm()) for dg, _, _ in gradients]
    return Shares(
        ratio=[round(d / max(f, 1e-30), 4) for d, f in zip(direct, full, strict=True)],
        part=[round(f / max(sum(full), 1e-30), 4) for f in full],
    )


def _loss(net: Network, batch: dict[str, Tensor], task: Task) -> Tensor:
    """The mean over the batch."""
    return task.score(net(**features(batch)), batch).loss.mean()


def _at_the_sum(net: Network, batch: dict[str, Tensor], task: Task, y: Tensor) -> Tensor:
    """g, shaped as y_L: the gradient through norm, pooling and head alone."""
    y = y.detach().requires_grad_()
    with net.injecting(y):
        (g,) = torch.autograd.grad(_loss(net, batch, task), y)
    return g


def _gradient(output: Tensor, parameters: Sequence[Tensor], g: Tensor | None = None) -> Tensor:
    """The gradient of `output`, weighted with `g`, as one vector; zeros where a parameter has no
    part in it."""
    found = torch.autograd.grad(output, parameters, g, retain_graph=True, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
