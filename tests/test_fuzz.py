"""Files that commands read, damaged in more than two hundred ways: every fault is one line, nothing
hangs, and no other answer passes for the right one.

The seed is fixed. Each mutant is one file of a small model directory, a recipe, a run or a data
set, changed in one place; the cheapest command that reads such a file then reads it. A command that
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
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pytest
import torch
import transformers as hf
import yaml
from brought import bert, table, texts
from PIL import Image
from safetensors.torch import load_file
from test_cli import invoke
from tiny import answer, network

import acn_compress
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.write import write
from acn_compress.data.load import load_data
from acn_compress.network.plain import plain_class
from acn_compress.onnx.write import write_onnx

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
    (root / "onnx").mkdir()
    write_onnx(network(root / "images"), root / "onnx" / "model.onnx", source)
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


def mutate_bytes(file: Path, rng: random.Random) -> None:
    """Other bytes."""
    file.write_bytes(changed_bytes(file.read_bytes(), rng))


def mutate_yaml(file: Path, rng: random.Random) -> None:
    """Another value, or other bytes."""
    if rng.random() < 0.4:
        mutate_bytes(file, rng)
    else:
        file.write_text(yaml.safe_dump(changed_value(yaml.safe_load(file.read_text()), rng)))


Allowed = Callable[[Report, Report], bool]  # of the mutant and of the whole file


def survived(
    file: str,
    count: int,
    mutate: Callable[[Path, random.Random], None],
    command: Sequence[object],
    allowed: Allowed | None = None,
) -> int:
    """Put mutants of a file before a command, and look at everything it says.

    Args:
        allowed: whether a report that differs is right nevertheless; never, if None.
    Returns:
        How many were accepted.
    """
    whole, accepted = asked(*command), 0
    assert whole is not None
    for rng in mutants(Path(file), count, mutate):
        shutil.rmtree("out", ignore_errors=True)
        report = asked(*command)
        if report is not None:
            accepted += 1
            same = answers(report) == answers(whole)
            assert same or (allowed is not None and allowed(report, whole)), (file, report, rng)
    return accepted


def answers(report: Report) -> Report:
    """A report without what differs from run to run."""
    varying = ("seconds", "rows", "busy", "steps", "profile", "remarks", "note", "why")
    return {k: v for k, v in report.items() if k not in varying}


# what a library whose file it is says of a mutant


def network_agrees(directory: str) -> bool:
    """Whether the network says what transformers' own of the same directory says."""
    net = network(directory)
    theirs = plain_class(type(net.model)).from_pretrained(directory).eval()
    inputs = net.example_inputs(batch=3)
    return torch.equal(answer(net.model, **inputs), answer(theirs, **inputs))


def reads_agree(rows: datasets.Dataset, directory: str, key: str, wanted: torch.Tensor) -> bool:
    """Whether the only row of a data set is read as transformers reads it."""
    data = load_data(rows, network(directory), find_source(directory), role="eval")
    return torch.equal(next(data.batches(1))[key], wanted)


def tokens_agree(*_: object) -> bool:
    """Whether a text is read as transformers' own tokenizer reads it."""
    text = texts(1, seed=3)[0]
    theirs = hf.AutoTokenizer.from_pretrained("text")
    rows = datasets.Dataset.from_dict({"text": [text], "label": ["no"]})
    wanted = theirs(text, truncation=True, max_length=64, return_tensors="pt")["input_ids"]
    return reads_agree(rows, "text", "input_ids", wanted)


def pixels_agree(*_: object) -> bool:
    """Whether an image is read as transformers' own processor reads it."""
    values = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype="uint8")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    image = Image.fromarray(values)
    rows = datasets.Dataset.from_dict({"image": [image], "label": [3]}, features=features)
    theirs = hf.AutoImageProcessor.from_pretrained("images", backend="pil")
    wanted = theirs(image, return_tensors="pt")["pixel_values"]
    return reads_agree(rows, "images", "pixel_values", wanted)


def as_the_profile_says(report: Report, _: Report) -> bool:
    """Whether the depth is the one that the file's own rows choose."""
    rows = json.loads(Path("images/profile.json").read_text())["depths"]
    depths = [r["depth"] for r in rows if r["depth"] and r["drop_high"] <= 2]
    return bool(report["depth"] == min(depths))


def as_the_recipe_says(report: Report, _: Report) -> bool:
    """Whether name and number of steps are the file's."""
    data = yaml.safe_load(Path("recipe.yaml").read_text())
    return (report["name"], report["steps"]) == (data.get("name", "recipe"), len(data["steps"]))


def as_many_rows(read: Callable[[str], pandas.DataFrame], file: str) -> Allowed:
    """Whether every row that pandas finds was measured."""
    return lambda report, _: report["result"]["examples"] == len(read(file))


TEXT = ("evaluate", "text", "--data", "rows.csv")
PLAIN = ("evaluate", "plain", "--data", "digits", "--limit", "8")
IMAGES = ("evaluate", "images", "--data", "digits", "--limit", "8")
ONNX = ("benchmark", "onnx", "--backends", "onnx", "--repeats", "5", "--warmup-rounds", "1")
RUN = ("run", "recipe.yaml", "--out", "ran")
READERS = {"csv": pandas.read_csv, "jsonl": partial(pandas.read_json, lines=True)}


