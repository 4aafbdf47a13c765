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
from pathlib import Path

from acn_compress.checkpoint.files import write_json
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import machine
from acn_compress.compression.calibration import ROWS
from acn_compress.compression.prune import prune_
from acn_compress.data.load import load_data
from acn_compress.data.splits import eval_split
from acn_compress.found import Found
from acn_compress.measure.quality import Drop, measure, paired, summary
from acn_compress.options import Trained
from benchmarks.command import RESULTS, parser, rounded


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


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("source", type=Path, help="the trained network")
    command.add_argument("--data", required=True, help="folder with the parquet files")
    command.add_argument("--shares", default="0.3,0.5,0.7")
    command.add_argument("--results", type=Path, default=RESULTS)
    options = command.parse_args()
    source = find_source(options.source)
    whole = load_source(source)
    how = Trained(data=options.data, eval_data=f"{options.data}:test")
    test = eval_split(how, whole, source)
    assert test is not None
    started = time.process_time()
    before, rows = measure(whole, test), list[Row]()
    evaluation = time.process_time() - started
    for share in map(float, options.shares.split(",")):
        for name, route in ROUTES.items():
            for seed in range(route.seeds):
                data = load_data(how.data, whole, source, role="train", limit=ROWS, seed=seed)
                net, started = whole.copy(), time.process_time()
                looked = data if route.data else None
                found = prune_(
                    net, share, score=route.score, data=looked, seed=seed, refit=route.refit
                )
                seconds, after = time.process_time() - started, measure(net, test)
                rows.append(
                    Row(
                        route=name,
                        share=share,
                        seed=seed,
                        achieved=found.achieved,
                        parameters=net.parameters,
                        seconds=seconds,
                        value=after.value,
                        loss=after.mean_loss,
                        drop=paired(after, before),
                    )
                )
                print(
                    f"{share} {name} ({seed}): {after.value:.4f}, drop {rows[-1].drop}", flush=True
                )
    report = {
        "benchmark": "structured",
        "source": options.source.name,
        "weights_sha256": source.sha256(),
        "rows_looked_at": ROWS,
        "seconds_of_one_evaluation": evaluation,
        "examples_of_one_evaluation": len(test),
        "whole": summary(before, test.task),
        "machine": machine(),
        "rows": rows,
    }
    write_json(options.results / f"structured-{options.source.name}.json", rounded(report))


if __name__ == "__main__":
    main()
