"""Options are said once: the same fault reads the same wherever it was made, every option is
explained everywhere, old names work for one release more, and a type checker knows all of it."""

from __future__ import annotations

import json
import math
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

import numpy as np
import pytest
from pydantic import Field
from test_cli import fails, invoke

import acn_compress as acn
from acn_compress import surface
from acn_compress.errors import ConfigError
from acn_compress.found import Found
from acn_compress.options import STEPS, VERBS
from acn_compress.recipe.read import read
from acn_compress.recipe.schema import own_fields
from acn_compress.reports.base import Report
from acn_compress.reports.ran import Ran

ROOT = Path(__file__).parents[1]
NAMES = [(verb, name) for verb, cls in VERBS.items() for name in cls.model_fields]
AT_MOST_ONE, AT_LEAST_NONE = "less than or equal to 1.", "greater than or equal to 0."
FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("finetune", {"label_smoothing": 5.5}, f"label_smoothing is 5.5, expected: {AT_MOST_ONE}"),
    ("finetune", {"weight_decay": -1.5}, f"weight_decay is -1.5, expected: {AT_LEAST_NONE}"),
    ("finetune", {"lr": 0.0}, "lr is 0.0, expected: greater than 0."),
    ("finetune", {"warmup": 1.5}, "warmup is 1.5, expected: less than 1."),
    ("finetune", {"alpha": 0.5}, "to change the form of a trained model use convert."),
    ("finetune", {"accumulate": 0}, "accumulate is 0, expected: greater than or equal to 1."),
    ("convert", {"alpha_end": 1.5}, f"alpha_end is 1.5, expected: {AT_MOST_ONE}"),
    ("convert", {"prefix_depths": (1,)}, "has prefix_depths, but prefix_loss is 0."),
    ("convert", {"pull": 0.1, "learned": True}, "convert has both pull and learned."),
    ("profile", {"max_drop": -1.5}, f"max_drop is -1.5, expected: {AT_LEAST_NONE}"),
    ("profile", {"measures": ("taylr",)}, "measures.0 is 'taylr', expected: 'influence', 'cka',"),
    ("truncate", {"depth": 1, "max_drop": 0.1}, "truncate needs either depth or max_drop, not"),
    ("prune", {"target_sparsity": 1.5}, "target_sparsity is 1.5, expected: less than 1."),
    ("export", {"opset": 3}, "opset is 3, expected: greater than or equal to 18."),
    ("export", {"opset": 99}, "opset is 99, expected: less than or equal to 24."),
    ("export", {"tolerance": -1.5}, "tolerance is -1.5, expected: greater than 0."),
]


def flags(options: dict[str, Any]) -> list[str]:
    """Options as they are typed."""
    typed: list[str] = []
    for name, value in options.items():
        typed.append(f"--{name.replace('_', '-')}")
        if value is not True:
            typed.append(",".join(map(str, value)) if isinstance(value, tuple) else str(value))
    return typed


@pytest.mark.parametrize(("verb", "options", "sentence"), FAULTS, ids=str)
def test_the_same_fault_reads_the_same_from_python_shell_and_yaml(
    verb: str, options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    cls = VERBS[verb]
    data = {"data": "digits"} if verb not in {"export", "prune", "truncate"} else {}
    where = [tmp_path / "nothing there", tmp_path / "out"][: len(cls.arguments)]
    with pytest.raises(ConfigError) as python:
        getattr(acn, verb)(*where, **data, **options)
    told = str(python.value)
    assert sentence in told and "\n" not in told
    fails(told, verb, *where, *flags(data | options))
    recipe = tmp_path / "mine.yaml"
    own = json.dumps({k: list(v) if isinstance(v, tuple) else v for k, v in options.items()})
    recipe.write_text(f"source: m\ndata: digits\nsteps:\n  - {verb}: {own}\n")
    with pytest.raises(ConfigError) as yaml:
        read(recipe)
    assert str(yaml.value).startswith(f"{recipe}:4: steps.1.") and str(yaml.value).endswith(told)
    assert not (tmp_path / "out").exists()


def test_an_unknown_option_is_told_with_the_one_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"alhpa_end is not known. Did you mean alpha_end\?"):
        acn.convert("m", tmp_path / "out", "digits", alhpa_end=0.5)  # type: ignore[call-arg]
    assert invoke("convert", "m", "out", "--data", "digits", "--alhpa-end", 0.5).exit_code == 2


