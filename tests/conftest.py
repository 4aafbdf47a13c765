"""Shared by all tests: no network, one thread, and one small ViT really trained on digits per
session."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
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
from typer.testing import CliRunner

import acn_compress
from acn_compress.cli import app
from acn_compress.reports.ran import Ran, Table

torch.set_num_threads(1)
pytest_plugins = ["texts"]  # fixtures of more than one file

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


# what takes tens of seconds to make, so that whoever asks for it is as long as it is
COSTLY = {"guide_run", "launch", "halved", "every"}


@pytest.hookimpl(tryfirst=True)  # before tests are left out by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a costly fixture are long, all of them: one that was not would make it."""
    for item in items:
        if isinstance(item, pytest.Function) and COSTLY.intersection(item.fixturenames):
            item.add_marker(pytest.mark.long)


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


GUIDE = (Path(__file__).parent.parent / "docs" / "guide.md").read_text()
GUIDE_RUN = ["run", "recipe.yaml", "--out", "run"]


def guide_recipe() -> str:
    """The recipe of the guide, for 3 blocks where the guide's has 6, and little data, so that it
    does not take minutes."""
    blocks: list[str] = re.findall(r"```yaml\n(.*?)```", GUIDE, flags=re.S)
    (text,) = blocks
    return text.replace("depth: 4", "depth: 2") + "limit: 320\neval_limit: 120\n"


@pytest.fixture(scope="session")
def guide_run(digits_vit: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """What the guide's command makes of it: where the run lies, and its report. Who asks for it
    belongs to the group `runner`, so that it is made once."""
    place = tmp_path_factory.mktemp("runs")
    shutil.copytree(digits_vit, place / "my-vit")
    (place / "recipe.yaml").write_text(guide_recipe())
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        result = CliRunner().invoke(app, [*GUIDE_RUN, "--json"])
    assert result.exit_code == 0, f"{result.stderr}{result.exception!r}"
    return place / "run", Ran.model_validate_json(result.stdout)


@pytest.fixture
def no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the final table of a run, which exports and times every model: most of the time of
    a run this small."""
    empty = Table(
        metric="accuracy", eval_data="", examples=0, machine={}, busy=1.0, gain=None, rows=()
    )
    monkeypatch.setattr("acn_compress.recipe.table.table", lambda *args, **kwargs: empty)
