"""What `compress` gives for a budget: every demand on one network, as the command reports it.

    python -m benchmarks.budgets MINILM --data SST2 --length 32 --demands speedup=2,max_drop=0.01
        [--seeds 0,1,2]

A demand is an option of `compress`; several joined by + are asked together: epochs=1 trains the
result back, quantize=auto lets int8 take part, bound=point asks the drop and not the upper end of
its interval to keep within max_drop. Rows that decide are those of the validation split
where there is one, else half of the test split; figures are of the others. Writes
compress-NAME.json, and beside it the picture of the first that is in it; what the file has of other
demands and seeds of the same network stays in it.
"""

from __future__ import annotations

import shutil
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import acn_compress
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import machine
from acn_compress.found import Found
from acn_compress.reports.compressed import Compressed, Limit, Row
from benchmarks.command import RESULTS, parser, rounded, stored, write


class Met(Found):
    """What came of one demand."""

    demand: str
    seed: int
    held: bool
    verdict: str
    limits: tuple[Limit, ...]
    rows: tuple[Row, ...]
    blocks: int
    """That stayed."""
    block_parameters: float
    """Share of the parameters of all blocks that stayed."""
    foreseen: float
    """Milliseconds by the latency table."""
    candidates: list[dict[str, float]]
    """Of the frontier, untrained, on the rows that decide."""
    seconds: float


def met(demand: str, seed: int, report: Compressed, in_blocks: int) -> Met:
    """What a report says of its demand."""
    whole, mine = report.rows[:2]
    return Met(
        demand=demand,
        seed=seed,
        held=report.held,
        verdict=report.verdict(),
        limits=report.limits,
        rows=report.rows,
        blocks=mine.depth,
        block_parameters=1 - (whole.parameters - mine.parameters) / in_blocks,
        foreseen=report.chosen.milliseconds,
        candidates=[
            {
                "blocks": p.depth,
                "parameters": p.parameters,
                "milliseconds": p.milliseconds,
                "value": p.quality.value,
                "drop": p.drop.drop,
                "low": p.drop.low,
                "high": p.drop.high,
            }
            for p in report.front
        ],
        seconds=report.seconds,
    )


def options_of(demand: str) -> dict[str, object]:
    """Options of `compress`: speedup=2+epochs=1."""
    pairs = (part.split("=") for part in demand.split("+"))
    return {
        name: value if name in {"target_size", "quantize", "bound"} else float(value)
        for name, value in pairs
    }


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("source", type=Path, help="the trained network")
    command.add_argument("--data", required=True)
    command.add_argument("--demands", default="speedup=2,speedup=3,max_drop=0.01")
    command.add_argument("--length", type=int, default=128, help="tokens of a timed text")
    command.add_argument("--seeds", default="0")
    command.add_argument("--limit", type=int, default=None, help="rows that are trained on")
    command.add_argument("--name", help="of the file; the network's")
    command.add_argument("--results", type=Path, default=RESULTS)
    options = command.parse_args()
    blocks = find_blocks(options.source)
    file = options.results / f"compress-{options.name or options.source.name}.json"
    earlier = stored(file, Met, source=options.source.name, length=options.length)
    rows = {(row.demand, row.seed): row for row in earlier}
    seeds = [int(seed) for seed in options.seeds.split(",")]
    for seed, demand in product(seeds, options.demands.split(",")):
        given = options_of(demand) | {"length": options.length, "limit": options.limit}
        with TemporaryDirectory() as place:
            report = acn_compress.compress(
                options.source,
                Path(place) / "out",
                data=options.data,
                seed=seed,
                **given,  # type: ignore[arg-type]
            )
            if not rows:
                shutil.copyfile(Path(place) / "out" / "frontier.png", file.with_suffix(".png"))
        rows[demand, seed] = met(demand, seed, report, blocks)
        print(f"{demand}, seed {seed}: {report.verdict()}", flush=True)
        write(
            file,
            rounded(
                {
                    "benchmark": "budgets",
                    "source": options.source.name,
                    "machine": machine(),
                    "length": options.length,
                    "rows": [rows[key].plain() for key in sorted(rows, key=lambda key: key[1])],
                }
            ),
        )


def find_blocks(source: Path) -> int:
    """Parameters of all blocks."""
    net = load_source(find_source(source))
    return sum(p.numel() for block in net.blocks for p in block.parameters())


if __name__ == "__main__":
    main()
