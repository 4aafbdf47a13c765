"""Pruning: zeros among the blocks' weights, or whole heads and MLP features removed.

A method says how (`METHODS`); for structured pruning a score says by what (`SCORES`). Adding a
method: a file beside this one that bears its name, and the name in `options.Method`. A pruning is
begun, the network is trained if it is to be, and the pruning is finished:

    pruning = METHODS["movement"].begin_(net, Aim(0.5))
    fit(net, data, how, hook=pruning.hook)
    pruned = pruning.finish_()
"""

from __future__ import annotations

from acn_compress import options
from acn_compress.compression.calibration import Batches
from acn_compress.compression.prune.method import (
    Aim,
    Method,
    Pruned,
    Pruning,
    check_one_of,
    share_asked,
)
from acn_compress.compression.prune.movement import Movement
from acn_compress.compression.prune.scores import SCORES, Score
from acn_compress.compression.prune.structured import Narrowed
from acn_compress.compression.prune.zeroed import Zeroed
from acn_compress.named import objects
from acn_compress.network.network import Network
from acn_compress.options import USUAL_SCOPES, Pattern, Scope

__all__ = [
    "Aim",
    "METHODS",
    "Method",
    "Movement",
    "Narrowed",
    "Pruned",
    "Pruning",
    "SCORES",
    "Score",
    "Zeroed",
    "method_named",
    "prune_",
]

METHODS: dict[str, Method] = objects(options.Method, __name__, "METHOD")


def method_named(name: str) -> Method:
    """The method of this name.

    Raises:
        ConfigError: listing those there are.
    """
    check_one_of("method", name, METHODS)
    return METHODS[name]


def prune_(
    net: Network,
    target_sparsity: float | None = None,
    method: str = "structured",
    scope: Scope | None = None,
    score: str = "obs",
    data: Batches | None = None,
    pattern: Pattern | None = None,
    seed: int = 0,
    refit: bool = True,
    uniform: bool = False,
    round_to: int = 1,
) -> Pruned:
    """Prune a loaded network in place and record it in its structure; no files, no training.

    Args:
        net: pruned in place.
        target_sparsity: a share in [0, 1), of the network as it comes; 0 changes nothing.
            magnitude, obs: share of zeros among the weight matrices of the blocks; zeros already
                there count. None with a pattern, which says it itself.
            structured: share of the parameters of the prunable units that is removed. Never more
                than asked; scope global falls short by less than one unit, scope layer by less than
                one unit of each width. At least one unit of every width stays.
        method: of `METHODS`.
        scope: where the share holds; None is "layer" for obs and "global" for the others.
            magnitude, obs: "global" is one threshold across all blocks, "layer" the same share in
            each matrix. structured: "global" ranks units across blocks by their score, "layer"
            removes the same share of each width.
        score: of `SCORES`, for structured.
        data: examples for what looks at some; random inputs stand in where there are none and a
            score can do with them.
        pattern: for magnitude and obs, of the zeros in every matrix.
        seed: of random inputs.
        refit: structured: what is left makes up for what went (`refit.refit_`), where the source
            has no zeros to keep.
        uniform: structured: every block keeps equally many heads and features, its own by their
            score; only such widths are cut as a config of the family can say, if that reaches the
            share and the network is in residual form.
        round_to: structured: what is left of a width has a multiple of so many features.
    Returns:
        What was reached: `Zeroed` or `Narrowed`.
    Raises:
        ConfigError: for a share that cannot be meant or reached, and for a method that needs
            training.
        VerificationError: if the cut network differs from the masked original.
    """
    how = method_named(method)
    share = share_asked(method, target_sparsity, pattern)
    where = scope or USUAL_SCOPES.get(method, "global")
    aim = Aim(share, where, score, data, pattern, seed, refit, uniform, round_to)
    how.check_training(False, "Call prune with both.")
    return how.begin_(net, aim).finish_()
