"""What helps a beginner: init writes a recipe that is valid, doctor says what to do, recipes are
listed, shown and copied."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, get_args

import pytest
from test_cli import invoke

import acn_compress
from acn_compress import compat, options
from acn_compress.cli import ask
from acn_compress.errors import ConfigError, ModelDirError
from acn_compress.options import Begin
from acn_compress.recipe.read import packaged, read
from acn_compress.reports.helped import Check, Doctored
from acn_compress.steps import doctor

ANSWERS = [
    (want, budget)
    for want, budget in itertools.product(get_args(options.Want), get_args(options.Budget))
    if (want, budget) != ("any-depth", "none")
]


@pytest.mark.parametrize("want, budget", ANSWERS)
def test_init_writes_a_recipe_that_is_valid(want: str, budget: str, tmp_path: Path) -> None:
    path, model = tmp_path / "my recipe.yaml", 'a "model": #1'
    answers = ["--model", model, "--data", "digits", "--want", want, "--budget", budget]
    result = invoke("init", *answers, "--out", path)
    assert result.exit_code == 0 and [p.name for p in tmp_path.iterdir()] == [path.name]
    found = read(path)
    assert (found.source, found.data) == (model, "digits")
    assert any(found.options(step).trains for step in found.steps) == (budget != "none")
    assert found.shrinks == (want == "any-depth")


def test_init_refuses_what_it_cannot_mean_and_replaces_nothing_unasked(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"init needs data, budget \(none, short, long\)"):
        acn_compress.init(model="m", want="faster", out=str(path))
    with pytest.raises(ConfigError, match="any-depth, which trains"):
        acn_compress.init(model="m", data="d", want="any-depth", budget="none", out=str(path))
    with pytest.raises(ModelDirError, match="exists"):
        acn_compress.init(model="m", data="d", want="faster", budget="none", out=str(path))
    assert path.read_text() == "mine"
    result = invoke("init", "--model", "m")  # no terminal: nothing is asked
    told = "init needs data, want (faster, smaller, lossless, any-depth), budget (none"
    assert result.exit_code == 1 and told in " ".join(result.stderr.split())


def test_init_asks_for_what_was_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["digits", "slower", "faster", "short"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda *args, **kwargs: next(answers))
    found = ask.asked(Begin, {"model": "m"})  # an answer that is none is asked for again
    assert found == {"model": "m", "data": "digits", "want": "faster", "budget": "short"}


@pytest.mark.parametrize("first", ["want", "budget"])
def test_init_asks_again_for_what_does_not_go_together(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart: dict[str, Any] = {"want": "any-depth", "budget": "none"}
    other = "budget" if first == "want" else "want"
    answers = iter([apart[other], Begin.choices(other, apart | {other: None})[-1]])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.prompt", lambda *args, **kwargs: next(answers))
    found = ask.asked(Begin, {"model": "m", "data": "d", first: apart[first]})
    assert found[first] == apart[first] and found[other] != apart[other]
    assert ask.asked(Begin, dict(apart)) == apart  # refused before a question is asked
    with pytest.raises(ConfigError, match="any-depth, which trains"):
        acn_compress.init(**apart)


@pytest.mark.long
def test_doctor_says_of_this_machine_that_export_agrees_with_torch() -> None:
    report = acn_compress.doctor(progress=False)
    found = {check.name: check for check in report.checks}
    assert found["export to ONNX"].advice is None and "agrees" in found["export to ONNX"].found
    assert {"torch", "threads", "memory", "disk here", "timm", "openvino"} <= set(found)


@pytest.mark.parametrize("other", [True, False])
def test_doctor_names_a_torchvision_of_another_build(
    other: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compat, "_libraries", ["declared"] * other)
    found = {check.name: check for check in doctor._extras()}
    assert ("torchvision" in found) == other
    if other:  # the work can be done, so it is no complaint
        assert "--no-deps 'torchvision==0." in (found["torchvision"].hint or "")
        assert found["torchvision"].advice is None


def test_what_is_wrong_comes_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ROOM", 1 << 60)
    room = list(doctor._room())
    assert room and all(check.advice for check in room)
    bad = Check(name="disk", found="1 MB free", advice="make room")
    report = Doctored(step="doctor", checks=(bad,))
    assert report.complaint() == "disk: 1 MB free; make room." and "all is well" not in str(report)


@pytest.mark.parametrize("said", [{}, {"hint": "get it"}, {"advice": "get it"}])
def test_all_is_well_where_nothing_was_advised(said: dict[str, str]) -> None:
    report = Doctored(step="doctor", checks=(Check(name="x", found="is so", **said),))
    lines = str(report).splitlines()
    assert ("all is well" in lines) == (not said)
    assert all(text in str(report) for text in said.values())
    assert "acn-compress " in lines[-1]  # what to do next


def test_packaged_recipes_are_listed_shown_and_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = invoke("recipes", "list").stdout
    assert all(name in listed for name in packaged())
    text = packaged()["quickstart"].read_text()
    assert invoke("recipes", "show", "quickstart").stdout == text
    assert invoke("recipes", "copy", "quickstart").exit_code == 0
    assert Path("quickstart.yaml").read_text() == text
    again = invoke("recipes", "copy", "quickstart")
    assert again.exit_code == 1 and "exists" in again.stderr
    wrong = invoke("recipes", "show", "quikstart")
    assert wrong.exit_code == 1 and "Did you mean quickstart?" in wrong.stderr
