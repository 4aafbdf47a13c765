"""Running a recipe is running its commands; what is finished is reused only while nothing it
depends on changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import guide_recipe
from tiny import network

from acn_compress import convert, finetune, prune, run, truncate
from acn_compress.checkpoint.find import find_source
from acn_compress.errors import ConfigError, DataError, Interrupted, ModelDirError
from acn_compress.events import ChainStep, Event, TrainingStep
from acn_compress.measure.budget import equal_epochs, training_flops
from acn_compress.recipe.schema import Recipe
from acn_compress.reports.ran import Ran

COMMON: dict[str, Any] = yaml.safe_load(guide_recipe())
STEPS: list[Any] = COMMON["steps"]  # convert, profile, truncate, prune, export
CONVERT, PRUNE = STEPS[0]["convert"], STEPS[3]["prune"]
JOB: dict[str, Any] = {"data": "digits", "batch_size": 32, "limit": 320, "eval_limit": 120}


def recipe(source: Path, **changes: Any) -> Recipe:
    return Recipe.model_validate({**COMMON, "source": str(source), **changes})


pytestmark = pytest.mark.xdist_group("runner")  # one run serves many tests


def test_a_recipe_is_its_commands(
    guide_run: tuple[Path, Ran], digits_vit: Path, tmp_path: Path
) -> None:
    out, _ = guide_run

    convert(digits_vit, tmp_path / "a", **JOB, **CONVERT)
    truncate(tmp_path / "a", tmp_path / "b", depth=2, data="digits")
    prune(tmp_path / "b", tmp_path / "c", **JOB, **PRUNE)
    for mine, theirs in (("a", "1-convert"), ("b", "3-truncate"), ("c", "4-prune")):
        assert find_source(tmp_path / mine).sha256() == find_source(out / theirs).sha256()


def test_the_baseline_drops_blocks_and_trains_for_the_same_operations(
    guide_run: tuple[Path, Ran], digits_vit: Path, tmp_path: Path
) -> None:
    out, report = guide_run
    whole = network(digits_vit)
    epochs = json.loads((out / "baseline-1-finetune" / "provenance.json").read_text())["steps"][-1][
        "options"
    ]["epochs"]
    spent = CONVERT["epochs"] * training_flops(whole, teacher_depth=3, prefixes=1)
    assert epochs * training_flops(whole, depth=2, teacher_depth=3) == pytest.approx(
        spent, rel=1e-3
    )
    # prefix readouts cost something too
    assert epochs > equal_epochs(whole, CONVERT["epochs"], depth=2)
    how: dict[str, Any] = JOB | {"epochs": epochs, "depth": 2}
    finetune(digits_vit, tmp_path / "b", **how, teacher=digits_vit)
    assert find_source(tmp_path / "b").sha256() == find_source(out / "baseline-1-finetune").sha256()
    assert Path(report["baseline"]).name == "baseline-2-prune"


def test_the_table_has_every_model_the_onnx_file_and_the_baseline(
    guide_run: tuple[Path, Ran],
) -> None:
    out, report = guide_run
    names = [r["name"] for r in report["rows"]]
    assert names == [
        "original",
        "1-convert",
        "3-truncate",
        "4-prune",
        "5-export",
        "baseline: drop to 2",
        "baseline: prune",
    ]
    rows = {r["name"]: r for r in report["rows"]}
    assert rows["5-export"]["value"] == rows["4-prune"]["value"]
    assert "drop" not in rows["original"] and set(rows["4-prune"]["drop"].keys()) == {
        "drop",
        "low",
        "high",
    }
    assert rows["original"]["bytes"] > rows["3-truncate"]["bytes"] > rows["4-prune"]["bytes"]
    assert all(r["onnx"]["median"] > 0 and 0 <= r["noisy"] <= 1 for r in report["rows"])
    assert all(dict(row.cells(report.metric))["noisy"] for row in report.rows)
    assert "same training budget" in report.verdict()
    text = (out / "README.md").read_text()
    assert all(name in text for name in names) and report.verdict() in text
    page = (out / "report.html").read_text()
    assert all(name in page for name in names) and "acn-compress run recipe.yaml --out run" in page
    assert 'acn_compress.load("run/4-prune")' in page.replace("&quot;", '"')
    assert json.loads((out / "table.json").read_text())["rows"] == report.plain()["rows"]


def test_a_lost_comparison_is_called_one() -> None:
    row = {"value": 0.5, "low": 0.4, "high": 0.6, "format": "torch", "parameters": 1, "bytes": 1}
    report = Ran.model_validate(
        {
            "step": "run",
            "recipe": "mine",
            "out": "out",
            "data": "digits",
            "eval_data": "digits:test",
            "examples": 120,
            "machine": {},
            "busy": 1.0,
            "steps": [],
            "exports": [],
            "compare": None,
            "seconds": 1.0,
            "metric": "accuracy",
            "noise": None,
            "final": "a",
            "baseline": "b",
            "gain": {"gain": -0.03, "low": -0.05, "high": -0.01},
            "rows": [
                row | {"name": "mine", "path": "a"},
                row | {"name": "baseline: drop to 2", "path": "b"},
            ],
        }
    )
    assert report.verdict().endswith("-3.0 [-5.0, -1.0] points (paired, 95 %), behind.")


@pytest.mark.usefixtures("no_table")
@pytest.mark.long
def test_finished_steps_are_reused_until_something_changes(
    guide_run: tuple[Path, Ran], digits_vit: Path, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(guide_run[0], out)
    source = tmp_path / "source"
    shutil.copytree(digits_vit, source)
    seen: dict[str, bool] = {}

    def tell(event: Event) -> None:
        if isinstance(event, ChainStep):
            seen[event.name] = event.reused

    def ran(**changes: Any) -> set[str]:
        seen.clear()
        run(
            recipe(source, baseline=False, **changes),
            out=out,
            progress=tell,
        )
        return {name for name, reused in seen.items() if not reused and name != "table"}

    assert ran() == set()
    cut = [*STEPS[:2], {"truncate": {"depth": 1}}, *STEPS[3:]]
    assert ran(steps=cut) == {"3-truncate", "4-prune", "5-export"}
    for lost in (out / "4-prune", out / "4-prune" / "model.safetensors"):
        shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
        assert ran(steps=cut) == {"4-prune"}  # the same weights again: the export is still theirs
    again = recipe(source, baseline=False, steps=[{"truncate": {"depth": 1}}])
    folders: list[bool] = []

    def told(event: Event) -> None:
        if isinstance(event, ChainStep):
            folders.append(event.reused)

    for overwrite in (False, False, True):
        run(
            again,
            out=tmp_path / "short",
            overwrite=overwrite,
            progress=told,
        )
    assert folders[::2] == [False, True, False]


@pytest.mark.usefixtures("no_table")
@pytest.mark.long
def test_an_interrupted_step_goes_on(digits_vit: Path, tmp_path: Path) -> None:
    steps = [{"convert": {"epochs": 3}}]
    whole = tmp_path / "whole"
    run(recipe(digits_vit, steps=steps), out=whole)

    def stop(event: Event) -> None:
        if (
            isinstance(event, TrainingStep) and event.step > 12
        ):  # after the first epoch of ten steps
            raise KeyboardInterrupt

    out = tmp_path / "interrupted"
    told = r"interrupted in step 1-convert. Run the same command again to go on"
    with pytest.raises(Interrupted, match=told) as caught:
        run(recipe(digits_vit, steps=steps), out=out, progress=stop)
    assert caught.value.exit_code == 130
    assert not (out / "1-convert").exists()
    steps_seen: list[int] = []

    def see(event: Event) -> None:
        if isinstance(event, TrainingStep):
            steps_seen.append(event.step)

    run(
        recipe(digits_vit, steps=steps),
        out=out,
        progress=see,
    )
    assert steps_seen[0] > 10
    assert find_source(out / "1-convert").sha256() == find_source(whole / "1-convert").sha256()


def test_what_cannot_run_is_refused_before_anything_is_written(
    digits_vit: Path, tmp_path: Path
) -> None:
    full = tmp_path / "mine"
    full.mkdir()
    (full / "thesis.txt").write_text("years")
    with pytest.raises(ModelDirError, match="not empty and holds no run"):
        run(recipe(digits_vit), out=full)
    assert [p.name for p in full.iterdir()] == ["thesis.txt"]
    with pytest.raises(DataError, match="set eval_data"):
        run(recipe(digits_vit, data="digits:train"), out=tmp_path / "new")
    with pytest.raises(ModelDirError, match="overlap"):
        run(recipe(digits_vit), out=digits_vit / "run")
    with pytest.raises(ModelDirError, match="no such file or directory"):
        run(recipe(tmp_path / "nowhere"), out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_teacher_called_original_needs_a_compression_before(
    digits_vit: Path, tmp_path: Path
) -> None:
    steps = [{"finetune": {"teacher": "original", "epochs": 1}}, "profile"]
    with pytest.raises(ConfigError, match="own teacher"):
        run(recipe(digits_vit, steps=steps), out=tmp_path / "new")


@pytest.mark.usefixtures("no_table")
@pytest.mark.long
def test_a_recipe_can_close_with_every_route_at_its_own_depth_and_budget(
    digits_vit: Path, tmp_path: Path
) -> None:
    steps: list[Any] = [{"convert": {"epochs": 0.5, "depth": 2, "alpha_end": 0.5}}]
    chain = recipe(digits_vit, steps=steps, compare={"routes": ["drop-last", "acn-cut-first"]})
    report = run(chain, out=tmp_path / "r")
    compared = report["compare"]
    assert {(r["route"], r["depth"]) for r in compared["table"]} == {
        ("drop-last", 2),
        ("acn-cut-first", 2),
    }
    provenance = json.loads((Path(report["baseline"]) / "provenance.json").read_text())
    trained = provenance["steps"][-1]["options"]["epochs"]
    assert compared["budget"]["epochs_at_depth"]["2"] == pytest.approx(
        trained, rel=1e-2
    )  # the baseline's budget
    assert (
        compared["alpha_end"] == 0.5
        and "| 2 acn-cut-first |" in (tmp_path / "r" / "compare" / "README.md").read_text()
    )
    with pytest.raises(ConfigError, match="compare needs a convert step and a depth"):
        read_text(tmp_path, "source: x\ndata: digits\ncompare: {}\nsteps: [finetune]\n")


def read_text(folder: Path, text: str) -> Recipe:
    from acn_compress.recipe.read import read

    path = folder / "r.yaml"
    path.write_text(text)
    return read(path)
