"""Files that this user may not read: every command says so, and of which file, in one line."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import pytest
import torch
from PIL import Image
from test_cli import invoke
from texts import sentences, write

import acn_compress
from acn_compress.checkpoint.config import fitting
from acn_compress.errors import CheckpointError

VERSION, PAST_MODES = 0x20080522, (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@contextmanager
def as_anybody() -> Iterator[None]:
    """Inside, the modes of files hold for the superuser, too."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(VERSION, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    before, sets[0] = sets[0], sets[0] & ~PAST_MODES
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0


def denied(file: Path, *words: object) -> None:
    """That a command says so of a file."""
    mode, folder = file.stat().st_mode, file.is_dir()
    file.chmod(0)
    try:
        with as_anybody():
            done = invoke(*words)
    finally:
        file.chmod(mode)
    said = f"no permission to {'open' if folder else 'read'} {file}"
    assert done.exit_code == 1 and said in done.stderr, done.output
    assert "config.json does not" not in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["inspect", "truncate", "evaluate", "export", "finetune"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "."])
def test_a_checkpoint(command: str, name: str, digits_vit: Path, tmp_path: Path) -> None:
    model, out = shutil.copytree(digits_vit, tmp_path / "m"), tmp_path / "out"
    words: dict[str, list[object]] = {
        "truncate": [out, "--depth", 1],
        "evaluate": ["--data", "digits"],
        "export": [out],
        "finetune": [out, "--data", "digits"],
    }
    denied(model / name, command, model, *words.get(command, []))
    assert not out.exists()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer(name: str, bert: Path, reviews: Path, tmp_path: Path) -> None:
    model = shutil.copytree(bert, tmp_path / "m")
    denied(model / name, "evaluate", model, "--data", reviews)


def test_weights_and_graphs_that_are_named_themselves(digits_vit: Path, tmp_path: Path) -> None:
    model = shutil.copytree(digits_vit, tmp_path / "m")
    state = acn_compress.load(model).state_dict()
    torch.save(state, pickle := model / "w.pth")
    denied(pickle, "inspect", pickle)
    assert invoke("export", model, tmp_path / "o").exit_code == 0
    graph = tmp_path / "o" / "onnx" / "model.onnx"
    for command in (["inspect"], ["evaluate", "--data", "digits"], ["benchmark"]):
        denied(graph, command[0], graph, *command[1:])


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "txt"])
@pytest.mark.parametrize("folder", [True, False])
def test_a_table(ending: str, folder: bool, classifier: Path, tmp_path: Path) -> None:
    texts, labels = zip(*sentences(20, 1), strict=True)
    (tmp_path / "d").mkdir()
    file = Path(write(tmp_path / "d" / f"test.{ending}", {"text": texts, "label": labels}))
    denied(file, "evaluate", classifier, "--data", file.parent if folder else file)


def test_a_picture_and_a_saved_data_set(digits_vit: Path, tmp_path: Path) -> None:
    for name in ("0", "1"):
        (tmp_path / "p" / "test" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "p" / "test" / name / "a.png")
    denied(
        tmp_path / "p" / "test" / "1" / "a.png", "evaluate", digits_vit, "--data", tmp_path / "p"
    )
    rows = datasets.Dataset.from_dict({"text": ["a"], "label": [0]})
    datasets.DatasetDict(test=rows).save_to_disk(str(tmp_path / "d"))
    file = next((tmp_path / "d").rglob("*.arrow"))
    denied(file, "evaluate", digits_vit, "--data", tmp_path / "d")


def test_a_recipe(tmp_path: Path) -> None:
    (file := tmp_path / "r.yaml").write_text("steps: []")
    denied(file, "validate", file)


def test_what_the_system_does_not_give_is_no_fault_of_the_config() -> None:
    with pytest.raises(CheckpointError, match=r"^/w: cannot be read \(Input/"), fitting("m"):
        raise OSError(5, "Input/output error", "/w")
    with pytest.raises(MemoryError), fitting("m"):
        raise MemoryError
    with pytest.raises(CheckpointError, match="does not describe a model"), fitting("m"):
        raise OSError("no such activation")  # as transformers raises it
