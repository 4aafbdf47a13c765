"""Which blocks of a trained network a shallower one starts from.

The first ones are what `truncate` keeps, and a cut there is exact. A network that is trained afterwards may start from others: where
the last block's output is far from that of the block it would replace (post-norm encoders), blocks spread over the depth, the last among
them, start better and end better. docs/method.md has the figures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from acn_compress import checkpoint, stack
from acn_compress.architectures import architecture_of
from acn_compress.data import Data
from acn_compress.errors import ConfigError
from acn_compress.job import Job
from acn_compress.modeldir import Source
from acn_compress.quality import measure

Keep = Literal["first", "even", "auto"]
EXAMPLES = 256  # on which "auto" compares


def positions(blocks: int, depth: int, keep: str) -> tuple[int, ...]:
    """The `depth` blocks of `blocks` that are kept: the first ones, or evenly spaced ones with the first and the last among them."""
    if keep == "first" or depth == 1:
        return tuple(range(depth))
    return tuple(int(i) for i in np.linspace(0, blocks - 1, depth).round())


def cut_(model: Any, depth: int, keep: str, job: Job, source: Source | None, reference: Any = None) -> tuple[int, ...]:
    """Cut the model to `depth` of its blocks, physically, in place.

    Args:
        keep: "first", "even", or "auto": whichever of the two has the lower loss on a few training examples before any training.
        job, source, reference: where these examples come from, as in `job.run_job`; only read for "auto".
    Returns:
        The blocks kept, counted in the model as it was.
    Raises:
        ConfigError: for another `keep`.
    """
    if keep not in get_args(Keep):
        raise ConfigError(f"keep is '{keep}', expected {', '.join(get_args(Keep))}.")
    architecture, structure = architecture_of(model.config), checkpoint.structure_of(model)
    blocks = len(structure.blocks)
    choices = dict.fromkeys(positions(blocks, depth, how) for how in ("first", "even") if keep in {how, "auto"})
    chosen = next(iter(choices))
    if len(choices) > 1:
        few = replace(job, limit=EXAMPLES, augment=None).train_split(model, source, reference)
        chosen = min(choices, key=lambda kept: _loss(model, kept, few))
    checkpoint.keep_blocks_(model, chosen, architecture, structure)
    return chosen


def _loss(model: Any, kept: tuple[int, ...], data: Data) -> float:
    """Mean loss with only the blocks at `kept` running."""
    gone = [i for i in range(len(checkpoint.structure_of(model).blocks)) if i not in kept]
    with stack.bypassing(model, architecture_of(model.config), gone):
        scores = measure(model, data)
    return float((scores.loss * scores.weight).sum() / scores.weight.sum())
