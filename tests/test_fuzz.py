"""Files that commands read, damaged in more than two hundred ways: every fault is one line, nothing
hangs, and no other answer passes for the right one.

The seed is fixed. Each mutant is one file of a small model directory, a recipe, a run or a data set,
changed in one place; the cheapest command that reads such a file then reads it. A command that
accepts a mutant must say what the whole file says, or what the library whose file it is says of
the mutant. Bytes within weights are left alone: nothing tells one number from another.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
import transformers as hf
import yaml
from brought import bert, table, texts
from test_cli import invoke
from tiny import answer, network

import acn_compress
from acn_compress.checkpoint.directory import find_source
from acn_compress.checkpoint.write import write

SECONDS = 8.0  # of the processor, for a mutant: far more than any takes
SEED = 15
NUMBERS: tuple[Any, ...] = (True, -1, 0, 1, 3, 2**70, 10**12, 1e308, -0.5, float("nan"))
VALUES = (None, *NUMBERS, "", "x", "../../x", "3", "a\nb", [], [[]], {}, {"a": 1}, [1, "a", None])
DEEP = b'{"a":' * 60 + b"1" + b"}" * 60

Report = dict[str, Any]


def asked(*arguments: object) -> Report | None:
    """What a command reports; None if it refuses the input in one line, which is looked at."""
    began = time.process_time()
    found = invoke(*arguments, "--json")
    assert time.process_time() - began < SECONDS, f"{arguments} took long"
    if found.exit_code == 0:
        report: Report = json.loads(found.stdout)
        return report
    assert isinstance(found.exception, SystemExit), repr(found.exception)
    assert found.exit_code == 1 and found.stdout == "", found.output
    assert found.stderr.startswith("error: "), found.stderr
    lines = found.stderr.rstrip("\n").split("\n")
    assert len(lines) == 1 or "faults:" in lines[0], found.stderr  # of a recipe, each has a line
    assert max(map(len, lines)) < 1000, found.stderr
    return None


# ways in which files are damaged


def changed_value(data: Any, rng: random.Random) -> Any:
    """Plain data with one value replaced, or taken away."""
    data = spot = copy.deepcopy(data)
    while isinstance(spot, (dict, list)) and spot:
        key = rng.choice(list(spot) if isinstance(spot, dict) else range(len(spot)))
        if rng.random() < 0.5 or not isinstance(spot[key], (dict, list)) or not spot[key]:
            if rng.random() < 0.2:
                del spot[key]
            else:
                spot[key] = rng.choice(VALUES)
            break
        spot = spot[key]
    return data


def changed_bytes(data: bytes, rng: random.Random, within: int | None = None) -> bytes:
    """A file cut short, with other bytes, or of something else."""
    place = rng.randrange(min(len(data), within or len(data)))
    kinds = (
        data[:place],
        data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :],
        data[:place] + rng.randbytes(40) + data[place + 40 :],
        data[:place] + data[place : place + 50] * 3 + data[place + 50 :],
        b"",
        b"[" * 100_000,
        b"\xff\xfe" + data,
        DEEP,
    )
    return rng.choice(kinds)


def mutate_json(file: Path, rng: random.Random) -> None:
    """Another value, more often than other bytes."""
    data = file.read_bytes()
    if rng.random() < 0.25:
        file.write_bytes(changed_bytes(data, rng))
    else:
        file.write_text(json.dumps(changed_value(json.loads(data), rng)))


def mutate_header(file: Path, rng: random.Random) -> None:
    """The header of a safetensors file, as data or as bytes, or the file's length."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    head, rest = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.4:
        file.write_bytes(changed_bytes(data, rng, within=8 + length))
        return
    made = json.dumps(changed_value(json.loads(head), rng)).encode()
    file.write_bytes(struct.pack("<Q", len(made)) + made + rest[: rng.choice((None, -4, 10))])


# the files


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place with a text classifier and a ViT, plain and in ACN form with a profile, a recipe, a
    finished run, an ONNX file and tables."""
    root = tmp_path_factory.mktemp("whole")
    bert(root / "text", labels=["no", "yes"])
    config = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    size = {"image_size": 8, "patch_size": 4, "num_labels": 10, "intermediate_size": 16}
    torch.manual_seed(0)
    hf.ViTForImageClassification(hf.ViTConfig(**config, **size)).save_pretrained(root / "plain")
    processor = hf.ViTImageProcessor(size={"height": 8, "width": 8})
    processor.save_pretrained(root / "plain")
    source, net = find_source(root / "plain"), network(root / "plain")
    net.set_structure_(net.structure.with_alpha((0.3,) * 3))
    write(net, root / "images", source=source, step="t", options={"a": 1}, report={})
    acn_compress.profile(root / "images", data="digits", limit=20)
    acn_compress.export(root / "images", root / "onnx")
    sentences = texts(6)
    labels = ["no", "yes"] * 3
    for kind in ("csv", "jsonl", "parquet"):
        table(root / f"rows.{kind}", text=sentences, label=labels)
    recipe = {
        "name": "tiny",
        "data": "digits",
        "source": "images",
        "training": {"epochs": 1, "lr": 1e-3},
        "steps": [{"truncate": {"depth": 2}}],
    }
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return root


@pytest.fixture
def place(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to be damaged; commands run in it."""
    shutil.copytree(whole, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def mutants(
    file: Path, count: int, mutate: Callable[[Path, random.Random], None]
) -> Iterator[random.Random]:
    """So many mutants of a file, one after the other in its place."""
    data = file.read_bytes()
    for number in range(count):
        rng = random.Random(f"{SEED} {file.name} {number}")
        mutate(file, rng)
        yield rng
        file.write_bytes(data)


TEXT = ("evaluate", "text", "--data", "rows.csv")
IMAGES = ("evaluate", "images", "--data", "digits", "--limit", "8")


def reads_as_transformers(directory: str) -> bool:
    """Whether the network says what transformers' own of the same directory says."""
    net = network(directory)
    theirs = type(net.model).__mro__[1].from_pretrained(directory).eval()
    inputs = net.example_inputs(batch=3)
    return torch.equal(answer(net.model, **inputs), answer(theirs, **inputs))
