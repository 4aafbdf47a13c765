"""Recipes: every fault at once, with its line; the packaged ones are valid; options are those of
the commands."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import acn_compress
from acn_compress.errors import ConfigError
from acn_compress.options import STEPS, Training
from acn_compress.recipe.read import packaged, read
from acn_compress.recipe.schema import Recipe, own_fields

GOOD = """\
source: some/model
data: digits
steps:
  - convert: {epochs: 2, alpha_end: 0.25}
  - profile
  - truncate: {max_drop: 0.01}
  - prune: {target_sparsity: 0.5}
  - export:
"""


def recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def faults(tmp_path: Path, text: str) -> list[str]:
    path = recipe(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read(path)
    return [line.replace(f"{path}:", "") for line in str(caught.value).splitlines()]


def test_a_good_recipe_reads_as_it_is_written(tmp_path: Path) -> None:
    found = read(recipe(tmp_path, GOOD))
    assert found.name == "mine"
    assert [s.verb for s in found.steps] == ["convert", "profile", "truncate", "prune", "export"]
    assert found.steps[0].given == {"epochs": 2, "alpha_end": 0.25}


@pytest.mark.parametrize("name", sorted(packaged()))
def test_packaged_recipes_are_valid(name: str) -> None:
    assert read(name).steps


def test_every_fault_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = (
        GOOD.replace("epochs: 2", "epochs: -2")
        .replace("truncate", "truncat")
        .replace("0.5}", "1.5, metod: structured}")
    )
    assert faults(tmp_path, text) == [
        "4 faults:",
        "4: steps.1.convert.epochs is -2, expected: greater than 0.",
        "6: steps.3.truncat is not known. Did you mean truncate?",
        "7: steps.4.prune.target_sparsity is 1.5, expected: less than 1.",
        "7: steps.4.prune.metod is not known. Did you mean method?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "source: some/model\n",
            "",
            "1: recipe has no source. Name a checkpoint (source: DIRECTORY), or give a "
            "transformers config as source and let the first step be finetune with init: random.",
        ),
        ("data: digits\n", "", "1: data is missing."),
        ("data: digits", "data: digits\ndata: other", "3: data is given twice."),
        (
            "{max_drop: 0.01}",
            "{max_drop: 0.01, depth: 2}",
            "6: steps.3.truncate needs either depth or max_drop, not both.",
        ),
        (
            "data: digits",
            "data: digits\nnoise: lots",
            "3: noise is 'lots', expected gaussian:SD or salt-pepper:SHARE.",
        ),
        (
            "data: digits",
            "data: digits\nnoise: gaussian:abc",
            "3: noise is 'gaussian:abc', expected gaussian:SD or salt-pepper:SHARE.",
        ),
        (
            "- profile",
            "- profile: {bound: both}",
            "5: steps.2.profile.bound is 'both', expected: 'upper' or 'point'.",
        ),
        (
            "- profile",
            "- {profile: {}, export: {}}",
            "5: steps.2 a step is one verb with its options; found export, profile.",
        ),
    ],
)
def test_a_fault_says_what_is_wrong_and_where(
    tmp_path: Path, old: str, new: str, line: str
) -> None:
    assert old in GOOD
    assert faults(tmp_path, GOOD.replace(old, new)) == [line]


def test_a_depth_the_model_will_not_have_is_found_before_anything_runs(tmp_path: Path) -> None:
    text = """\
data: digits
steps:
  - finetune: {config: {model_type: vit, num_hidden_layers: 4}}
  - truncate: {depth: 3}
  - truncate: {depth: 4}
"""
    assert faults(tmp_path, text) == [
        "5: steps.3.truncate.depth is 4, but the model has 3 blocks by then. Choose 1 to 3."
    ]


def test_broken_yaml_and_unknown_names_are_told(tmp_path: Path) -> None:
    assert "not valid YAML" in faults(tmp_path, "data: [digits")[0]
    assert "expected a recipe: a mapping" in faults(tmp_path, "- digits")[0]
    with pytest.raises(ConfigError, match="Did you mean quickstart"):
        read("quickstrat")


def test_options_of_a_step_are_parameters_of_its_command() -> None:
    for verb, options in STEPS.items():
        function = inspect.signature(getattr(acn_compress, verb))
        assert set(own_fields(options)) <= set(function.parameters), verb
    assert set(Training.model_fields) <= set(own_fields(STEPS["convert"]))


def test_another_checkpoint_replaces_the_training_from_scratch() -> None:
    quickstart = read("quickstart")
    mine = quickstart.starting_at("my/model", "my-data")
    assert (mine.source, mine.data) == ("my/model", "my-data")
    assert [s.verb for s in mine.steps] == [s.verb for s in quickstart.steps][1:]
    assert quickstart.starting_at(None, None) is quickstart
    assert isinstance(mine, Recipe)


def test_a_fault_in_the_only_step_is_told_once(tmp_path: Path) -> None:
    text = "source: m\ndata: digits\nsteps:\n  - prune: {target_sparsity: 2}\n"
    assert faults(tmp_path, text) == [
        "4: steps.1.prune.target_sparsity is 2, expected: less than 1."
    ]
    assert faults(tmp_path, "source: m\ndata: digits\nsteps: []\n")[0].startswith(
        "3: steps is [], expected: tuple should have at least 1 item"
    )
