"""Out of memory is said as such, and not as a fault of a file or of this package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import acn_compress
from acn_compress import memory
from acn_compress.cli.app import app
from acn_compress.errors import ConfigError, OutOfMemoryError
from acn_compress.measure import original

ROWS: dict[str, Any] = {"data": "digits", "limit": 90}
CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.5 GiB"


@pytest.fixture
def larger_than_any(tmp_path: Path) -> Path:
    """A network whose first matrix has a PiB, more than an address can have: no machine has it."""
    width = 2**24
    sizes = {"hidden_size": width, "intermediate_size": width, "num_hidden_layers": 1}
    where = {"image_size": 8, "patch_size": 4, "num_channels": 3, "num_attention_heads": 2}
    architecture = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}
    file = tmp_path / "huge.json"
    file.write_text(json.dumps({**architecture, **sizes, **where}))
    return file


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError(CUDA), CUDA),
        (MemoryError("std::bad_alloc"), "std::bad_alloc"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), "MPS backend out of"),
        (
            RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for 9 bytes"),
            "Failed to allocate memory",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling x"), "CUBLAS_STATUS"),
        (OSError(12, "Cannot allocate memory"), "[Errno 12] Cannot allocate memory"),
    ],
)
def test_every_library_has_its_own_words(error: Exception, said: str) -> None:
    found = memory.shortage(error)
    assert found is not None and found.startswith(said)
    hidden = ConfigError("config.json does not describe a model")
    hidden.__cause__ = error
    assert memory.shortage(hidden) == found


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2"), OSError(28, "No space left")])
def test_another_error_is_none(error: Exception) -> None:
    assert memory.shortage(error) is None


def test_what_no_machine_can_hold_is_no_fault_of_its_config(
    larger_than_any: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = [str(larger_than_any), str(out), "--init", "random", "--data", "digits"]
    found = CliRunner().invoke(app, ["finetune", *words, "--epochs", "1"])
    assert found.exit_code == 1 and not found.stdout
    (line,) = found.stderr.strip().splitlines()
    assert line.startswith("error: out of memory (")
    assert "--batch-size (now 64)" in line and "--checkpointing" in line
    assert [p.name for p in tmp_path.iterdir()] == [larger_than_any.name]


def test_without_memory_for_the_original_the_rest_is_measured(
    digits_vit: Path, digits_acn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both need not fit on a device that one of them fits on."""
    shutil.copytree(digits_vit, tmp_path / "digits-vit")
    acn = shutil.copytree(digits_acn, tmp_path / "acn")
    beside = acn_compress.evaluate(acn, **ROWS)

    def none_left(*_: object, **__: object) -> object:
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(original, "load_source", none_left)
    alone = acn_compress.evaluate(acn, **ROWS)
    assert beside.original is not None and alone.original is None
    assert alone.result == beside.result


def test_the_advice_names_what_the_verb_has(
    digits_vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from acn_compress.steps import evaluate

    def none_left(*_: object, **__: object) -> object:
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(evaluate, "measure", none_left)
    with pytest.raises(OutOfMemoryError, match=r"Lower --batch-size \(now 8\) or --max-length, or"):
        acn_compress.evaluate(digits_vit, batch_size=8, **ROWS)
