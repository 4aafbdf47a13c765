"""What fewer bits cost: every file that export writes, of a network and of its half, on real rows.

    python -m benchmarks.precision MODEL --data sst2:test

Half of the heads' and features' parameters are removed first (`prune`, untrained, looking at
`--limit` rows of the training split). Every file is measured on all rows of the split, paired with
the network in torch that it was made from, and timed beside the others on one thread. No file is
refused, whatever it loses. Writes precision-NAME.json.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import get_args

from acn_compress import export, prune
from acn_compress.backends.files import time_files
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import machine
from acn_compress.checkpoint.source import Source
from acn_compress.data.load import load_data
from acn_compress.found import Found
from acn_compress.measure.quality import measure, paired, summary
from acn_compress.onnx.scores import measure_file
from acn_compress.options import Quantize
from acn_compress.quality import Drop, Quality
from acn_compress.targets.onnx import OnnxExported
from benchmarks.command import RESULTS, parser, write

HALF = 0.5
EVERYTHING = 1.0  # of accuracy: a file may lose it


class Row(Found):
    """A file, on the rows."""

    model: str
    """The whole network, or its half."""
    precision: str
    bytes: int
    milliseconds: float
    """One example, one thread; timed beside all other files."""
    quality: Quality
    drop: Drop
    """From the network in torch that it was made from, paired."""
    lost: Drop
    """From the whole network in torch, paired."""
    cosine: float | None
    """Of centred scores with those of the float file, on 256 of the rows."""


def exported(source: Path, out: Path, data: str) -> OnnxExported:
    """Every precision, however much it loses."""
    kinds = get_args(Quantize)
    found = export(source, out, data, limit=256, quantize=kinds, max_drop=EVERYTHING, bound="point")
    assert isinstance(found, OnnxExported)
    print(found, flush=True)
    return found


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("source", type=Path, help="the network")
    command.add_argument("--data", required=True, help="rows to measure on, as DATA:SPLIT")
    command.add_argument("--limit", type=int, default=2048, help="rows that pruning looks at")
    command.add_argument("--name", help="of the result; default: the model's")
    options = command.parse_args()
    name, whole = options.name or options.source.name, find_source(options.source)
    with tempfile.TemporaryDirectory() as place:
        half, looked_at = Path(place) / "half", options.data.rpartition(":")[0]
        prune(
            options.source,
            half,
            looked_at,
            target_sparsity=HALF,
            limit=options.limit,
            eval_limit=256,
        )
        models = {"whole": whole, "half": find_source(half)}
        reports = {
            model: exported(source.directory, Path(place) / f"{model}-onnx", options.data)
            for model, source in models.items()
        }
        torch, rows, busy = measured(models, reports, Path(place), options.data)
    report = {
        "benchmark": "precision",
        "source": name,
        "weights_sha256": whole.sha256(),
        "machine": machine(),
        "data": options.data,
        "calibrated_on": reports["whole"].calibrated_on,
        "busy": busy,
        "torch": {model: quality.plain() for model, quality in torch.items()},
        "rows": [row.plain() for row in rows],
    }
    write(RESULTS / f"precision-{name}.json", report)


def measured(
    models: dict[str, Source], reports: dict[str, OnnxExported], place: Path, data: str
) -> tuple[dict[str, Quality], list[Row], float]:
    """The networks in torch, all their files, and how far other work disturbed the timing."""
    files = [(model, row) for model, report in reports.items() for row in report.files]
    paths = [place / f"{model}-onnx" / row.file for model, row in files]
    times, busy = time_files(paths)
    nets = {model: load_source(source) for model, source in models.items()}
    read = load_data(data, nets["whole"], models["whole"], role="eval")
    torch = {model: measure(net, read) for model, net in nets.items()}
    rows = []
    for (model, row), path, ms in zip(files, paths, times, strict=True):
        scores = measure_file(path, read)
        rows.append(
            Row(
                model=model,
                precision=row.precision or "float32",
                bytes=row.bytes,
                milliseconds=ms,
                quality=summary(scores, read.task),
                drop=paired(scores, torch[model]),
                lost=paired(scores, torch["whole"]),
                cosine=None if row.judged is None else row.judged.cosine,
            )
        )
        found = rows[-1]
        print(
            model, found.precision, found.bytes, f"{ms:.2f}", found.quality, found.lost, flush=True
        )
    return {model: summary(scores, read.task) for model, scores in torch.items()}, rows, busy


if __name__ == "__main__":
    main()
