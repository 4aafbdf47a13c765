"""The claims of the paper (arXiv 2506.09714), measured at a scale that one core can train in about
half an hour.

    python -m benchmarks.claims --data CIFAR10_FOLDER [--only 1,5] [--scale small|long-cifar10|full]
        [--work FOLDER] [--out FILE]
    python -m benchmarks.claims --data digits --scale long

Networks are trained once and kept in the work folder; several claims read the same ones. Each
claim's rule for its verdict is in the docstring of its function in `paper/`. With --only, the other
entries of a JSON file of the same scale stay as they are. Beside the JSON goes a picture of claim
1. It needs the timm extra. Scale "long" trains on digits until nothing more is gained: `late` in
its file is what every network's accuracy still gained in the last fifth of its training;
"long-cifar10" is as long as a core affords. Scale "full" is the paper's network and is meant for a
GPU of your own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch

from acn_compress.checkpoint.files import read_json
from acn_compress.checkpoint.provenance import machine
from acn_compress.options import Prefixes
from benchmarks.command import RESULTS, parser, rounded, write
from benchmarks.paper.continual import claim_7
from benchmarks.paper.depth import (
    Comparison,
    claim_1,
    claim_1b,
    claim_2,
    claim_3,
    claim_3b,
    claim_4,
)
from benchmarks.paper.entry import Entry, markdown
from benchmarks.paper.exits import claim_10
from benchmarks.paper.little import claim_6
from benchmarks.paper.paths import claim_11
from benchmarks.paper.picture import quality_over_depth
from benchmarks.paper.pruned import claim_9, claim_9b
from benchmarks.paper.robust import claim_5, claim_8
from benchmarks.paper.setting import SCALES, Lab

Stored = dict[str, Any]  # an entry as the JSON file has it
CLAIMS: dict[str, Callable[[Lab], Entry]] = {
    "1": claim_1,
    "1b": claim_1b,
    "2": claim_2,
    "3": claim_3,
    "3b": claim_3b,
    "4": claim_4,
    "5": claim_5,
    "6": claim_6,
    "7": claim_7,
    "8": claim_8,
    "9": claim_9,
    "9b": claim_9b,
    "10": claim_10,
    "11": claim_11,
}
HELP = {
    "data": "folder with train.parquet and test.parquet of CIFAR-10 (columns image, label); digits",
    "only": "these claims",
    "work": "folder of the trained networks",
}


def names(text: str) -> list[str]:
    """Claims named on the command line."""
    if unknown := [n for n in text.split(",") if n not in CLAIMS]:
        raise argparse.ArgumentTypeError(f"no claim {unknown[0]}; there are {', '.join(CLAIMS)}")
    return text.split(",")


def read(out: Path, scale: str) -> dict[str, Stored]:
    """Entries of an earlier run of the same scale, by number."""
    report = read_json(out)
    if report is None or report["scale"]["name"] != scale:
        return {}
    return {e["number"]: e for e in report["entries"]}


def entry(stored: Stored) -> Entry:
    """Without what only the file has."""
    return Entry(**{k: v for k, v in stored.items() if k not in {"command", "seconds"}})


def command(lab: Lab, scale: str, number: str) -> str:
    """That measures a claim again."""
    size = "" if scale == "small" else f" --scale {scale}"
    return f"python -m benchmarks.claims --data {Path(lab.data).name}{size} --only {number}"


def ordered(entries: dict[str, Stored]) -> list[Stored]:
    """In the order of the table."""
    return [entries[n] for n in CLAIMS if n in entries]


def store(out: Path, lab: Lab, scale: str, entries: dict[str, Stored]) -> None:
    """The JSON file."""
    training = lab.training(lab.seeds[0])
    report = {
        "benchmark": "claims",
        "paper": "arXiv 2506.09714",
        "data": lab.scale.data,
        "machine": machine() | {"threads": str(torch.get_num_threads())},
        "scale": {"name": scale, **asdict(lab.scale)},
        "recipe": {**training.part(Prefixes).plain(), "seed": training.seed},
        "late": lab.late(),
        "entries": ordered(entries),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, rounded(report))


def run(lab: Lab, scale: str, only: Sequence[str], out: Path) -> list[Entry]:
    """Measure the claims; what is measured is written after each."""
    entries = read(out, scale)
    for n in only:
        started = time.process_time()
        found = CLAIMS[n](lab)
        # of the processor, training of what was not there yet included
        seconds = round(time.process_time() - started, 1)
        stored = cast(Stored, rounded(vars(found)))
        entries[n] = {**stored, "command": command(lab, scale, n), "seconds": seconds}
        store(out, lab, scale, entries)
        if n == "1":
            figures = cast(Comparison, found.figures)
            quality_over_depth(figures, lab.scale.data, out.with_suffix(".png"))
    return list(map(entry, ordered(entries)))


def main() -> None:
    """The command."""
    words = parser(__doc__)
    words.add_argument("--data", required=True, help=HELP["data"])
    words.add_argument(
        "--only", type=names, default=list(CLAIMS), metavar="1,1b,2", help=HELP["only"]
    )
    words.add_argument("--scale", choices=list(SCALES), default="small")
    words.add_argument("--work", type=Path, default=Path("runs") / "claims", help=HELP["work"])
    words.add_argument("--out", type=Path, help="claims.json, or claims-SCALE.json")
    options = words.parse_args()
    name = "claims" if options.scale == "small" else f"claims-{options.scale}"
    out = options.out or RESULTS / f"{name}.json"
    lab = Lab(options.data, options.work / options.scale, SCALES[options.scale])
    print(markdown(run(lab, options.scale, options.only, out)))


if __name__ == "__main__":
    main()
