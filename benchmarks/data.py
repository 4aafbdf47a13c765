"""Data that do not fit: how memory grows with the rows of a table of texts and of a folder of
images, and how fast images are read that are decoded at every use.

    python -m benchmarks.data [--out benchmarks/results/data.json]

Memory: a parquet file of random texts (60 words each), and a folder of small image files, read by a
process of its own for each size as training reads them. Peak resident memory counts pages of files
that are mapped, which the system takes back when it needs them; `anonymous` is what it cannot take
back, at the end. Speed: JPEGs of 500 x 375 pixels made ready for a ViT of 224 by 0, 1 and 2
workers, for a reader that does nothing else and for one that waits 0.25 s at each batch of 64, as a
training does whose steps are an accelerator's. All of it in a temporary folder.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import machine
from acn_compress.data import images
from acn_compress.data.load import Columns, Data, load_data
from benchmarks.command import RESULTS, parser, write
from benchmarks.overhead import resident

TEXTS = (25_000, 50_000, 100_000)
WORDS, VOCABULARY = 60, 8000
FILES = (2_000, 8_000)
JPEGS, BATCH, WAIT = 640, 64, 0.25
WORKERS = (0, 1, 2)
TINY = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES = {**TINY, "intermediate_size": 64}


def text_model(place: Path) -> Path:
    """A tiny BERT with a tokenizer of words."""
    config = hf.BertConfig(**SIZES, vocab_size=VOCABULARY, num_labels=2)
    hf.BertForSequenceClassification(config).save_pretrained(place)
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *words()])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    hf.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", model_max_length=512
    ).save_pretrained(place)
    return place


def words() -> list[str]:
    """As many as the model embeds."""
    return [f"word{i}" for i in range(VOCABULARY - 2)]


def image_model(place: Path, size: int) -> Path:
    """A tiny ViT with an image processor."""
    config = hf.ViTConfig(**SIZES, image_size=size, patch_size=size // 2, num_labels=2)
    hf.ViTForImageClassification(config).save_pretrained(place)
    hf.ViTImageProcessor(size={"height": size, "width": size}).save_pretrained(place)
    return place


def write_texts(file: Path, rows: int) -> None:
    """A parquet file, made a part at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, known = np.random.default_rng(0), np.array(words())
    with pq.ParquetWriter(file, pa.schema({"text": pa.string(), "label": pa.int64()})) as out:
        for begin in range(0, rows, 1000):
            drawn = known[rng.integers(0, len(known), (min(1000, rows - begin), WORDS))]
            columns = {
                "text": [" ".join(row) for row in drawn],
                "label": [0, 1] * (len(drawn) // 2),
            }
            out.write_table(pa.table(columns))


def write_images(folder: Path, count: int, height: int, width: int, kind: str) -> None:
    """A folder per class."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 5, width // 5, 3), dtype="uint8")
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(buffer, format=kind)
    for i in range(count):
        place = folder / f"class{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:07d}.{kind.lower()}").write_bytes(buffer.getvalue())


def read(model: Path, data: Path, workers: int | None = None) -> Data:
    """As training reads it; images are never kept."""
    images.IN_MEMORY = 0
    columns = Columns() if workers is None else Columns(workers=workers)
    return load_data(
        str(data),
        load_source(find_source(model)),
        find_source(model),
        role="train",
        columns=columns,
    )


def print_memory(model: Path, data: Path) -> None:
    """Read it, in this process, and go through it once."""
    load_source(find_source(model))
    import datasets  # noqa: F401  (its own memory is no row's)

    before = resident("RssAnon")
    started = time.perf_counter()
    found = read(model, data)
    rows = sum(1 for i in range(len(found)) if found.examples[i] is not None)
    seconds = round(time.perf_counter() - started, 1)
    bytes_ = {"anonymous": resident("RssAnon") - before, "peak": resident("VmHWM")}
    print(json.dumps({"rows": rows, "seconds": seconds} | bytes_))


def memory(model: Path, data: Path, cache: Path) -> dict[str, Any]:
    """`print_memory` in a process of its own, with an empty cache."""
    command = [sys.executable, "-m", "benchmarks.data", "--memory", str(model), str(data)]
    env = os.environ | {"HF_DATASETS_CACHE": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(done.stderr)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(data.name, row, file=sys.stderr, flush=True)
    return row


def speed(model: Path, data: Path, workers: int, wait: float) -> float:
    """Images per second, with starting the workers."""
    found = read(model, data, workers)
    started = time.perf_counter()
    for _ in found.batches(BATCH):
        time.sleep(wait)
    return round(len(found) / (time.perf_counter() - started), 1)


def report(place: Path) -> dict[str, Any]:
    """Everything, measured."""
    text, tiny, vit = (
        text_model(place / "text"),
        image_model(place / "tiny", 8),
        image_model(place / "vit", 224),
    )
    texts, folders = [], []
    for rows in TEXTS:
        write_texts(place / "texts.parquet", rows)
        file = {"file_bytes": (place / "texts.parquet").stat().st_size}
        texts.append(memory(text, place / "texts.parquet", place / f"cache-{rows}") | file)
    for count in FILES:
        write_images(place / f"files-{count}", count, 10, 10, "PNG")
        folders.append(memory(tiny, place / f"files-{count}", place / f"cache-{count}"))
    write_images(place / "jpegs", JPEGS, 375, 500, "JPEG")
    rates = {
        name: {str(n): speed(vit, place / "jpegs", n, wait) for n in WORKERS}
        for name, wait in (("reading alone", 0.0), (f"with {WAIT} s per batch", WAIT))
    }
    return {
        "machine": machine() | {"processors of this run": str(len(os.sched_getaffinity(0)))},
        "texts": texts,
        "folders": folders,
        "images_per_second": rates,
    }


def main() -> None:
    """The command."""
    command: argparse.ArgumentParser = parser(__doc__)
    command.add_argument("--out", type=Path, default=RESULTS / "data.json", help="the JSON file")
    command.add_argument("--memory", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = command.parse_args()
    if options.memory is not None:
        print_memory(*options.memory)
        return
    with tempfile.TemporaryDirectory() as place:
        write(options.out, report(Path(place)))


if __name__ == "__main__":
    main()
