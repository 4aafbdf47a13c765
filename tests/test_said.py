"""What a report says of data and checkpoint: which rows and columns were read, how labels became
classes, how few examples there were, and what pruning alone did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from brought import bert, table, texts

from acn_compress import evaluate, finetune, profile, prune, run, truncate
from acn_compress.errors import ConfigError
from acn_compress.measure.intervals import smallest_share
from acn_compress.quality import Drop
from acn_compress.recipe.schema import Recipe
from acn_compress.reports.base import Report
from acn_compress.reports.ran import Ran
from acn_compress.reports.show import as_text

CLASSES = ["calm", "loud"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return bert(tmp_path / "m", labels=CLASSES)


@pytest.fixture
def data(tmp_path: Path) -> str:
    for split, n in (("train", 48), ("test", 30)):
        labels = [CLASSES[i % 2].upper() for i in range(n)]
        table(tmp_path / "d" / f"{split}.csv", sentence=texts(n), mood=labels)
    return str(tmp_path / "d")


COLUMNS: dict[str, Any] = {"label_column": "mood", "text_column": "sentence"}


def lines(report: Report) -> list[str]:
    return as_text(report.display()).splitlines()


def test_evaluate_and_profile_say_what_they_read_in_lines_that_fit(
    model: Path, data: str, tmp_path: Path
) -> None:
    for report in (
        evaluate(model, data, limit=20, **COLUMNS),
        profile(model, data, limit=20, to=str(tmp_path), **COLUMNS),
    ):
        assert report.read is not None and report.plain()["read"]["split"] == "test"
        told = lines(report)
        at = told.index("read split test: 20 of 30 rows; label from mood, text from sentence")
        assert told[at + 1].startswith("  2 labels by case (CALM = calm, LOUD = loud); texts of up")
        assert any(line.startswith("n = 20 is small") for line in told)
        said = [line for line in told if line.startswith(("read ", "  2 labels", "n = ", "    "))]
        assert len(said) >= 3 and all(len(line) <= 80 for line in said)


def test_cut_texts_are_said(model: Path, data: str) -> None:
    report = evaluate(model, data, max_length=4, **COLUMNS)
    assert report.read is not None and report.read.lengths is not None
    assert report.read.lengths.cut > 0
    assert f"{report.read.lengths.cut} cut at 4" in " ".join(lines(report))


def test_steps_that_make_a_model_keep_what_they_read_beside_it(
    model: Path, data: str, tmp_path: Path
) -> None:
    made = finetune(model, tmp_path / "f", data, epochs=1, batch_size=16, limit=32, **COLUMNS)
    assert made.read is not None and (made.read.split, made.read.used) == ("train", 32)
    assert made.eval_read is not None and made.eval_read.rows == 30
    stored = json.loads((tmp_path / "f" / "report.json").read_text())
    assert stored["eval_read"]["columns"] == {"text": "sentence", "label": "mood"}
    assert str(tmp_path) not in json.dumps(stored)
    assert any(line.startswith("measured on split test: 30 of 30 rows") for line in lines(made))
    cut = truncate(model, tmp_path / "t", depth=1, data=data, **COLUMNS)
    assert cut.read is not None and cut.read.split == "test"


def test_prune_reports_the_pruned_state_before_it_trains(
    model: Path, data: str, tmp_path: Path
) -> None:
    alone = prune(model, tmp_path / "a", data=data, target_sparsity=0.5, **COLUMNS)
    harmed = prune(
        model,
        tmp_path / "b",
        data=data,
        target_sparsity=0.5,
        epochs=1,
        batch_size=16,
        lr=1e-9,
        **COLUMNS,
    )
    assert alone.pruned is None and alone.after is not None
    assert harmed.pruned is not None and harmed.pruned_drop is not None
    assert harmed.pruned.loss == pytest.approx(alone.after.loss)
    assert harmed.pruned_drop == alone.drop
    assert any(line.startswith("pruned, untrained") for line in lines(harmed))


def test_a_recovery_that_does_harm_is_called_so(model: Path, data: str, tmp_path: Path) -> None:
    report = prune(
        model, tmp_path / "b", data=data, target_sparsity=0.5, epochs=1, batch_size=16, **COLUMNS
    )
    after, pruned, drop = report.after, report.pruned, report.training_drop
    assert after is not None and pruned is not None and drop is not None
    assert drop.drop == pytest.approx(pruned.value - after.value)
    worse = Drop(drop=0.1, low=0.02, high=0.18)
    unsure = Drop(drop=0.003, low=-0.01, high=0.02)  # one row of many is no harm
    told = [
        as_text(report.model_copy(update={"training_drop": d}).display()) for d in (worse, unsure)
    ]
    assert "did harm: -10.0 [-18.0, -2.0] points" in " ".join(told[0].split())
    assert "did harm" not in told[1]


def test_a_max_drop_that_the_data_cannot_show_is_refused_unless_the_point_is_asked_for(
    model: Path, data: str, tmp_path: Path
) -> None:
    refused = "max_drop 0.01 needs about 300 examples, found 30: use more data or --bound point."
    at, out = str(tmp_path), tmp_path / "out"
    attempts: list[Callable[[], Report]] = [
        lambda: profile(model, data, max_drop=0.01, to=at, **COLUMNS),
        lambda: truncate(model, out, max_drop=0.01, data=data, **COLUMNS),
        lambda: truncate(model, out, max_drop=0.01, profile=str(tmp_path / "profile.json")),
    ]
    report = profile(model, data, to=at, **COLUMNS)  # its own default only finds no cutoff
    assert report.unshown == refused and report.cutoff is None
    for attempt in attempts:
        with pytest.raises(ConfigError) as error:
            attempt()
        assert str(error.value) == refused
    profile(model, data, max_drop=0.01, bound="point", to=at, **COLUMNS)
    assert not out.exists()


def test_of_the_same_answers_the_drop_is_not_certain(model: Path, data: str) -> None:
    report = evaluate(model, data, against=model, **COLUMNS)
    assert report.drop is not None and report.drop.drop == 0
    assert report.drop.high == -report.drop.low == smallest_share(30)


@pytest.mark.usefixtures("no_table")
@pytest.mark.long
def test_a_run_reuses_a_step_only_for_the_same_content(
    model: Path, data: str, tmp_path: Path
) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "mine",
            "source": str(model),
            "data": data,
            "baseline": False,
            "training": {"batch_size": 16, "epochs": 0.5},
            **COLUMNS,
            "steps": ["finetune", {"truncate": {"depth": 1}}],
        }
    )

    def reused() -> list[bool]:
        report = run(recipe, out=tmp_path / "r")
        assert isinstance(report, Ran)
        return [step.reused for step in report.steps]

    assert reused() == [False, False]
    assert reused() == [True, True]
    path = Path(data) / "train.csv"
    path.write_text(path.read_text().replace("CALM", "XXXX").replace("LOUD", "CALM"))
    path.write_text(path.read_text().replace("XXXX", "LOUD"))  # the labels turned round
    assert reused() == [False, False]
    assert reused() == [True, True]
    settings = model / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_max_length": 8}))
    assert reused()[0] is False
