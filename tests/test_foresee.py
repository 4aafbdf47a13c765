"""A dry run says what a run would take and make, and all that is missing, and does nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import DIGITS_VIT
from test_cli import invoke
from tiny import network

from acn_compress import run
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import from_config
from acn_compress.checkpoint.write import write
from acn_compress.measure.budget import training_flops
from acn_compress.recipe.schema import Recipe
from acn_compress.reports.planned import Planned

STEPS: list[Any] = [
    {"finetune": {"init": "random", "epochs": 2, "task_weight": 1.0}},
    {"convert": {"epochs": 1}},
    {"truncate": {"depth": 2}},
    {"prune": {"target_sparsity": 0.5}},
    {"export": {"format": "onnx"}},
]


def recipe(**changes: Any) -> Recipe:
    given = {"source": DIGITS_VIT, "data": "digits", "training": {"batch_size": 32}}
    return Recipe.model_validate({**given, "steps": STEPS, **changes})


def planned(recipe: Recipe, out: Path) -> Planned:
    report = run(recipe, out=out, dry_run=True, progress=False)
    assert isinstance(report, Planned)
    return report


def test_every_step_is_foreseen_and_nothing_is_done(tmp_path: Path, vit_config: Path) -> None:
    report = planned(recipe(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == [] and report.complaint() is None
    net = from_config(vit_config, labels=[str(i) for i in range(10)])
    names = ["1-finetune", "2-convert", "3-truncate", "4-prune", "5-export"]
    names += ["baseline-1-finetune", "baseline-2-prune"]
    *_, exported, baseline, _ = report.steps
    assert [step.folder for step in report.steps] == names
    first, converted, cut, pruned, *_ = report.steps
    assert first.parameters == net.parameters and (report.examples or 0) > 1000
    assert first.steps == 2 * ((report.examples or 0) // 32)
    assert first.flops == training_flops(net) * (first.steps or 0) * 32
    assert (converted.flops or 0) > 0.5 * (first.flops or 0)  # a teacher as well
    net.truncate_(2)
    assert cut.blocks == 2 and cut.parameters == net.parameters
    matrices = sum(p.numel() for b in net.blocks for p in b.parameters() if p.dim() > 1)
    assert pruned.parameters == exported.parameters == net.parameters - matrices // 2
    for step in (first, converted, cut, pruned, exported):  # float32
        assert step.bytes == 4 * (step.parameters or 0)
        assert (step.seconds is None) == (step.flops is None)
    assert baseline.flops == converted.flops  # the network it begins with is trained for both
    assert "training in all" in str(report) and " s here, " in str(report)


@pytest.mark.parametrize(
    "limits, most, trainings",
    [
        ({"target_params": 0.5}, 0.5, 2),
        ({"speedup": 2}, None, 2),
        ({"speedup": 2, "target_params": 1000, "convert": True}, 1000, 3),
        ({"max_drop": 0.1}, None, 4),
    ],
)
def test_what_compress_may_come_to_is_told(
    limits: dict[str, Any], most: float | None, trainings: int, tmp_path: Path
) -> None:
    steps = [STEPS[0], {"compress": {**limits, "epochs": 1}}]
    report = planned(recipe(steps=steps), tmp_path / "out")
    first, step = report.steps
    whole = first.parameters or 0
    bound = None if most is None else int(most * whole) if most < 1 else most
    assert (step.parameters, step.at_most) == (bound, most is not None)
    assert step.steps == trainings * ((first.steps or 0) // 2)  # candidates and the baseline
    text = " ".join(str(report).split())
    assert all(f"{name} {v:,}" in text for name, v in limits.items() if name != "convert")


def test_what_only_a_step_will_find_is_not_guessed(tmp_path: Path) -> None:
    steps = [STEPS[0], {"profile": {}}, {"truncate": {"max_drop": 0.02}}, STEPS[3]]
    *_, cut, pruned = planned(recipe(steps=steps), tmp_path / "out").steps
    assert cut.blocks is None and cut.parameters is None and pruned.parameters is None


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    table = tmp_path / "d.csv"
    table.write_text("text,label\na,b\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    steps = [{"convert": {"teacher": str(tmp_path / "nobody")}}, {"truncate": {"depth": 1}}]
    gone = recipe(source=str(tmp_path / "gone"), data=str(tmp_path / "no.csv"), steps=steps)
    report = planned(gone, tmp_path / "full")
    assert len(report.missing) == 4 and "4 things are missing" in (report.complaint() or "")
    for text in ("gone: no such", "no.csv: no such", "nobody: no such", "is not empty"):
        assert any(text in told for told in report.missing), text
    assert "missing: source: " in " ".join(str(report).split())
    other = planned(recipe(data=str(table)), tmp_path / "out")  # columns that do not fit
    assert any(told.startswith("data: ") for told in other.missing)
    steps = [STEPS[0], {"prune": {"vocabulary": str(tmp_path / "no.csv")}}]
    twice = planned(recipe(data=str(tmp_path / "no.csv"), steps=steps), tmp_path / "out")
    assert sum("no.csv" in told for told in twice.missing) == 1
    named = {"data": str(table), "label_column": "a", "image_column": "b"}
    wrong = [told for told in planned(recipe(**named), tmp_path / "out").missing if "'a'" in told]
    assert len(wrong) == 1 and "'b'" in wrong[0]


def test_a_depth_that_will_not_be_there_is_missing(tmp_path: Path, vit_config: Path) -> None:
    net = from_config(vit_config, labels=[str(i) for i in range(10)])
    write(net, tmp_path / "m", source=None, step="x", options={}, report={})
    steps = [{"truncate": {"depth": 2}}, {"truncate": {"depth": 3}}]
    report = planned(recipe(source=str(tmp_path / "m"), steps=steps), tmp_path / "out")
    assert [t for t in report.missing if t.startswith("2-truncate: depth is 3")] != []
    assert network(tmp_path / "m").depth == 3 and find_source(tmp_path / "m").sha256()


@pytest.mark.parametrize("data, code", [("digits", 0), ("nowhere.csv", 1)])
def test_the_command_exits_with_1_if_something_is_missing(
    data: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = {"source": DIGITS_VIT, "data": data, "steps": STEPS}
    (tmp_path / "r.yaml").write_text(json.dumps(found))
    result = invoke("run", "r.yaml", "--dry-run")
    assert result.exit_code == code
    assert ("next: acn-compress run r.yaml" in result.stdout) == (code == 0)
