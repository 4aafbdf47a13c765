"""Who opens what export writes, and how far they are from torch: every consumer, on real rows.

    python -m benchmarks.opens MODEL --rows test.parquet --column sentence

The model is exported as it is and in int8. Every consumer reads the directory with its own
tokenizer or processor, and torch is given the inputs that it made of the rows. Images must have the
size that the model takes. Writes opens-NAME.json.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas
import transformers as hf
from PIL import Image

from acn_compress import export
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import machine
from acn_compress.found import Found
from acn_compress.onnx.layout import FILES, file_bytes, onnx_file
from acn_compress.options import Quantize
from acn_compress.tasks import task_of
from benchmarks import consumers
from benchmarks.command import RESULTS, parser, write

DTYPES: dict[Quantize | None, str] = {None: "fp32", "int8": "q8"}  # as transformers.js calls them
EMBEDDINGS = "feature-extraction"
CLASSES = {  # of optimum
    EMBEDDINGS: "ORTModelForFeatureExtraction",
    "text-classification": "ORTModelForSequenceClassification",
    "image-classification": "ORTModelForImageClassification",
}


class Opened(Found):
    """What a consumer said of a file."""

    consumer: str
    quantize: str | None
    output: str
    rows: int
    difference: float
    """The largest between its outputs and torch's for its inputs."""
    same_answers: float | None = None
    """Share of rows; None for embeddings."""


def rows_of(file: Path, column: str, count: int) -> consumers.Rows:
    """The first rows of a column of texts or of images."""
    found = pandas.read_parquet(file, columns=[column])[column][:count].tolist()
    if isinstance(found[0], str):
        return {"texts": found}
    pictures = [Image.open(io.BytesIO(row["bytes"])).convert("RGB") for row in found]
    return consumers.images(np.stack([np.asarray(picture) for picture in pictures]))


def in_onnxruntime(directory: Path, rows: consumers.Rows, file: str) -> consumers.Said:
    """What ONNX Runtime itself says, behind transformers' tokenizer or processor."""
    session = onnxruntime.InferenceSession(str(directory / file))
    made, names = _prepared(directory, rows), [o.name for o in session.get_outputs()]
    inputs = {i.name: np.asarray(made[i.name]) for i in session.get_inputs()}
    return {"inputs": inputs, "outputs": dict(zip(names, session.run(names, inputs), strict=True))}


def _prepared(directory: Path, rows: consumers.Rows) -> Any:
    if "texts" in rows:
        encode = hf.AutoTokenizer.from_pretrained(directory)
        return encode(rows["texts"], padding=True, return_tensors="np", return_token_type_ids=True)
    processor = hf.AutoImageProcessor.from_pretrained(directory)
    return processor([consumers.picture(i) for i in rows["images"]], return_tensors="np")


def opened(
    source: Path, out: Path, rows: consumers.Rows, quantize: Quantize | None
) -> Iterator[Opened]:
    """Every consumer of one export."""
    task = task_of(load_source(find_source(source))).pipeline_tag
    file, count = onnx_file(quantize), len(rows.get("texts") or rows["images"])
    runs: dict[str, Callable[[], consumers.Said]] = {
        "onnxruntime": lambda: in_onnxruntime(out, rows, file),
        "transformers.js": lambda: consumers.transformers_js(out, task, rows, DTYPES[quantize]),
        "optimum": lambda: consumers.optimum(out, CLASSES[task], rows, FILES[quantize]),
    }
    for consumer, run in runs.items():
        for output, (ours, theirs) in consumers.paired(source, run()).items():
            same = (
                None if task == EMBEDDINGS else float(np.mean(ours.argmax(-1) == theirs.argmax(-1)))
            )
            yield Opened(
                consumer=consumer,
                quantize=quantize,
                output=output,
                rows=count,
                difference=float(np.abs(ours - theirs).max()),
                same_answers=same,
            )
    if task == EMBEDDINGS and quantize is None:
        ours = consumers.sentence_transformers(source, "torch", rows["texts"])
        in_graph = in_onnxruntime(out, rows, file)["outputs"]["sentence_embedding"]
        by_them = consumers.sentence_transformers(out, "onnx", rows["texts"])
        for consumer, found in (("sentence-transformers", by_them), ("onnxruntime", in_graph)):
            yield Opened(
                consumer=consumer,
                quantize=quantize,
                output="sentence_embedding, against sentence-transformers in torch",
                rows=count,
                difference=float(np.abs(found - ours).max()),
            )


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("source", type=Path, help="the network")
    command.add_argument("--rows", type=Path, required=True, help="a parquet file")
    command.add_argument("--column", required=True, help="of texts or images")
    command.add_argument("--count", type=int, default=64, help="rows that are read")
    command.add_argument("--name", help="of the result; default: the model's")
    options = command.parse_args()
    rows, found, sizes = rows_of(options.rows, options.column, options.count), [], {}
    for quantize in DTYPES:
        with tempfile.TemporaryDirectory() as place:
            out = Path(place) / "onnx"
            export(options.source, out, quantize=() if quantize is None else (quantize,))
            sizes[FILES[quantize]] = file_bytes(out / onnx_file(quantize))
            for row in opened(options.source, out, rows, quantize):
                same = "" if row.same_answers is None else f", {row.same_answers:.1%} same answers"
                what = f"{row.consumer} {row.quantize or 'float32'} {row.output}"
                print(f"{what}: {row.difference:.1e}{same}", flush=True)
                found.append(row)
    name = options.name or options.source.name
    report = {
        "benchmark": "opens",
        "source": name,
        "weights_sha256": find_source(options.source).sha256(),
        "machine": machine(),
        "bytes": sizes,
        "rows": [row.plain() for row in found],
    }
    write(RESULTS / f"opens-{name}.json", report)


if __name__ == "__main__":
    main()