@pytest.mark.parametrize(("verb", "name"), NAMES)
def test_every_option_has_a_type_and_a_sentence_and_stands_in_the_reference(
    verb: str, name: str
) -> None:
    cls = VERBS[verb]
    assert surface.declared(cls, name).type and len(surface.sentence(cls, name)) > 5
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {verb}\n")[1].split("\n## ")[0]
    assert f"| `{name}`" in section and surface.sentence(cls, name) in section
    assert f"{name}: " in (getattr(acn, verb).__doc__ or "")


def test_what_is_made_from_the_options_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    check = runpy.run_path(str(ROOT / "docs" / "generate.py"))["main"]
    assert check(["--check"]) == 0, capsys.readouterr().err


def test_every_verb_says_what_it_reports() -> None:
    for verb in VERBS:
        step = __import__(f"acn_compress.steps.{verb}", fromlist=["run"])
        report = get_type_hints(step.run)["return"]
        assert all(issubclass(kind, Report) for kind in get_args(report) or (report,)), verb


@pytest.mark.parametrize(
    ("verb", "written", "today"),
    [
        ("convert", {"data": "d", "alpha": "learned"}, {"data": "d", "learned": True}),
        ("profile", {"data": "d", "measure": "cka"}, {"data": "d", "measures": "cka"}),
        ("benchmark", {"backend": "onnx"}, {"backends": "onnx"}),
        ("benchmark", {"warmup": 7}, {"warmup_rounds": 7}),
        ("truncate", {"depth": 1, "refit": "d"}, {"depth": 1, "refit_data": "d"}),
        ("truncate", {"depth": 1, "tail_only": True}, {"depth": 1}),
        ("inspect", {"architecture": "test_vit"}, {"config": "test_vit"}),
    ],
    ids=str,
)
def test_old_names_mean_what_they_meant_and_are_noted(
    verb: str, written: dict[str, Any], today: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    expected = surface.checked(VERBS[verb], today)
    assert not caplog.messages
    assert surface.checked(VERBS[verb], written) == expected
    (note,) = caplog.messages
    (old,) = written.keys() - today.keys()
    assert note.startswith(f"note: {old} ") and "goes with the next release" in note


@pytest.mark.long
def test_the_shell_notes_old_names_on_stderr(digits_vit: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "acn_compress", "truncate", digits_vit, tmp_path / "out"]
    options = ["--depth", "2", "--tail-only", "--json"]
    done = subprocess.run([*map(str, command), *options], capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["depth"] == 2
    assert "note: tail_only goes with the next release" in done.stderr


def test_the_objects_of_the_first_release_still_make_options(
    caplog: pytest.LogCaptureFixture,
) -> None:
    training: dict[str, Any] = {"epochs": 2, "lr": 0.1}
    job = acn.Job("digits", acn.Recipe(**training), limit=5)
    assert job == {"data": "digits", "epochs": 2, "lr": 0.1, "limit": 5}
    assert len(caplog.messages) == 2


# what steps of a recipe take


def steps(tmp_path: Path, *written: str) -> acn.Recipe:
    path = tmp_path / "mine.yaml"
    path.write_text("source: m\ndata: digits\nsteps:\n" + "".join(f"  - {s}\n" for s in written))
    return read(path)


def test_a_step_of_a_recipe_takes_what_its_command_takes(tmp_path: Path) -> None:
    found = steps(
        tmp_path,
        "finetune: {depth: 3, keep: even, refit: true}",
        "export: {exit_entropy: 0.7}",
    )
    cut, exported = (found.options(step) for step in found.steps)
    assert cut.given().items() >= {"depth": 3, "keep": "even", "refit": True}.items()
    assert exported.given()["exit_entropy"] == 0.7
    for cls in STEPS.values():
        recipe_or_run = {*acn.Recipe.model_fields, "config", "device", "overwrite", "resume"}
        rest = cls.model_fields.keys() - own_fields(cls) - recipe_or_run
        assert rest <= {"to", "profile"}, cls.verb


def test_a_recipe_made_in_python_runs_and_so_does_one_by_its_name(
    digits_vit: Path, tmp_path: Path, no_table: None
) -> None:
    recipe = acn.Recipe.model_validate(
        {
            "source": str(digits_vit),
            "data": "digits",
            "eval_limit": 60,
            "steps": [{"truncate": {"depth": 2}}],
        }
    )
    report = acn.run(recipe, out=tmp_path / "object", device="auto", progress=False)
    assert [Path(step.folder).name for step in report.steps] == ["1-truncate"]
    path = tmp_path / "mine.yaml"
    path.write_text(f"source: {digits_vit}\ndata: digits\nsteps: [{{truncate: {{depth: 2}}}}]\n")
    again = acn.run(str(path), out=tmp_path / "file", progress=False)
    assert isinstance(report, Ran) and isinstance(again, Ran)
    files = (Path(r.final) / "model.safetensors" for r in (report, again))
    assert len({file.read_bytes() for file in files}) == 1
    assert acn.validate("acn").steps == 6


def test_a_recipe_of_nothing_is_one_line() -> None:
    with pytest.raises(ConfigError) as error:
        acn.Recipe()  # type: ignore[call-arg]
    assert "data is missing" in str(error.value) and "steps is missing" in str(error.value)
    assert "\n" not in str(error.value)


# Python


def test_tab_completion_offers_the_verbs() -> None:
    assert set(VERBS) | {"load", "Recipe", "AcnError"} <= set(dir(acn))


def test_the_device_is_found_from_python(digits_vit: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 0.05, "limit": 64, "eval_limit": 20, "batch_size": 32}
    report = acn.finetune(digits_vit, tmp_path / "out", "digits", device="auto", **options)
    assert report.training is not None and report.training.steps == 1


def test_a_cut_that_nobody_meant_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bound is 'nonsense', expected: 'upper' or 'point'"):
        acn.truncate("m", tmp_path / "out", max_drop=0.1, bound="nonsense")  # type: ignore[arg-type]


# reports


def no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


def test_a_report_is_read_by_attribute_and_by_key_and_prints_well(
    digits_acn: Path, tmp_path: Path
) -> None:
    report = acn.truncate(digits_acn, tmp_path / "out", depth=2, data="digits", limit=60)
    assert report.after is not None and report.after.value == report["after"]["value"]
    assert "training" not in report and report.training is None and "after" in report.keys()  # noqa: SIM118
    assert json.loads(json.dumps(report.plain()), parse_constant=no_constant)["depth"] == 2
    for told in (str(report), repr(report), report._repr_html_()):
        assert "blocks" in told and "2 of 3" in told
        assert "next: acn-compress prune" in told.replace("<code>", "")
    assert report._repr_html_().count("<table>") == report._repr_html_().count("</table>") == 1
    with pytest.raises(KeyError, match="There are: "):
        report["nonsense"]


def test_the_json_of_a_command_is_json(digits_acn: Path) -> None:
    result = invoke("evaluate", digits_acn, "--data", "digits", "--limit", 40, "--json")
    found = json.loads(result.stdout, parse_constant=no_constant)
    assert found["step"] == "evaluate" and found["noise"] is None


def test_a_number_that_is_none_is_null() -> None:
    class Measured(Found):
        one: float
        many: tuple[float, ...]

    found = Measured(one=math.nan, many=(math.inf, 1.0))
    expected = {"one": None, "many": [None, 1.0]}
    assert json.loads(found.model_dump_json(), parse_constant=no_constant) == expected
    assert json.loads(json.dumps(found.plain()), parse_constant=no_constant) == expected


def test_what_was_found_is_a_mapping_of_it() -> None:
    class Measured(Found):
        step: str
        none: float | None = None
        of: float = Field(alias="from")

    found = Measured(step="x", of=0.0)
    expected = {"step": "x", "from": 0.0}
    assert dict(found) == {**found} == dict(found.items()) == expected
    assert list(found) == found.keys() == list(expected)
    assert found.values() == list(expected.values())
    for key in (*found.plain(), "nonsense"):
        assert (key in found) == (key in expected)
        assert found.get(key, 3) == expected.get(key, 3)
    assert found["none"] is None and found.plain() == expected | {"none": None}


# a type checker

# reading the types of these libraries takes most of a checker's time, and they play no part here
CHECKED = """\
[mypy]
strict = True
plugins = pydantic.mypy
cache_dir = cache
[mypy-torch.*,transformers.*,datasets.*]
follow_imports = skip
"""
RIGHT = """\
from pathlib import Path

import acn_compress as acn

report = acn.convert("m", Path("out"), "digits", alpha_end=0.5, depth=3, keep="even", epochs=2)
value: float | None = None if report.after is None else report.after.value
acn.benchmark(["m", "onnx"], backends=("torch",))
acn.compare("m", "digits", depths=(2, 3))
"""
WRONG = {
    'acn.convert("m", "out", "digits", alhpa_end=0.5)': "call-arg",
    'acn.convert("m", "out", "digits", keep="last")': "arg-type",
    'acn.truncate("m", "out", depth="2")': "arg-type",
    'acn.profile("m", "digits").nonsense': "attr-defined",
}


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
@pytest.mark.long
def test_a_type_checker_refuses_what_the_functions_would(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(RIGHT + "".join(f"{line}\n" for line in WRONG))
    (tmp_path / "acn_compress").symlink_to(ROOT / "acn_compress")
    (tmp_path / "mypy.ini").write_text(CHECKED)
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", str(snippet)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    told = [line for line in done.stdout.splitlines() if "snippet.py" in line and "error" in line]
    first = RIGHT.count("\n") + 1
    assert len(told) == len(WRONG), done.stdout + done.stderr
    for number, (line, code) in enumerate(zip(told, WRONG.values(), strict=True), first):
        assert f"snippet.py:{number}:" in line and f"[{code}]" in line, line


def test_what_was_given_is_told_in_a_line_however_large_it_is() -> None:
    rows: Any = [{"image": np.zeros((8, 8)), "label": 1}]
    with pytest.raises(ConfigError) as told:
        acn.evaluate("nowhere", data=rows)
    assert "\n" not in str(told.value) and len(str(told.value)) < 500
    assert "... (list), expected: a data set" in str(told.value)


@pytest.mark.parametrize(
    ("verb", "given", "said"),
    [
        ("convert", {"keep": "best"}, "has keep best, which needs depth"),
        ("convert", {"refit": False}, "has refit False, which needs depth"),
        ("finetune", {"keep": "even"}, "has keep even, which needs depth"),
        ("truncate", {"depth": 2, "profile": "p.json"}, "has profile p.json, which needs max_drop"),
        ("truncate", {"depth": 2, "bound": "point"}, "has bound point, which needs max_drop"),
        ("truncate", {"depth": 2, "against": "source"}, "has against source, which needs max_drop"),
        (
            "truncate",
            {"max_drop": 0.1, "data": "digits", "profile": "p.json"},
            "has both profile and data",
        ),
        ("truncate", {}, r"needs depth or max_drop\.$"),
    ],
)
def test_an_option_that_would_mean_nothing_is_refused(
    verb: str, given: dict[str, Any], said: str
) -> None:
    cls = VERBS[verb]
    needed = {"data": "digits"} if cls.model_fields["data"].is_required() else {}
    with pytest.raises(ConfigError, match=said):
        surface.checked(cls, {**needed, **given})


def test_options_of_texts_and_of_entropies_that_are_none_are_refused(digits_vit: Path) -> None:
    for given, said in (
        ({"max_length": 5}, "max_length is of texts, in tokens; images are read whole"),
        ({"exit_entropy": -1.0}, "exit_entropy is -1.0, expected a number of nats"),
    ):
        with pytest.raises(acn.AcnError, match=said):
            acn.evaluate(digits_vit, data="digits", limit=8, **given)
