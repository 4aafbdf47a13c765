"""What a shallower network starts from, before it is trained: some blocks of a trained one,
refitted to do the work of all.

The first blocks are what `truncate` keeps, and a cut there is exact. What is trained afterwards may
start from others. In a pre-norm network all blocks add to one stream, so one that adds little can
be left out wherever it lies. In a post-norm network every block replaces what it read; there the
blocks are spread, and the last one stays, which the head knows. docs/method.md has the figures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from acn_compress.checkpoint.directory import Source
from acn_compress.compression import refit
from acn_compress.data.load import Data
from acn_compress.errors import ConfigError
from acn_compress.measure.budget import forward_flops, training_flops
from acn_compress.measure.quality import outputs
from acn_compress.network.network import Network
from acn_compress.tasks import Scored, distillation, score
from acn_compress.training.job import Job

Keep = Literal["first", "even", "best", "auto"]
EXAMPLES = 64  # on which blocks are chosen
DEEP = (
    0.25  # share of the blocks up to which choosing them was worth what it costs (docs/method.md)
)
TEMPERATURE = 2.0  # of the answers that choosing compares
CHEAP = 0.1  # of the training that follows: what "auto" lets choosing cost
SHARE = 0.25  # of the training that follows: about what a refit may cost


def cut_(
    net: Network,
    depth: int,
    keep: str,
    job: Job,
    source: Source | None,
    reference: Network | None = None,
    *,
    refitted: bool | None = False,
    examples: int | None = None,
) -> float:
    """Cut the model to `depth` of its blocks, physically, in place.

    Args:
        keep: "first"; "even", spaced evenly, the first and the last among them; "best", what is
            left when the block without which the answers change least is taken out again and again;
            or "auto": in a pre-norm network "best" for a cut to a quarter of the blocks or less
            whose training by `job` costs at least ten times what choosing does, in a post-norm one
            "even" if it is refitted, otherwise "first".
        job, source, reference: what will be trained on, as in `job.run_job`; "best" and the refit
            look at a few examples of it.
        refitted: solve the kept blocks' output layers so that they follow the whole network
            (`refit.refit_`), on as many examples as cost a quarter of the training, at most 2048;
            with fewer than 64 they stay. None does it where it can be done.
        examples: how many there are to train on, where that is known; "auto" reads them to count
            them otherwise.
    Returns:
        The floating-point operations that this took.
    Raises:
        ConfigError: for another `keep`.
    """
    if keep not in get_args(Keep):
        raise ConfigError(f"keep is '{keep}', expected {', '.join(get_args(Keep))}.")
    structure = net.structure
    refitted = refit.refused(net) is None if refitted is None else refitted
    blocks, spent, training = len(structure.blocks), 0.0, 0.0
    spread = net.norm_behind(0) is not None
    if refitted or (keep == "auto" and not spread):
        examples = examples or len(job.train_split(net, source, reference))
        training = (
            job.recipe.epochs * examples * training_flops(net, depth=depth, teacher_depth=blocks)
        )
    if keep == "auto" and spread:
        keep = "even" if refitted else "first"
    elif keep == "auto":
        keep = (
            "best"
            if depth <= DEEP * blocks and EXAMPLES * _search(net, depth) <= CHEAP * training
            else "first"
        )
    kept = tuple(range(depth))
    if keep == "even" and depth > 1:
        kept = tuple(int(i) for i in np.linspace(0, blocks - 1, depth).round())
    elif keep == "best" and depth < blocks:
        few = replace(job, limit=EXAMPLES, augment=None).train_split(net, source, reference)
        spent = len(few) * _search(net, depth)
        kept = _best(net, depth, few)
    whole = net.twin() if refitted else None
    net.keep_(kept)
    if whole is not None and (price := refit.price(net, whole)):
        affordable = min(int(SHARE * training / price), refit.EXAMPLES, job.limit or refit.EXAMPLES)
        if affordable >= EXAMPLES:
            few = replace(job, limit=affordable, augment=None).train_split(net, source, reference)
            spent += refit.refit_(net, whole, few)
    return spent


def _search(net: Network, depth: int) -> float:
    """Operations per example of taking blocks out one after the other until `depth` are left."""
    outside, block = forward_flops(net)
    whole = net.depth
    return (
        outside
        + whole * block
        + sum(n * (outside + (n - 1) * block) for n in range(depth + 1, whole + 1))
    )


def _best(net: Network, depth: int, data: Data) -> tuple[int, ...]:
    left = list(range(net.depth))
    gone: list[int] = []
    answers = [score(data.task, output, batch) for output, batch in outputs(net, data)]
    while len(left) > depth:
        out = min(left, key=lambda i: _change_without(net, [*gone, i], data, answers))
        left.remove(out)
        gone.append(out)
    return tuple(left)


def _change_without(net: Network, gone: list[int], data: Data, answers: list[Scored]) -> float:
    """How far the answers are from what they were while the blocks at `gone` add nothing, which is
    a network without them. Labels would need four times the examples to choose as well."""
    with net.bypassing(gone):
        now = [score(data.task, output, batch) for output, batch in outputs(net, data)]
    changed = [
        float(distillation(mine, was, TEMPERATURE)) * len(was.logits)
        for mine, was in zip(now, answers, strict=True)
    ]
    return sum(changed) / sum(len(was.logits) for was in answers)
