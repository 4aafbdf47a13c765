"""The pictures of what `compare` wrote, drawn again from the JSON that lies beside them.

    python -m benchmarks.pictures

A file of an older version has no change against the whole network; its picture shows the gains over
drop-last alone.
"""

from __future__ import annotations

import json

from acn_compress.reports import plots
from acn_compress.reports.compared import Compared
from benchmarks.command import RESULTS, parser

PICTURES = {  # and the file they are of
    "vit-cifar10": "vit-cifar10-1-epoch",
    "minilm-sst2": "minilm-sst2-1-epoch",
    **{name: name for name in ("vit-small", "mixer-small", "bert-small")},
}


def main() -> None:
    """The command."""
    parser(__doc__).parse_args()
    for name, file in PICTURES.items():
        found = json.loads((RESULTS / f"{file}.json").read_text())
        known = {key: value for key, value in found.items() if key in Compared.model_fields}
        # what older versions did not write, and no picture needs
        known |= {"runs": (), "pull": found.get("pull", 0.0)}
        plots.comparison(Compared.model_validate(known), RESULTS / f"{name}.png")


if __name__ == "__main__":
    main()
