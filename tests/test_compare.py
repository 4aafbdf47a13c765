"""Compare: equal budgets, the baseline always there, paired differences, finished runs reused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from test_cli import invoke
from tiny import network, tiny

from acn_compress import compare, evaluate, figures
from acn_compress.compression.routes import ROUTES
from acn_compress.errors import ConfigError
from acn_compress.events import ChainStep, Event, TrainingStep
from acn_compress.measure.budget import (
    equal_epochs,
    forward_flops,
    plan,
    saved_bytes,
    training_flops,
)
from acn_compress.reports.compared import Compared

STORED = Path(__file__).parent / "reports"
JOB: dict[str, Any] = {"data": "digits", "epochs": 0.3, "batch_size": 64, "eval_limit": 100}


def test_a_budget_buys_the_same_operations_at_every_depth(digits_vit: Path) -> None:
    net = network(digits_vit)
    outside, block = forward_flops(net)
    tokens, width, mlp = 17, 32, 64
    by_hand = 2 * tokens * (4 * width * width + 2 * width * mlp) + 4 * tokens * tokens * width
    assert block == pytest.approx(by_hand)
    for depth in (1, 2, 3):
        spent = equal_epochs(net, 2.0, depth=depth) * training_flops(
            net, depth=depth, teacher_depth=3
        )
        assert spent == pytest.approx(2.0 * (4 * outside + 4 * 3 * block))
    assert equal_epochs(net, 2.0, depth=3) == pytest.approx(2.0)
    assert (
        equal_epochs(net, 2.0, depth=3, prefixes=2)
        < equal_epochs(net, 2.0, depth=3, prefixes=1)
        < 2.0
    )


@pytest.mark.long
def test_every_route_is_measured_beside_the_baseline(digits_vit: Path, tmp_path: Path) -> None:
    report = compare(
        digits_vit, **JOB, depths=(1, 2), out=tmp_path / "c", seeds=1, noise="gaussian:0.3"
    )
    assert {(r["route"], r["depth"]) for r in report["table"]} == {
        (r, d) for r in ROUTES for d in (1, 2)
    }
    for row in report["table"]:
        assert 0 <= row["clean"] <= 1 and 0 <= row["noisy"] <= 1
        assert ("clean_gain" in row) == (row["route"] != "drop-last")
    base = {r["depth"]: r["clean"] for r in report["table"] if r["route"] == "drop-last"}
    for row in report["table"]:
        if "clean_gain" in row:
            assert row["clean_gain"] == pytest.approx(row["clean"] - base[row["depth"]])
            assert row["clean_gain_low"] <= row["clean_gain"] <= row["clean_gain_high"]
        for kind, whole in (("clean", report.whole.value), ("noisy", report.whole.noisy)):
            lost = row[f"{kind}_drop"]
            assert whole is not None and lost.drop == pytest.approx(whole - row[kind])
            assert lost.low <= lost.drop <= lost.high
            assert row[f"{kind}_low"] <= row[kind] <= row[f"{kind}_high"]
    assert (tmp_path / "c" / "compare.png").stat().st_size > 10_000
    assert "| 2 drop-last |" in (tmp_path / "c" / "README.md").read_text()


@pytest.mark.long
def test_finished_runs_are_reused_and_others_are_not(digits_vit: Path, tmp_path: Path) -> None:
    events: list[Event] = []

    def runs(seeds: int, job: dict[str, Any] = JOB) -> int:
        events.clear()
        compare(
            digits_vit,
            **job,
            depths=(1,),
            out=tmp_path / "c",
            seeds=seeds,
            routes=("drop-last", "acn-cut-first"),
            progress=events.append,
        )
        return sum(isinstance(e, TrainingStep) and e.step == e.steps for e in events)

    assert runs(1) == 2 and runs(1) == 0 and runs(2) == 2
    begun = [e for e in events if isinstance(e, ChainStep)]
    assert [(e.number, e.total, e.reused) for e in begun] == [
        (n, 4, n < 3) for n in range(1, 5)
    ]  # the first seed was finished
    assert begun[2].name == "drop-last at 1 blocks, seed 1" and begun[2].seconds_left is None
    assert begun[3].seconds_left and str(begun[3]).endswith(" s left in all")
    assert runs(1, JOB | {"epochs": 0.4}) == 2
    report = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert report["budget"]["epochs_of_whole"] == 0.4


@pytest.mark.long
def test_the_winners_are_kept_as_they_were_measured(digits_vit: Path, tmp_path: Path) -> None:
    """The command that is printed trains nothing but them."""
    how = JOB | {"depths": (1, 2), "routes": ("drop-last", "residual-prefix"), "seeds": 1}
    first = compare(digits_vit, **how, out=tmp_path / "c")
    assert first.kept == () and first.command and "--winners" in str(first)
    kept = tmp_path / "c" / "depth-1"
    assert not kept.exists()
    arguments = shlex.split(first.command)[1:]
    result = invoke(*arguments, "--json")
    report = Compared.model_validate_json(result.stdout)
    assert report.runs == first.runs  # from the disk
    assert report.winners() == {k.depth: k.route for k in report.kept} and len(report.kept) == 2
    for row in report.kept:
        (run,) = [r for r in report.runs if (r.route, r.depth) == (row.route, row.depth)]
        assert network(row.out).depth == row.depth and row.structure.blocks == run.blocks
        right = evaluate(row.out, "digits", limit=100, against=digits_vit)
        assert row.after is not None and row.after.value == run.clean == right.result.value
        assert row.drop == right.drop and row.outcome() is not None
        assert f"kept {row.out}: {row.route} at {row.depth} blocks" in " ".join(str(report).split())


def test_winners_are_told_from_the_baseline(digits_vit: Path, tmp_path: Path) -> None:
    how = JOB | {"depths": (1,), "routes": ("acn-one-run",), "out": tmp_path / "c"}
    with pytest.raises(ConfigError, match="has winners, but routes without drop-last"):
        compare(digits_vit, **how, winners=True)


def test_the_winner_is_ahead_beyond_its_interval_or_the_plain_baseline() -> None:
    report = Compared.model_validate_json((STORED / "compare.json").read_text())
    for depth, route in report.winners().items():
        rows = {r.route: r for r in report.table if r.depth == depth}
        ahead = {n: r.clean_gain for n, r in rows.items() if (r.clean_gain_low or 0) > 0}
        assert route == (max(ahead, key=lambda n: ahead[n] or 0) if ahead else "drop-last")


def test_the_verdict_says_at_every_depth_what_is_lost_against_the_whole_network() -> None:
    report = Compared.model_validate_json((STORED / "compare.json").read_text())
    for depth, route in report.winners().items():
        (row,) = [r for r in report.table if (r.depth, r.route) == (depth, route)]
        lost = figures.change(row.clean_drop, report.whole.metric)
        assert f"; {route} against the whole network: {lost} points." in report.verdict()
    older = [r.model_copy(update={"clean_drop": None}) for r in report.table]
    assert "whole" not in report.model_copy(update={"table": older}).verdict()


def test_what_cannot_be_compared(digits_vit: Path, digits_acn: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"routes.0 is 'magic', expected: 'drop-last'"):
        compare(digits_vit, **JOB, depths=(1,), out=tmp_path / "c", routes=("magic",))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="compare starts from a residual checkpoint"):
        compare(digits_acn, **JOB, depths=(1,), out=tmp_path / "c")
    with pytest.raises(ConfigError, match="depth is 5, but"):
        compare(digits_vit, **JOB, depths=(5,), out=tmp_path / "c")


def test_a_training_on_paper_is_what_its_parts_are() -> None:
    net = tiny("vit")
    inputs = net.example_inputs(batch=1)
    job: dict[str, Any] = {"examples": 1000, "epochs": 2.0, "batch": 64, "throughput": 1e9}
    one, two = (plan(net, inputs, devices=n, **job) for n in (1, 2))
    price = training_flops(net, teacher_depth=net.depth)
    assert one.steps == two.steps == 30
    assert one.flops == two.flops == 30 * 64 * price
    assert one.seconds == 2 * two.seconds == one.flops / 1e9
    assert one.rate == 30 * 64 / one.seconds
    kept = saved_bytes(net, inputs)
    assert one.bytes - two.bytes == pytest.approx(32 * kept)
    whole = saved_bytes(net, net.example_inputs(batch=4))
    assert kept == pytest.approx(whole, rel=0.1)
    net.truncate_(1)
    assert 0.2 * kept < saved_bytes(net, inputs) < 0.6 * kept
