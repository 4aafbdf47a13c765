"""What zeros cost without any training, by which are chosen and whether the rest makes up for them:
magnitude, Wanda (arXiv 2306.11695, reimplemented here) and obs.

    python -m benchmarks.zeros MINILM --data SST2

MINILM is the trained network of benchmarks/README.md. All are measured on the test split, paired
with the unpruned network. Wanda and obs look at the same 512 unlabelled training rows, drawn from a
seed; obs also at random tokens alone. Writes zeros-NAME.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from acn_compress.compression.calibration import FEW, calibration, spread
from acn_compress.compression.prune import patterns, prune_
from acn_compress.compression.stream import Moments, walk_
from acn_compress.data.load import Data
from acn_compress.found import Found
from acn_compress.measure.quality import measure, paired
from acn_compress.network import widths, zeros
from acn_compress.network.network import Network
from acn_compress.options import Pattern
from acn_compress.quality import Drop
from acn_compress.tasks.base import features
from benchmarks.command import rounded, write
from benchmarks.whole import Whole, arguments

Prune = Callable[[Network, float, Pattern | None, Data, int], object]
"""(net, share, pattern, rows, seed): prunes in place."""


def wanda_(net: Network, share: float, pattern: Pattern | None, rows: Data, seed: int) -> None:
    """Zeros where |w| times the norm of its input is lowest among the weights of an output."""
    layers = zeros.layers(net)

    def change_(names: list[str], moments: Moments) -> None:
        norm = moments.gram.diagonal()[:-1, None].sqrt().float()
        for name in names:
            weight = widths.by_inputs(layers[name]).detach()
            cost = weight.abs() * norm
            weight.masked_fill_(
                _lowest(cost, share) if pattern is None else patterns.lowest(cost, pattern), 0.0
            )

    walk_(net, [features(b) for b in spread(net, calibration(net, rows), FEW)], change_)


def _lowest(cost: Tensor, share: float) -> Tensor:
    """[inputs, outputs], bool: of every output the same share."""
    order = cost.argsort(dim=0, stable=True)[: round(share * len(cost))]
    return torch.zeros_like(cost, dtype=torch.bool).scatter_(0, order, True)


def _method(method: str, data: bool = False, **how: Any) -> Prune:
    """A method of the package."""
    return lambda net, share, pattern, rows, seed: prune_(
        net, share, method, pattern=pattern, seed=seed, data=rows if data else None, **how
    )


ROUTES: dict[str, tuple[Prune, int]] = {
    "magnitude": (_method("magnitude", scope="global"), 1),
    "magnitude, layer": (_method("magnitude", scope="layer"), 1),
    "wanda": (wanda_, 1),
    "obs": (_method("obs", data=True, scope="layer"), 3),
    "obs, global": (_method("obs", data=True, scope="global"), 1),
    "obs, random inputs": (_method("obs", scope="layer"), 1),
}
"""And by how many seeds each is run."""

ALIKE_UNDER_A_PATTERN = {"magnitude, layer", "obs, global"}


class Row(Found):
    """One pruned network."""

    route: str
    share: float
    pattern: str | None
    seed: int
    zeros: float
    """The share that was reached."""
    seconds: float
    """Of the processor."""
    value: float
    loss: float
    drop: Drop
    """From the unpruned network, paired."""


def pruned(whole: Whole, route: str, share: float, pattern: Pattern | None, seed: int) -> Row:
    """Prune a copy and measure it."""
    net, rows = whole.net.copy(), whole.rows(FEW, seed)
    started = time.process_time()
    ROUTES[route][0](net, share, pattern, rows, seed)
    seconds, after = time.process_time() - started, measure(net, whole.test)
    weights = list(zeros.matrices(net).values())
    return Row(
        route=route,
        share=share,
        pattern=pattern,
        seed=seed,
        zeros=zeros.count(weights) / sum(w.numel() for w in weights),
        seconds=seconds,
        value=after.value,
        loss=after.mean_loss,
        drop=paired(after, whole.scores),
    )


def wanted() -> list[tuple[str, float, Pattern | None, int]]:
    """Every run, as `pruned` takes it."""
    asked: list[tuple[float, Pattern | None]] = [
        (0.5, None),
        (0.7, None),
        (0.9, None),
        (0.5, "2:4"),
    ]
    return [
        (route, share, pattern, seed)
        for share, pattern in asked
        for route, (_, seeds) in ROUTES.items()
        if pattern is None or route not in ALIKE_UNDER_A_PATTERN
        for seed in range(seeds)
    ]


def in_words(row: Row) -> str:
    """A line for the screen."""
    what = row.pattern or f"{row.share:.0%}"
    return f"{what} {row.route} ({row.seed}): {row.value:.4f}, drop {row.drop}, {row.seconds:.1f} s"


def main() -> None:
    """The command."""
    options = arguments(__doc__).parse_args()
    whole, rows = Whole.read(options.source, options.data), list[Found]()
    for run in wanted():
        rows.append(row := pruned(whole, *run))
        print(in_words(row), flush=True)
    name = options.source.name
    more = {"rows_looked_at": FEW, "seconds_of_one_evaluation": whole.seconds}
    report = whole.report("zeros", name, rows, **more)
    write(options.results / f"zeros-{name}.json", rounded(report))


if __name__ == "__main__":
    main()
