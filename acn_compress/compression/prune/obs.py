"""Optimal brain surgeon over single weights (SparseGPT, arXiv 2301.00774): those that the outputs
of their layer miss least become zero, and the others of the same output make up for them.

Layers are pruned in running order, each on the inputs it has in the network as already pruned, to
put out what it did in the unpruned one. What a zero costs and how it is made up for stands in
`compensated.py`, how many go where in `shares.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from acn_compress.compression.calibration import FEW, Batches, calibration, named, spread
from acn_compress.compression.prune import shares, zeroed
from acn_compress.compression.prune.compensated import Surgeon, zero_
from acn_compress.compression.prune.method import Aim, Method, Pruned, Pruning, Start
from acn_compress.compression.stream import Batch, Moments, walk_
from acn_compress.network import zeros
from acn_compress.network.network import Network
from acn_compress.tasks.base import features

ROWS = FEW  # that are looked at
CALIBRATED = " What is left makes up for the zeros on {} {}."


def prune_(net: Network, aim: Aim, start: Start) -> Pruning:
    """Set the weights to zero, now; nothing is touched where the share cannot be reached."""
    if aim.target > 0:
        examples = calibration(net, aim.data, ROWS, aim.seed)
        batches = [features(batch) for batch in spread(net, examples, ROWS)]
        zero_all_(net, aim, batches)
        start["note"] += _calibrated(batches, aim.data)
    found, check_held = zeroed.record_(net, aim, start), zeroed.holding_zeros(net)

    def finish_() -> Pruned:
        check_held()
        return found.weighed(net)

    return Pruning(finish_)


def _calibrated(batches: Sequence[Batch], data: Batches | None) -> str:
    """What was looked at."""
    rows = sum(len(next(iter(batch.values()))) for batch in batches)
    return CALIBRATED.format(rows, named(data))


def zero_all_(net: Network, aim: Aim, batches: Sequence[Batch]) -> None:
    """Zeros in all matrices, on the inputs that `batches` bring about."""
    layers, choices = zeros.layers(net), _choices(net, aim, batches)

    def has_bias(name: str) -> bool:
        return layers[name].bias is not None

    def change_(names: list[str], moments: Moments) -> None:
        for bias, some in groupby(sorted(names, key=has_bias), has_bias):
            solver = Surgeon.of(moments, bias)
            for name in some:
                zero_(layers[name], solver, choices[name])

    walk_(net, batches, change_)


def _choices(net: Network, aim: Aim, batches: Sequence[Batch]) -> shares.Choices:
    """Which weights of each layer go."""
    if aim.pattern is not None:
        return shares.of_pattern(net, aim.pattern)
    return shares.of_share(net, aim.target, aim.scope, batches)


METHOD = Method(
    name="obs",
    help="sets those weights to zero that are missed least and lets the others make up for them "
    "(looks at some of the data, or at random inputs)",
    note=zeroed.NOTE,
    prune_=prune_,
    looks_at_data=True,
)
