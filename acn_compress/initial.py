"""Which blocks of a trained network a shallower one starts from, before it is trained.

The first ones are what `truncate` keeps, and a cut there is exact. What is trained afterwards may start from others. In a pre-norm network
all blocks add to one stream, so one that adds little can be left out wherever it lies. In a post-norm network every block replaces what
it read; there the loss before training says little about the loss after it. docs/method.md has the figures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from acn_compress import checkpoint, stack
from acn_compress.architectures import architecture_of
from acn_compress.budget import forward_flops, training_flops
from acn_compress.data import Data
from acn_compress.errors import ConfigError
from acn_compress.job import Job
from acn_compress.modeldir import Source
from acn_compress.quality import measure

Keep = Literal["first", "even", "best", "auto"]
EXAMPLES = 256  # on which blocks are chosen
CHEAP = 0.1  # of the training that follows: what "auto" lets choosing cost


def cut_(
    model: Any, depth: int, keep: str, job: Job, source: Source | None, reference: Any = None, *, examples: int | None = None
) -> float:
    """Cut the model to `depth` of its blocks, physically, in place.

    Args:
        keep: "first"; "even", spaced evenly, the first and the last among them; "best", what is left when the block whose absence costs
            the least loss is taken out again and again; or "auto": "best" in a pre-norm network whose training by `job` costs at least
            ten times what choosing does, "first" otherwise.
        job, source, reference: what will be trained on, as in `job.run_job`; "best" measures on a few examples of it.
        examples: how many there are to train on, where that is known; "auto" reads them to count them otherwise.
    Returns:
        The floating-point operations that choosing took.
    Raises:
        ConfigError: for another `keep`.
    """
    if keep not in get_args(Keep):
        raise ConfigError(f"keep is '{keep}', expected {', '.join(get_args(Keep))}.")
    architecture, structure = architecture_of(model.config), checkpoint.structure_of(model)
    blocks, spent = len(structure.blocks), 0.0
    if keep == "auto" and _post_norm(model):
        keep = "first"
    elif keep == "auto":
        examples = examples or len(job.train_split(model, source, reference))
        keep = "first" if _dear(model, depth, job.recipe.epochs, examples) else "best"
    kept = tuple(range(depth))
    if keep == "even" and depth > 1:
        kept = tuple(int(i) for i in np.linspace(0, blocks - 1, depth).round())
    elif keep == "best" and depth < blocks:
        few = replace(job, limit=EXAMPLES, augment=None).train_split(model, source, reference)
        spent = len(few) * _search(model, depth)
        kept = _best(model, depth, few)
    checkpoint.keep_blocks_(model, kept, architecture, structure)
    return spent


def _search(model: Any, depth: int) -> float:
    """Operations per example of taking blocks out one after the other until `depth` are left."""
    outside, block = forward_flops(model)
    return sum(n * (outside + (n - 1) * block) for n in range(depth + 1, len(checkpoint.structure_of(model).blocks) + 1))


def _dear(model: Any, depth: int, epochs: float, examples: int) -> bool:
    """Whether choosing costs more than a tenth of training."""
    whole = len(checkpoint.structure_of(model).blocks)
    training = epochs * examples * training_flops(model, depth=depth, teacher_depth=whole)
    return min(examples, EXAMPLES) * _search(model, depth) > CHEAP * training


def _post_norm(model: Any) -> bool:
    architecture = architecture_of(model.config)
    return any(branch.norm is not None for branch in architecture.branches(stack.blocks_of(model, architecture)[0]))


def _best(model: Any, depth: int, data: Data) -> tuple[int, ...]:
    left = list(range(len(checkpoint.structure_of(model).blocks)))
    gone: list[int] = []
    while len(left) > depth:
        out = min(left, key=lambda i: _loss_without(model, [*gone, i], data))
        left.remove(out)
        gone.append(out)
    return tuple(left)


def _loss_without(model: Any, gone: list[int], data: Data) -> float:
    """Mean loss while the blocks at `gone` add nothing, which is that of a network without them."""
    with stack.bypassing(model, architecture_of(model.config), gone):
        return measure(model, data).mean_loss
