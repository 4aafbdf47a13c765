"""Profile and truncate: every depth is measured as if it had been cut, and cutting is exact."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import network

import acn_compress
from acn_compress import profile, truncate
from acn_compress.checkpoint.find import find_source
from acn_compress.compression.depth import Depths, choose
from acn_compress.data.load import load_data
from acn_compress.errors import ConfigError, ModelDirError
from acn_compress.measure.quality import measure, summary
from acn_compress.measure.readouts import Depth, cutoff, profile_model, unsettled
from acn_compress.options import Reference
from acn_compress.quality import NO_ORIGINAL, Quality
from acn_compress.tasks.base import Scored


def test_the_profile_of_a_depth_is_the_quality_of_the_model_cut_there(digits_acn: Path) -> None:
    stored = json.loads((digits_acn / "profile.json").read_text())
    for depth in (1, 2, 3):
        net = network(digits_acn)
        net.truncate_(depth)
        data = load_data("digits", net, find_source(digits_acn), role="eval")
        found = summary(measure(net, data), data.task)
        row = stored["depths"][depth]
        assert (row["value"], row["low"], row["high"]) == pytest.approx(
            (found["value"], found["low"], found["high"]), abs=1e-6
        )
        assert row["loss"] == pytest.approx(found["loss"], abs=1e-5)
    assert (
        stored["depths"][3]["agreement"] == 1
        and stored["depths"][3]["kl"] == 0
        and stored["depths"][3]["drop"] == 0
    )
    assert stored["weights_sha256"] == find_source(digits_acn).sha256()


def test_contributions_sum_to_the_output(digits_acn: Path) -> None:

    net = network(digits_acn)
    with torch.inference_mode(), net.recording() as prefixes:
        net(**net.example_inputs())
    added = [prefixes[0], *(b - a for a, b in itertools.pairwise(prefixes))]
    torch.testing.assert_close(sum(added[1:], added[0]), prefixes[-1], rtol=1e-5, atol=1e-5)
    shares = [b["share"] for b in json.loads((digits_acn / "profile.json").read_text())["blocks"]]
    assert sum(shares) == pytest.approx(1, abs=1e-4)


def test_the_extra_measures_mean_what_they_say(digits_vit: Path) -> None:
    net = network(digits_vit)
    data = load_data("digits", net, find_source(digits_vit), role="eval")
    found = profile_model(net, data, extras=("influence", "cka", "leave-one-out", "taylor"))
    blocks, full = found["blocks"], found["full"]
    assert blocks[-1]["cka"] == pytest.approx(1, abs=1e-6) and all(
        0 <= b["cka"] <= 1 + 1e-9 for b in blocks
    )
    assert all(b["influence"] >= 0 and 0 <= b["angle"] <= 1 for b in blocks)
    # leaving the last block out is reading out one depth earlier
    assert blocks[-1]["leave_one_out"] == pytest.approx(
        found["depths"][-2]["loss"] - full["loss"], abs=1e-5
    )
    # the Taylor estimate is the slope of the loss along the gate: compare with a finite difference
    # at the last block

    losses = []
    for value in (0.99, 1.01):
        with net.gating() as gates, torch.no_grad():
            gates[-1] = value
            losses.append(summary(measure(net, data), data.task)["loss"])
    assert blocks[-1]["taylor"] == pytest.approx(
        -(losses[1] - losses[0]) / 0.02, rel=0.05, abs=1e-4
    )
    with pytest.raises(
        ConfigError,
        match=r"is 'importance', expected: 'influence', 'cka', 'leave-one-out', 'taylor' or",
    ):
        profile(digits_vit, "digits", measures="importance")  # type: ignore[arg-type]


def test_the_cutoff_is_decided_on_the_upper_end_unless_told_otherwise() -> None:
    rows = rows_of((0.8, 0.9), (0.009, 0.02), (0.004, 0.009), (0.0, 0.0))
    assert cutoff(rows, 0.01) == 2 and cutoff(rows, 0.01, "point") == 1
    assert cutoff(rows, 0.001) is None
    with pytest.raises(ConfigError, match="bound is 'mean', expected: 'upper' or 'point'"):
        truncate("nothing there", "out", max_drop=0.1, bound="mean")  # type: ignore[arg-type]


def test_a_smaller_depth_that_more_examples_may_show_is_named_with_their_number() -> None:
    rows = rows_of((0.8, 0.9), (0.005, 0.02), (0.01, 0.03), (0.004, 0.009), (0.0, 0.0))
    found = unsettled(rows, 0.01, "upper", 100)
    # the interval reaches 0.015 above the drop and may reach 0.005: a third, so nine times as many
    assert found is not None and (found.depth, found.examples) == (1, 900)
    assert unsettled(rows, 0.01, "point", 100) is None  # that is the cutoff
    assert unsettled(rows[2:], 0.01, "upper", 100) is None  # and so is this
    limit = unsettled(rows_of((0.8, 0.9), (0.01, 0.03), (0.0, 0.0)), 0.01, "upper", 100)
    assert limit is not None and limit.examples is None


def rows_of(*drops: tuple[float, float]) -> tuple[Depth, ...]:
    """A profile in which every depth drops so much, and at most so much."""
    return tuple(
        Depth(depth=k, value=0, low=0, high=0, loss=0, drop=drop, drop_low=0, drop_high=high)
        for k, (drop, high) in enumerate(drops)
    )


def test_why_a_depth_was_chosen_is_said_and_so_is_that_none_passes() -> None:
    """And against what, the original wherever that was measured and the source was not asked for;
    two that are not held to the same network never say the same."""
    rows = rows_of((0.8, 0.9), (0.009, 0.02), (0.004, 0.008), (0.0, 0.0))
    full = Quality(metric="accuracy", value=0.9, low=0.9, high=0.9, loss=0.3, examples=9)
    alone = Depths(rows, "mine:test", full)
    first = tuple(row.lost for row in rows_of((0.8, 0.9), (0.006, 0.009), (0, 0.003), (0, 0)))
    chain = replace(alone, original="whole", further=first)
    whole, source = "the original whole", "its source net"
    asked: list[tuple[Depths, Reference | None, int, str, str]] = [
        (alone, "source", 2, source, "-0.4 [-0.8, +0.0]"),
        (alone, None, 2, f"{source}, as {NO_ORIGINAL}", "-0.4 [-0.8, +0.0]"),
        (chain, "source", 2, source, "-0.4 [-0.8, +0.0]"),
        (chain, None, 1, whole, "-0.6 [-0.9, +0.0]"),
        (chain, "original", 1, whole, "-0.6 [-0.9, +0.0]"),
    ]
    for depths, against, depth, than, drop in asked:
        chosen = choose(depths, 0.01, "upper", "net", against)
        assert chosen.depth == depth
        assert chosen.why.endswith(f"{drop} points (95 %) against {than}, upper bound")
        told = f"within 0.001 = 0.1 points on mine:test against {than} (upper bound; depth 2: "
        with pytest.raises(ConfigError, match=re.escape(told)):
            choose(depths, 0.001, "upper", "net", against)
    with pytest.raises(ConfigError, match="its original was not found"):
        choose(alone, 0.01, "upper", "net", "original")


@pytest.mark.parametrize("form", ["digits_vit", "digits_acn"])
def test_truncating_is_exact_and_removes_the_modules(
    form: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source: Path = request.getfixturevalue(form)
    report = truncate(source, tmp_path / "cut", depth=2)
    net, cut = network(source), network(tmp_path / "cut")
    assert cut.config.num_hidden_layers == 2 and report["parameters"] < report["parameters_before"]
    assert not [k for k in cut.model.state_dict() if ".layers.2." in k]
    net.truncate_(2)
    inputs = cut.example_inputs(batch=3, seed=5)
    assert torch.equal(net(**inputs).logits, cut(**inputs).logits)
    assert (tmp_path / "cut" / "model.safetensors").stat().st_size < (
        source / "model.safetensors"
    ).stat().st_size
    assert ("plain baseline" in report.get("note", "")) == (form == "digits_vit")


def test_full_depth_truncation_changes_nothing(digits_acn: Path, tmp_path: Path) -> None:
    truncate(digits_acn, tmp_path / "same", depth=3)
    assert (tmp_path / "same" / "model.safetensors").read_bytes() == (
        digits_acn / "model.safetensors"
    ).read_bytes()


def test_max_drop_takes_the_profile_or_the_data_and_they_agree(
    digits_acn: Path, tmp_path: Path
) -> None:
    stored = truncate(digits_acn, tmp_path / "a", max_drop=0.9)
    measured = truncate(digits_acn, tmp_path / "b", max_drop=0.9, data="digits")
    assert stored["depth"] == measured["depth"] == 1
    assert "upper bound" in stored["why"] and measured["drop"]["drop"] == pytest.approx(
        measured["before"]["value"] - measured["after"]["value"]
    )


def test_a_profile_of_other_weights_is_refused(
    digits_acn: Path, digits_vit: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(digits_vit, other)
    with pytest.raises(
        ConfigError, match=r"has no profile. Pass --data, or run: acn-compress profile"
    ):
        truncate(other, tmp_path / "out", max_drop=0.1)
    shutil.copyfile(digits_acn / "profile.json", other / "profile.json")
    with pytest.raises(ModelDirError, match="is a profile of other weights"):
        truncate(other, tmp_path / "out", max_drop=0.1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "damage",
    [
        {"depths": None},
        {"depths": 3},
        {"depths": [{"depth": 0}]},
        {"depths": []},
        {"depths": [{"depth": "three", "drop": "none"}]},
    ],
    ids=str,
)
def test_a_damaged_profile_is_one_line(
    damage: dict[str, object], digits_acn: Path, tmp_path: Path
) -> None:
    stored = json.loads((digits_acn / "profile.json").read_text())
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(stored | damage))
    with pytest.raises(ModelDirError, match=r"profile.json: depths.*Run profile again") as error:
        truncate(digits_acn, tmp_path / "out", max_drop=0.1, profile=str(path))
    assert "\n" not in str(error.value)


def test_depths_that_cannot_be(digits_acn: Path, tmp_path: Path) -> None:
    for depth, message in (
        (0, "depth is 0, expected: greater than or equal to 1"),
        (4, "depth is 4, but .* has 3 blocks. Choose 1 to 3"),
        (-1, "depth is -1, expected: greater than or equal to 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            truncate(digits_acn, tmp_path / "out", depth=depth)
    with pytest.raises(ConfigError, match="either depth or max_drop"):
        truncate(digits_acn, tmp_path / "out", depth=1, max_drop=0.1)
    with pytest.raises(ConfigError, match="no depth below 3 keeps the drop within 0"):
        truncate(digits_acn, tmp_path / "out", max_drop=0.0, data="digits")
    assert not (tmp_path / "out").exists()


def test_profiling_a_directory_that_cannot_be_written(digits_vit: Path, tmp_path: Path) -> None:
    report = profile(digits_vit, data="digits", to=str(tmp_path / "elsewhere"), limit=64)
    assert (tmp_path / "elsewhere" / "profile.png").stat().st_size > 10_000 and report["full"][
        "examples"
    ] == 64
    with pytest.raises(ConfigError, match="max_drop is -1, expected: greater than or equal to 0"):
        profile(digits_vit, data="digits", max_drop=-1, to=str(tmp_path / "elsewhere"))


def test_the_worth_of_blocks_is_what_compress_weighs(digits_vit: Path, tmp_path: Path) -> None:
    report = acn_compress.profile(
        digits_vit, data="digits", limit=160, measures=("worth",), to=tmp_path, progress=False
    )
    assert len(report.blocks) == 4 and "without" not in report.blocks[0]
    for block in report.blocks[1:]:
        assert min(block["heads"], block["mlp"], block.get("without", 1.0)) > 0
    assert sum("without" in block for block in report.blocks) == 2  # one has to stay
    assert "what compress weighs" in str(report)


def test_no_logits_are_kept_while_a_data_set_is_measured(digits_vit: Path) -> None:
    net, alive = network(digits_vit), list[weakref.ref[torch.Tensor]]()
    data = load_data("digits", net, find_source(digits_vit), role="eval", limit=64)

    def score(output: Any, batch: dict[str, torch.Tensor]) -> Scored:
        found: Scored = data.task.score(output, batch)
        assert sum(ref() is not None for ref in alive) <= 2  # the last one, and the full depth's
        alive.append(weakref.ref(found.logits))
        return found

    watched = replace(data, task=replace(data.task, score=score))
    measure(net, watched, batch_size=8)
    profile_model(net, watched, batch_size=8)
    assert len(alive) > 16
