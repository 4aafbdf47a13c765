"""The claims of the paper (arXiv 2506.09714), measured at a scale that one core can train in about
half an hour.

    python benchmarks/claims.py --data CIFAR10_FOLDER [--only 1,5] [--scale small|full] [--work
    FOLDER] [--out benchmarks/results/claims.json]

Networks are trained once and kept in the work folder; several claims read the same ones. Each
claim's rule for its verdict is in the docstring of its function in `paper/`. With --only, the other
entries of a JSON file of the same scale stay as they are. Beside the JSON goes a picture of claim
1. It needs the timm extra. Scale "full" is the paper's network and is meant for a GPU of your own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from paper.continual import claim_7
from paper.depth import claim_1, claim_1b, claim_2, claim_3, claim_3b, claim_4
from paper.entry import Entry, markdown, rounded
from paper.exits import claim_10
from paper.gradients import claim_11
from paper.picture import quality_over_depth
from paper.robust import claim_5, claim_6, claim_8, claim_9, claim_9b
from paper.setting import SCALES, Lab

from acn_compress.checkpoint import directory as modeldir

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


def names(text: str) -> list[str]:
    """Claims named on the command line."""
    if unknown := [n for n in text.split(",") if n not in CLAIMS]:
        raise argparse.ArgumentTypeError(f"no claim {unknown[0]}; there are {', '.join(CLAIMS)}")
    return text.split(",")


def stored(out: Path, scale: str) -> dict[str, dict[str, Any]]:
    """Entries of an earlier run of the same scale, by number."""
    report = modeldir.read_json(out)
    if report is None or report["scale"]["name"] != scale:
        return {}
    return {e["number"]: e for e in report["entries"]}


def write(out: Path, lab: Lab, scale: str, entries: dict[str, dict[str, Any]]) -> list[Entry]:
    """The JSON file, and its entries in order."""
    ordered = [entries[n] for n in CLAIMS if n in entries]
    report = {
        "benchmark": "claims",
        "paper": "arXiv 2506.09714",
        "data": "CIFAR-10",
        "machine": modeldir.machine() | {"threads": str(torch.get_num_threads())},
        "scale": {"name": scale, **asdict(lab.scale)},
        "recipe": asdict(lab.recipe(lab.seeds[0])),
        "entries": ordered,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    modeldir.write_json(out, rounded(report))
    return [
        Entry(**{k: v for k, v in e.items() if k not in {"command", "seconds"}}) for e in ordered
    ]


def run(lab: Lab, scale: str, only: Sequence[str], out: Path) -> list[Entry]:
    """Measure the claims; what is measured is written after each."""
    entries = stored(out, scale)
    for n in only:
        started = time.process_time()
        found = CLAIMS[n](lab)
        seconds = round(
            time.process_time() - started, 1
        )  # of the processor, training of what was not there yet included
        entries[n] = {**rounded(asdict(found)), "command": found.command, "seconds": seconds}
        ordered = write(out, lab, scale, entries)
        if n == "1":
            quality_over_depth(found.figures, out.with_suffix(".png"))
    return ordered


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        required=True,
        help="folder with train.parquet and test.parquet of CIFAR-10 (columns image, label)",
    )
    parser.add_argument(
        "--only", type=names, default=list(CLAIMS), metavar="1,1b,2", help="these claims"
    )
    parser.add_argument("--scale", choices=["small", "full"], default="small")
    parser.add_argument(
        "--work", type=Path, default=Path("runs") / "claims", help="folder of the trained networks"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "claims.json"
    )
    arguments = parser.parse_args()
    lab = Lab(arguments.data, arguments.work / arguments.scale, SCALES[arguments.scale])
    print(markdown(run(lab, arguments.scale, arguments.only, arguments.out)))


if __name__ == "__main__":
    main()
