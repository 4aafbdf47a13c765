"""Shared by all tests: no network, one thread, and one small ViT really trained on digits per
session."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

os.environ.update(
    {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "NO_COLOR": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
)

import pytest
import torch

import acn_compress

torch.set_num_threads(1)

DIGITS_VIT = {
    "model_type": "vit",
    "architectures": ["ViTForImageClassification"],
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 8,
    "patch_size": 2,
    "num_channels": 3,
}


def pytest_collection_finish() -> None:
    """What all imports made stays until the end: no collection has to look through it again, and
    every training and every export asks for one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def vit_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers config for digits."""
    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_text(json.dumps(DIGITS_VIT))
    return path


@pytest.fixture(scope="session")
def digits_vit(vit_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A residual ViT of 3 blocks, trained on digits far above chance."""
    out = tmp_path_factory.mktemp("models") / "digits-vit"
    report = acn_compress.finetune(
        vit_config, out, "digits", epochs=10, batch_size=32, lr=2e-3, task_weight=1.0, init="random"
    )
    assert report["after"]["value"] > 0.5
    return out


@pytest.fixture(scope="session")
def digits_acn(digits_vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network converted to ACN form, with its profile."""
    out = tmp_path_factory.mktemp("models") / "digits-acn"
    acn_compress.convert(
        digits_vit, out, "digits", epochs=3, batch_size=32, lr=1e-3, prefix_loss=1.0
    )
    acn_compress.profile(out, data="digits")
    return out


@pytest.fixture
def no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the final table of a run, which exports and times every model: most of the time of
    a run this small."""
    from acn_compress.reports.ran import Table

    empty = Table(
        metric="accuracy", eval_data="", examples=0, machine={}, busy=1.0, gain=None, rows=()
    )
    monkeypatch.setattr("acn_compress.recipe.table.table", lambda *args, **kwargs: empty)
