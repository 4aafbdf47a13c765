"""What it costs to cut the tokens that the training split of a data set does not use: accuracy on
the test split, paired with the whole, parameters and bytes, by the least count of a token that
stays.

    python -m benchmarks.vocabulary MINILM --data SST2

Every row is the report of one `acn-compress prune`, untrained. Writes vocabulary-NAME.json.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import acn_compress
from acn_compress.checkpoint.provenance import machine
from benchmarks.command import rounded, write
from benchmarks.whole import arguments

WANTED = ("vocabulary", "before", "after", "drop", "parameters_before", "parameters", "bytes")
COUNTS = (1, 2, 5)


def row(source: Path, data: str, count: int) -> dict[str, Any]:
    """One cut."""
    how: dict[str, Any] = {"data": data, "eval_data": f"{data}:test", "vocabulary": data}
    started = time.process_time()
    with TemporaryDirectory() as place:
        report = acn_compress.prune(
            source, Path(place) / "out", min_count=count, progress=False, **how
        ).plain()
    print(count, report["parameters"], report["after"]["value"], report["drop"], flush=True)
    seconds = time.process_time() - started
    return {"min_count": count, "seconds": seconds, **{k: report[k] for k in WANTED if k in report}}


def main() -> None:
    """The command."""
    options = arguments(__doc__).parse_args()
    rows = [row(options.source, options.data, count) for count in COUNTS]
    report = {"benchmark": "vocabulary", "source": options.source.name, "machine": machine()}
    file = options.results / f"vocabulary-{options.source.name}.json"
    write(file, rounded(report | {"rows": rows}))


if __name__ == "__main__":
    main()
