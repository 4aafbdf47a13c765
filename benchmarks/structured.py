"""What removing heads and MLP features costs without any training: by which score they are chosen,
and whether the rest makes up for them.

    python -m benchmarks.structured MINILM --data SST2 --shares 0.5,0.7

MINILM is the trained network of benchmarks/README.md. All are measured on the test split, paired
with the uncut network; the share is one of the parameters of all heads and MLP features, so that
all networks of a share have the same size. Units are chosen on 512 and refitted on at most 2,048
unlabelled training rows, drawn from a seed; one route sees random inputs alone. Writes
structured-NAME.json.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import product

from acn_compress.checkpoint.files import write_json
from acn_compress.compression.calibration import ROWS
from acn_compress.compression.prune import prune_
from acn_compress.found import Found
from acn_compress.measure.quality import Drop, measure, paired
from benchmarks.command import rounded
from benchmarks.whole import Whole, arguments


@dataclass(frozen=True)
class Route:
    """A way to choose units, and what is done then."""

    score: str
    refit: bool
    data: bool = True
    seeds: int = 1


ROUTES = {
    "magnitude": Route("magnitude", refit=False),
    "magnitude + refit": Route("magnitude", refit=True),
    "taylor": Route("taylor", refit=False),
    "fisher": Route("fisher", refit=False),
    "fisher + refit": Route("fisher", refit=True),
    "obs": Route("obs", refit=False),
    "obs + refit": Route("obs", refit=True, seeds=3),
    "obs + refit, random inputs": Route("obs", refit=True, data=False),
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


def pruned(whole: Whole, name: str, share: float, seed: int) -> Row:
    """Prune a copy and measure it."""
    route, net, data = ROUTES[name], whole.net.copy(), whole.rows(ROWS, seed)
    looked, started = data if route.data else None, time.process_time()
    found = prune_(net, share, score=route.score, data=looked, seed=seed, refit=route.refit)
    seconds, after = time.process_time() - started, measure(net, whole.test)
    return Row(
        route=name,
        share=share,
        seed=seed,
        achieved=found.achieved,
        parameters=net.parameters,
        seconds=seconds,
        value=after.value,
        loss=after.mean_loss,
        drop=paired(after, whole.scores),
    )


def main() -> None:
    """The command."""
    command = arguments(__doc__)
    command.add_argument("--shares", default="0.3,0.5,0.7")
    options = command.parse_args()
    whole, rows = Whole.read(options.source, options.data), list[Found]()
    started = time.process_time()
    measure(whole.net, whole.test)
    evaluation = time.process_time() - started
    shares = map(float, options.shares.split(","))
    for share, (name, route) in product(shares, ROUTES.items()):
        for seed in range(route.seeds):
            rows.append(row := pruned(whole, name, share, seed))
            print(f"{share} {name} ({seed}): {row.value:.4f}, drop {row.drop}", flush=True)
    report = whole.report(
        "structured",
        options.source.name,
        rows,
        rows_looked_at=ROWS,
        seconds_of_one_evaluation=evaluation,
        examples_of_one_evaluation=len(whole.test),
    )
    write_json(options.results / f"structured-{options.source.name}.json", rounded(report))


if __name__ == "__main__":
    main()
