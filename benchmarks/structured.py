"""What removing heads and MLP features costs without any training: by which score they are chosen,
and whether the rest makes up for them; beside what other people would use (`peers`).

    python -m benchmarks.structured MINILM --data SST2 --shares 0.5,0.7

MINILM is the trained network of benchmarks/README.md. All are measured on the test split, paired
with the uncut network; the share is one of the parameters of all heads and MLP features, so that
all networks of a share have the same size, Torch-Pruning's as nearly as it gets. Units are chosen
on 512 and refitted on at most 2,048 training rows, drawn from a seed; one route sees random inputs
alone, and only Torch-Pruning's gradients look at labels. Writes structured-NAME.json;
what it has of other shares and routes of the same network stays in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product
from typing import Any

from acn_compress.compression.calibration import ROWS
from acn_compress.compression.prune import prune_
from acn_compress.data.load import Data
from acn_compress.found import Found
from acn_compress.measure.quality import measure, paired
from acn_compress.network import widths
from acn_compress.network.network import Network
from acn_compress.quality import Drop
from benchmarks.command import rounded, stored, write
from benchmarks.peers import flap, kwon, torch_pruning
from benchmarks.whole import Whole, arguments

Prune = Callable[[Network, float, Data, int], object]
"""(net, share, rows, seed): prunes in place."""


def by(score: str, refit: bool = False, data: bool = True, **how: Any) -> Prune:
    """The package, by a score."""
    return lambda net, share, rows, seed: prune_(
        net, share, score=score, data=rows if data else None, seed=seed, refit=refit, **how
    )


Routes = dict[str, tuple[Prune, int]]
"""And by how many seeds each is run."""

ROUTES: Routes = {
    "magnitude": (by("magnitude"), 1),
    "magnitude + refit": (by("magnitude", refit=True), 1),
    "taylor": (by("taylor"), 1),
    "fisher": (by("fisher"), 1),
    "fisher + refit": (by("fisher", refit=True), 1),
    "obs": (by("obs"), 1),
    "obs + refit": (by("obs", refit=True), 3),
    "obs + refit, random inputs": (by("obs", refit=True, data=False), 1),
    "torch-pruning, magnitude": (torch_pruning.magnitude_, 1),
    "torch-pruning, taylor": (torch_pruning.taylor_, 1),
    "kwon": (kwon.prune_, 1),
    "flap": (flap.prune_, 1),
}
"""`magnitude` is what this package did before there was a refit of widths."""


class Row(Found):
    """One cut network."""

    route: str
    share: float
    seed: int
    achieved: float
    parameters: int
    seconds: float
    """Of the processor, for choosing, cutting and refitting."""
    value: float
    loss: float
    drop: Drop
    """From the uncut network, paired."""


def pruned(whole: Whole, name: str, prune_: Prune, share: float, seed: int) -> Row:
    """Prune a copy and measure it."""
    net, rows = whole.net.copy(), whole.rows(ROWS, seed)
    started = time.process_time()
    prune_(net, share, rows, seed)
    seconds, after = time.process_time() - started, measure(net, whole.test)
    return Row(
        route=name,
        share=share,
        seed=seed,
        achieved=1 - prunable(net) / prunable(whole.net),
        parameters=net.parameters,
        seconds=seconds,
        value=after.value,
        loss=after.mean_loss,
        drop=paired(after, whole.scores),
    )


def prunable(net: Network) -> int:
    """Parameters of all heads and features."""
    return sum(
        width.units * widths.unit_parameters(block, width)
        for block in net.blocks
        for width in net.family.widths(block).values()
    )


def main(
    text: str | None = __doc__, benchmark: str = "structured", routes: Routes = ROUTES
) -> None:
    """The command."""
    command = arguments(text)
    command.add_argument("--shares", default="0.3,0.5,0.7")
    command.add_argument("--routes", default=";".join(routes), help="these alone")
    command.add_argument("--seeds", default="0,1,2", help="these alone")
    options = command.parse_args()
    whole, name = Whole.read(options.source, options.data), options.source.name
    file = options.results / f"{benchmark}-{name}.json"
    rows = {
        (row.share, row.route, row.seed): row
        for row in stored(file, Row, weights_sha256=whole.source.sha256())
    }
    shares, seeds = map(float, options.shares.split(",")), set(map(int, options.seeds.split(",")))
    for share, route in product(shares, options.routes.split(";")):
        prune, draws = routes[route]
        for seed in seeds & set(range(draws)):
            rows[share, route, seed] = row = pruned(whole, route, prune, share, seed)
            print(f"{share} {route} ({seed}): {row.value:.4f}, drop {row.drop}", flush=True)
            by_share = sorted(rows.values(), key=lambda row: row.share)
            report = whole.report(
                benchmark,
                name,
                by_share,
                rows_looked_at=ROWS,
                seconds_of_one_evaluation=whole.seconds,
                examples_of_one_evaluation=len(whole.test),
            )
            write(file, rounded(report))


if __name__ == "__main__":
    main()
