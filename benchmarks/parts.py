"""What each part of a refit behind a cut is worth: what writes into the stream is solved for, and
what reads it, and the layer that answers.

    python -m benchmarks.parts VIT --data CIFAR10 --shares 0.5,0.7

Heads and features are removed by obs as `structured` does it, three draws of the rows, refitted
with all parts or without some. `loss` is what to look at where few answers change. Writes
parts-NAME.json.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from acn_compress.compression import head, walk
from acn_compress.data.load import Data
from acn_compress.network.network import Network
from benchmarks import structured

SEEDS = 3
ANSWERS = (head, "solve_", 0.0)
READS = (walk, "narrowed", False)
"""What a part is switched off by: what says that there is nothing to do for it."""


def without(*parts: tuple[Any, str, object]) -> structured.Prune:
    """By obs, refitted without some parts."""

    def prune_(net: Network, share: float, rows: Data, seed: int) -> object:
        with ExitStack() as inside:
            for module, name, nothing in parts:
                inside.enter_context(patch.object(module, name, return_value=nothing))
            return structured.by("obs", refit=True)(net, share, rows, seed)

    return prune_


ROUTES: structured.Routes = {
    "all": (without(), SEEDS),
    "without what answers": (without(ANSWERS), SEEDS),
    "without what reads": (without(READS), SEEDS),
    "what writes alone": (without(ANSWERS, READS), SEEDS),
}


def main() -> None:
    """The command."""
    structured.main(__doc__, "parts", ROUTES)


if __name__ == "__main__":
    main()