@pytest.mark.usefixtures("place")
@pytest.mark.long
def test_a_damaged_config_is_refused_or_means_what_transformers_says() -> None:
    for name, command in (("text", TEXT), ("plain", PLAIN)):
        agrees: Allowed = lambda *_, name=name: network_agrees(name)  # noqa: E731
        assert survived(f"{name}/config.json", 25, mutate_json, command, agrees) > 1
        survived(f"{name}/config.json", 10, mutate_json, ("inspect", name), lambda *_: True)


@pytest.mark.usefixtures("place")
def test_damaged_weights_are_refused() -> None:
    for command in (PLAIN, ("inspect", "plain")):
        survived("plain/model.safetensors", 15, mutate_header, command)


@pytest.mark.usefixtures("place")
def test_a_damaged_index_of_shards_is_refused() -> None:
    weights, index = Path("plain/model.safetensors"), Path("plain/model.safetensors.index.json")
    names = dict.fromkeys(load_file(weights), "model-1.safetensors")
    weights.rename("plain/model-1.safetensors")
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": names}))
    survived(str(index), 15, mutate_json, PLAIN)


STRUCTURES: dict[str, Sequence[object]] = {
    "version": (2, "1", None, 1.5),
    "form": ("acn", "residual", "x", 3),
    "layer": ("branch", "x", None),
    "alpha": ([0.3] * 2, [0.3] * 4, [2, 0.3, 0.3], "0.3", [None] * 3, [1e308] * 3),
    "blocks": ([0, 1], [0, 1, 1], [2, 1, 0], [0, 1, 9], [], [0, 1, 2, 3], ["a", "b", "c"], 3),
    "source_blocks": (2, 0, -1, None, "x"),
    "widths": ([{"heads": 1}] * 3, [{"x": 3}] * 3, [{}] * 2, [{"mlp": 0}] * 3, {"heads": 2}),
    "sparsity": (1.0, -1, "x", None),
    "extra": (1,),
}


@pytest.mark.usefixtures("place")
@pytest.mark.long
def test_a_structure_that_is_not_that_of_the_weights_is_refused() -> None:
    file = Path("images/config.json")
    config = json.loads(file.read_text())
    for field, value in ((field, v) for field, values in STRUCTURES.items() for v in values):
        file.write_text(json.dumps(config | {"acn": config["acn"] | {field: value}}))
        assert asked(*IMAGES) is None, (field, value)


@pytest.mark.usefixtures("place")
@pytest.mark.long
def test_a_damaged_tokenizer_or_processor_is_refused_or_read_as_transformers_reads_it() -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        survived(f"text/{name}", 18, mutate_json, TEXT, tokens_agree)
    assert survived("images/preprocessor_config.json", 18, mutate_json, IMAGES, pixels_agree) > 1


@pytest.mark.usefixtures("place")
@pytest.mark.long
def test_damaged_records_of_a_model_are_refused_or_change_nothing() -> None:
    cut = ("truncate", "images", "out", "--max-drop", "2")
    assert survived("images/profile.json", 20, mutate_json, cut, as_the_profile_says) > 1
    survived("images/provenance.json", 12, mutate_json, ("truncate", "images", "out", "--depth", 2))
    for name in ("profile", "provenance", "report"):
        survived(f"images/{name}.json", 8, mutate_json, ("inspect", "images"))


@pytest.mark.usefixtures("place", "no_table")
def test_a_damaged_record_of_a_run_is_refused_or_changes_nothing() -> None:
    assert asked(*RUN) is not None
    assert survived("ran/run.json", 12, mutate_json, RUN) > 1


@pytest.mark.usefixtures("place")
def test_a_damaged_recipe_is_refused_or_read_as_it_stands() -> None:
    command = ("validate", "recipe.yaml")
    assert survived("recipe.yaml", 40, mutate_yaml, command, as_the_recipe_says) > 1


HEAD = "data: digits\nsteps: [profile]\n"
NASTY = (
    "data: &a digits\nname: *a\nsteps: [profile]",
    "a: " + "[" * 5000,
    HEAD + "seed: " + "9" * 5000,
    HEAD + "seed: 0x" + "f" * 5000,
    HEAD + "seed: 2024-99-99",
    HEAD + "seed: !!timestamp x",
    HEAD + "seed: !!bool x",
    HEAD + "seed: !!int x",
    HEAD + 'seed: !!python/object/apply:os.system ["x"]',
    HEAD + "noise: " + "9" * 400,
    HEAD + "source: {hidden_size: .nan}",
    "data: digits\nsteps: [{truncate: {depth: 1e400}}]",
    "data: digits\nsteps: [1, null, [], {}, {1: 2}, {profile: [1]}, {truncate: {1: 2}}]",
    "? {a: b}\n: c\nsteps: []",
    "<<: 3\nsteps: [profile]",
    "---\na: 1\n---\nb: 2",
    "data: 2024-01-01\nsteps: [profile]",
)


@pytest.mark.parametrize("text", NASTY, ids=lambda text: text[:30].replace("\n", " "))
def test_what_yaml_can_do_beyond_plain_data_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    assert asked("validate", tmp_path / "recipe.yaml") is None
    assert asked("run", tmp_path / "recipe.yaml", "--out", tmp_path / "out") is None
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("place")
def test_a_damaged_onnx_file_is_refused_or_runs() -> None:
    assert survived("onnx/model.onnx", 25, mutate_bytes, ONNX) > 0


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_damaged_data_is_refused_or_read_whole(
    kind: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = f"rows.{kind}"
    allowed = as_many_rows(READERS.get(kind, pandas.read_parquet), file)
    survived(file, 15, mutate_bytes, ("evaluate", "text", "--data", file), allowed)
    assert capfd.readouterr().err == ""  # of a library that says a fault once more
