"""Least-squares refit: without training, a network that lost blocks, heads or MLP features is led
back to what the whole one computed.

The network is linear in the layers that write into its stream (`writers.py`), so each is solved for
in closed form, in the order in which they run, on a few examples, with the inputs it has in the
network as cut and refitted so far:

    minimise over W, b   sum over tokens  w * |missing - dW x - db|^2  +  ridge * |dW|^2

`missing` is what the writer has to add for the network to be where the whole one is. Where no block
is left out behind it, that is the stream behind its own branch; in a post-norm block the sum in
front of the norm. In a form whose stream is not the sum (alpha below 1) the next layer reads one
and the answer the other, and `missing` is the mean of what the two lack. In front of a gap it is
the whole network's prefix sum y before the next block that was kept; in a post-norm network that
goal is brought through the inverse of the norm in front of the gap, and only the MLP is solved for.
Where blocks were left out, tokens weigh behind the last as much as the answer depends on them: a
head that reads one token needs that one. The ridge is what does best on a quarter of the examples
held out; a layer that cannot be bettered there stays. Nothing is added: the layers have the shapes
they had.

Where blocks lost units, what a branch reads is led back before its writer is (`readers.py`). Last
comes the layer that answers (`head.py`), where there were examples and not random inputs: on
those it would learn to say what nobody asks (digits, 70 % cut: 95.6 % before, 93.9 after).

Both networks are walked through once, block by block, for all examples side by side: the cost is
linear in depth. Reconstruction by least squares after pruning: He et al., arXiv 1707.06168; in
place of removed blocks: Shopkhoev et al., arXiv 2505.02819; of pruned widths: arXiv 2602.23795.
"""

from __future__ import annotations

import torch
from torch import Tensor

from acn_compress import processes
from acn_compress.compression import head
from acn_compress.compression.calibration import ROWS, Batches, RandomInputs
from acn_compress.compression.goals import first_changed, goals
from acn_compress.compression.least_squares import Solver
from acn_compress.compression.walk import Change, Walk
from acn_compress.compression.writers import Writer, writers
from acn_compress.errors import ConfigError
from acn_compress.network.network import Network
from acn_compress.network.threads import threads_for

EXAMPLES = ROWS  # that a refit is solved on


def least_squares(writer: Writer, solver: Solver) -> Tensor | None:
    """Its whole weight and its bias, where it has one."""
    return solver.best(getattr(writer.layer, "bias", None) is not None)


def refit_(
    net: Network,
    whole: Network,
    data: Batches,
    rows: int = EXAMPLES,
    change: Change = least_squares,
    writers_alone: bool = False,
) -> float:
    """Solve the writers of `net` so that it follows `whole`, in place. Blocks in front of the first
    that lost something stay as they are.

    Args:
        net: what is left of `whole`: some of its blocks, or blocks with some of their heads and
            features, in any form (post-norm families with fewer blocks: residual).
        whole: the network it was cut from; it may share the parameters of `net`, which are
            replaced, not written to.
        data: a few examples.
        rows: about how many of them it is solved on, evenly spread, at most.
        change: how each writer is solved for.
        writers_alone: neither what reads nor the layer that answers is solved for.
    Returns:
        The floating-point operations it took.
    Raises:
        ConfigError: if `net` was not cut from `whole`, has zeros to keep, or is a hybrid of a
            post-norm family that lost blocks.
    """
    if (why := refused(net, whole)) is not None:
        raise ConfigError(why)
    if (first := first_changed(net, whole)) == net.depth:
        return 0.0
    return processes.together(_refit_, net, whole, data, rows, change, writers_alone, first)


def _refit_(
    net: Network,
    whole: Network,
    data: Batches,
    rows: int,
    change: Change,
    writers_alone: bool,
    first: int,
) -> float:
    """In every process on a part of the batches: the normal equations are sums over all of them, so
    that each comes to the same weights."""
    with threads_for(net), torch.no_grad(), net.evaluating(), whole.evaluating():
        walk = Walk.begin(net, whole, data, rows, change, reads=not writers_alone)
        walk.refit_(first)
        if not writers_alone and not isinstance(data, RandomInputs):
            walk.flops += head.solve_(net, whole, walk.ends(data, rows))
    (total_flops,) = processes.summed(torch.tensor(walk.flops, dtype=torch.float64))
    return float(total_flops)


def refused(net: Network, whole: Network | None = None) -> str | None:
    """Why a network cannot be refitted, or None. `whole`: what it was cut from; None is a network
    that is to lose blocks."""
    if not writers(net):
        return f"nothing of this '{net.family.model_type}' can be solved for: no width is its own."
    own = net.structure
    if own.sparsity > 0:
        return "a refit would fill the zeros of a pruned model. Refit first, prune then."
    if own.form == "residual" or net.norm_behind(0) is None:
        return None
    if whole is None or any(goal.gap for goal in goals(net, whole)):
        return (
            "a post-norm network is refitted in residual form; "
            f"this one is in {own.form} form. Refit first, convert then."
        )
    return None
