"""The benchmarks run: every command says what it does, and what they train can be built."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest

from acn_compress.checkpoint.load import from_config
from acn_compress.options import Trained
from benchmarks.choices.table import BASELINES, KINDS, Trial
from benchmarks.command import stored, write
from benchmarks.paper.little import Race
from benchmarks.paper.watch import Measured
from benchmarks.route import kinds

COMMANDS = (
    "claims",
    "decoder",
    "docstrings",
    "kills",
    "latency",
    "memory",
    "opens",
    "overhead",
    "pictures",
    "processes",
    "recovery",
    "refit",
    "routes",
    "scale",
    "structure",
    "structured",
    "trials",
    "twins",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = import_module(f"benchmarks.{name}")
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 0
    assert f"python -m benchmarks.{name}" in capsys.readouterr().out


def test_the_vit_of_the_routes_is_that_of_the_recipe(tmp_path: Path) -> None:
    config = kinds.KINDS["vit"].config
    assert config is not None
    (tmp_path / "config.json").write_text(json.dumps(config()))
    assert from_config(tmp_path, labels=["a", "b"]).depth == 12


def test_a_trial_brings_its_baseline_and_tells_where_it_differs() -> None:
    chosen = KINDS["vit"].named(["one-0.5-chosen"])
    assert list(chosen) == [*BASELINES.values(), "one-0.5-chosen"]
    assert Trial(3, 0.5, recipe=Trained(lr=1e-3)).settings() == {
        "depth": 3,
        "end": 0.5,
        "recipe": {"lr": 1e-3},
    }


def test_a_curve_of_the_test_loss_keeps_its_accuracy() -> None:
    race = Race(level=1.0, epochs={}, curves={"acn": [Measured(step=1, loss=1.0, accuracy=0.5)]})
    assert race.plain()["curves"]["acn"] == [{"step": 1, "loss": 1.0, "accuracy": 0.5}]


def test_rows_of_earlier_runs_stay_if_they_are_of_the_same_network(tmp_path: Path) -> None:
    file, row = tmp_path / "found.json", Measured(step=1, loss=1.0, accuracy=0.5)
    assert stored(file, Measured, source="a") == []
    write(file, {"source": "a", "rows": [row.plain()]})
    assert stored(file, Measured, source="a") == [row]
    assert stored(file, Measured, source="b") == []
