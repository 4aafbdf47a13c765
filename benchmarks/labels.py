"""Do labels choose better than answers drawn from the network's own? The gradients that heads and
MLP features are chosen by are taken of one or of the other; all else is the same, and nothing is
trained.

    python -m benchmarks.labels MINILM --data SST2

Pruned by obs with the refit, as `structured` does it, with three seeds. Writes labels-NAME.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from unittest.mock import patch

import torch.nn.functional as F
from torch import Generator, Tensor

from acn_compress.compression import calibration, statistics
from acn_compress.found import Found
from benchmarks.command import rounded, write
from benchmarks.structured import by, pruned
from benchmarks.whole import Whole, arguments

SEEDS = (0, 1, 2)
PRUNE = by("obs", refit=True)


@contextmanager
def labels_taken() -> Iterator[None]:
    """Inside, the labels of a batch stand where drawn answers do."""
    spread, batch = calibration.spread, dict[str, Tensor]()

    def seen(*given: object, **how: object) -> Iterator[dict[str, Tensor]]:
        for found in spread(*given, **how):  # type: ignore[arg-type]
            batch.update(found)
            yield found

    def loss(answers: Tensor, numbers: bool, generator: Generator) -> Tensor:
        return F.cross_entropy(answers, batch["labels"], reduction="sum")

    with patch.object(statistics, "spread", seen), patch.object(statistics, "drawn", loss):
        yield


def main() -> None:
    """The command."""
    command = arguments(__doc__)
    command.add_argument("--shares", default="0.5,0.7")
    options = command.parse_args()
    whole, rows = Whole.read(options.source, options.data), list[Found]()
    for share, seed in product(map(float, options.shares.split(",")), SEEDS):
        drawn = pruned(whole, "drawn answers", PRUNE, share, seed)
        with labels_taken():
            labelled = pruned(whole, "labels", PRUNE, share, seed)
        rows += [drawn, labelled]
        print(f"{share} ({seed}): drawn {drawn.value:.4f}, labels {labelled.value:.4f}", flush=True)
    report = whole.report("labels", options.source.name, rows)
    write(options.results / f"labels-{options.source.name}.json", rounded(report))


if __name__ == "__main__":
    main()
