"""The pictures of what `compare` and `compress` wrote, again from the JSON beside
them.

    python -m benchmarks.pictures

A file of an older version has no change against the whole network; its picture shows the gains over
drop-last alone. Of `compress` the JSON has the candidates of the front.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from acn_compress.quality import Drop
from acn_compress.reports import plots
from acn_compress.reports.compared import Compared
from benchmarks.budgets import Met
from benchmarks.command import RESULTS, parser

PICTURES = {  # and the file they are of
    "vit-cifar10": "vit-cifar10-1-epoch",
    "minilm-sst2": "minilm-sst2-1-epoch",
    **{name: name for name in ("vit-small", "mixer-small", "bert-small")},
}
COMPRESSED = ("compress-minilm-sst2", "compress-mpnet-sst2", "compress-dinov2-cifar")


class Candidate(NamedTuple):
    """Of the front, as the JSON has it."""

    milliseconds: float
    drop: Drop


def compressed(name: str) -> None:
    """The picture of the first demand."""
    report: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    met = Met.model_validate(report["rows"][0])
    front = [
        Candidate(c["milliseconds"], Drop(drop=c["drop"], low=c["low"], high=c["high"]))
        for c in met.candidates
    ]
    chosen = next((c for c in front if c.milliseconds == met.foreseen), None)
    place = RESULTS / f"{name}.png"
    plots.frontier(front, front, chosen, met.rows, report["source"], "other rows", place)


def main() -> None:
    """The command."""
    parser(__doc__).parse_args()
    for name, file in PICTURES.items():
        found = json.loads((RESULTS / f"{file}.json").read_text())
        known = {key: value for key, value in found.items() if key in Compared.model_fields}
        # what older versions did not write, and no picture needs
        known |= {"runs": (), "pull": found.get("pull", 0.0)}
        plots.comparison(Compared.model_validate(known), RESULTS / f"{name}.png")
    for name in COMPRESSED:
        compressed(name)


if __name__ == "__main__":
    main()
