"""compress: what it gives keeps what was asked for, or says that it does not; rows that decide are
not those that are reported; nothing is lost."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_cli import fails, invoke
from test_latency import Machine
from test_options import flags
from test_screen import stored
from tiny import network

import acn_compress as acn
from acn_compress.backends import BACKENDS, latency
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import history
from acn_compress.compression import frontier
from acn_compress.compression.frontier import Frontier, Limits
from acn_compress.compression.notes import notes_file
from acn_compress.data.splits import held_apart, reported_split
from acn_compress.errors import ConfigError, DataError, Interrupted
from acn_compress.events import Event, Result
from acn_compress.measure.candidate import Point
from acn_compress.measure.latency import Sizes
from acn_compress.measure.quality import measure, paired
from acn_compress.network import widths
from acn_compress.onnx.facts import facts_of
from acn_compress.onnx.layout import onnx_file
from acn_compress.onnx.scores import measure_file
from acn_compress.onnx.session import Session
from acn_compress.options import Compress
from acn_compress.quality import Drop, Quality, told
from acn_compress.recipe.schema import Recipe
from acn_compress.reports.compressed import Compressed
from acn_compress.reports.ran import Ran
from acn_compress.reports.show import as_text
from acn_compress.steps.compress import choose

pytestmark = pytest.mark.xdist_group("compress")  # what is made once is made in one process

HOW: dict[str, Any] = {"data": "digits", "backend": "torch", "progress": False}


@pytest.fixture(scope="module", autouse=True)
def few_candidates() -> Iterator[None]:
    """Of two prices, and few timings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frontier, "SHARES", (0.8, 0.5))
        patch.setattr(latency, "SHARES", (4,))
        yield


@pytest.fixture(scope="module")
def halved(digits_vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Compressed:
    """Half of the parameters, and no more time."""
    out = tmp_path_factory.mktemp("compress") / "out"
    return acn.compress(digits_vit, out, target_params=0.6, **HOW)


@pytest.mark.long
def test_what_is_written_is_what_is_reported(halved: Compressed) -> None:
    net = network(halved.out)
    whole, mine, baseline = halved.rows
    assert net.parameters == mine.parameters == halved.parameters <= 0.6 * whole.parameters
    assert halved.held and halved.complaint() is None
    assert baseline.depth < whole.depth
    small = [p for p in halved.frontier if p.parameters <= 0.6 * whole.parameters]
    assert halved.chosen in small and len(small) > 1
    assert halved.chosen.quality.loss == min(p.quality.loss for p in small)
    assert net.structure.blocks == halved.structure.blocks
    stored = json.loads((Path(halved.out) / "report.json").read_text())
    assert stored["rows"] == halved.plain()["rows"]
    stored_frontier = json.loads((Path(halved.out) / "frontier.json").read_text())
    assert [Point.model_validate(p) for p in stored_frontier["points"]] == list(halved.frontier)
    assert (Path(halved.out) / "frontier.png").stat().st_size > 10_000


def test_one_speed_is_said_and_its_interval_is_of_it(halved: Compressed) -> None:
    whole, mine, baseline = halved.rows
    for row in halved.rows:
        assert row.faster == pytest.approx(whole.milliseconds / row.milliseconds)
        assert row.speedup["ratio_low"] <= row.faster <= row.speedup["ratio_high"]
    assert halved.verdict().startswith(f"{mine.faster:.2g}x faster, ")
    assert f"({baseline.faster:.2g}x)" in halved.verdict()
    assert f"{mine.faster:.2f}x" in str(halved)


def test_the_card_has_the_verdict_and_runs_the_file_that_it_is_about(halved: Compressed) -> None:
    card = (Path(halved.out) / "README.md").read_text()
    _, _, told = card.partition("## onnx/model.onnx\n")
    assert halved.verdict() in told and f"- {halved.limits[0].told}" in told
    code = 'InferenceSession("out/onnx/model.onnx")'
    assert code in told and code in unescape((Path(halved.out) / "report.html").read_text())


def test_the_file_says_what_the_model_says(halved: Compressed) -> None:
    net = network(halved.out)
    pixels = net.example_inputs(batch=3)["pixel_values"]
    running = Session(Path(halved.out) / "onnx" / "model.onnx")
    found = running.run(["logits"], {"pixel_values": pixels.numpy()})[0]
    with torch.inference_mode():
        expected = net.answer(pixel_values=pixels).numpy()
    assert np.abs(found - expected).max() < 1e-4


def test_the_file_and_the_directory_say_what_became_of_the_quality(halved: Compressed) -> None:
    mine, out = halved.rows[1], Path(halved.out)
    found = history(find_source(out)).quality
    assert found is not None and found.against == "original" and found.below is not None
    assert (found.quality, found.below.drop) == (mine.quality, mine.drop)
    assert facts_of(out / onnx_file()).metadata["quality"] == told(found)
    assert halved.onnx.bytes == (out / onnx_file()).stat().st_size


def test_the_drop_is_measured_on_rows_that_did_not_decide(
    halved: Compressed, digits_vit: Path
) -> None:
    source = find_source(digits_vit)
    whole = load_source(source)
    rows = held_apart(Compress(data="digits", target_params=0.6), whole, source)
    mine, original = measure(network(halved.out), rows.reported), measure(whole, rows.reported)
    assert halved.rows[1].drop == paired(mine, original)
    assert halved.eval_data == rows.reported.name


@pytest.mark.long
def test_a_drop_that_no_candidate_keeps_ends_with_1_and_keeps_the_best(
    digits_vit: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ["--data", "digits", "--max-drop", "0", "--backend", "torch"]
    result = invoke("compress", digits_vit, out, *given)
    assert result.exit_code == 1
    said = "error: not reached on the rows that are reported: max_drop: asked 0 = 0 points, found"
    assert said in result.stderr and "Ask for less, or give it (more) --epochs." in result.stderr
    assert "NOT HELD: max_drop" in result.stdout
    assert network(out).depth >= 1


def test_what_cannot_be_reached_is_told_before_anything_is_written(
    digits_vit: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"cannot be made as small as asked: the smallest candid"):
        acn.compress(digits_vit, out, target_params=10.0, **HOW)
    with pytest.raises(ConfigError, match=r"of weights; asked was target_size 20 .* a larger"):
        acn.compress(digits_vit, out, target_size="20", **HOW)
    assert not out.exists() and not list(tmp_path.glob("out*"))


def test_few_rows_that_cannot_show_a_drop_are_told(digits_vit: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_drop 0\.001 needs about"):
        acn.compress(digits_vit, tmp_path / "out", max_drop=0.001, **HOW)


@pytest.mark.long
def test_training_is_distilled_and_the_untrained_state_reported(
    digits_vit: Path, tmp_path: Path
) -> None:
    how = HOW | {"epochs": 0.5, "limit": 160, "convert": True}
    report = acn.compress(digits_vit, tmp_path / "out", target_params=0.4, **how)
    assert report.training is not None and report.training.steps > 0
    assert report.untrained_drop is not None
    assert report.structure.form in {"residual", "hybrid", "acn"}
    assert [p for p in tmp_path.iterdir() if p.name != "out"] == []


@pytest.mark.long
def test_what_training_did_harm_to_is_not_what_comes_out(digits_vit: Path, tmp_path: Path) -> None:
    how = HOW | {"epochs": 0.5, "limit": 160, "lr": 1.0}
    report = acn.compress(digits_vit, tmp_path / "out", target_params=0.6, **how)
    assert report.training is not None and report.harmed and "did harm" in str(report)
    right = acn.evaluate(tmp_path / "out", data="digits", against=digits_vit)
    assert right.drop is not None and right.drop.drop < 0.3  # a random one loses 0.8
    *_, baseline = report.rows
    assert baseline.quality.value > 0.15  # nor to the baseline


@pytest.mark.parametrize("trained, ours, theirs", list(itertools.product([False, True], repeat=3)))
def test_the_verdict_says_how_each_side_was_trained(
    trained: bool, ours: bool, theirs: bool
) -> None:
    fit = stored("convert")["training"] if trained else None
    changed = {"training": fit, "harmed": ours and trained, "baseline_harmed": theirs and trained}
    report = stored("compress").model_copy(update=changed)
    assert isinstance(report, Compressed)
    mine, baseline = report.verdict().split("; dropping layers ")
    assert ("untrained" in mine) == (trained and ours)
    assert ("untrained" in baseline) == (not trained or theirs)
    assert ("same training" in baseline) == (trained and not ours and not theirs)
    assert ("the baseline of dropped layers" in " ".join(str(report).split())) == (
        trained and theirs
    )


@dataclass
class Bent(Machine):
    """A machine on which small networks take more than the sum of what their parts take in large
    ones (a power below 1), or less."""

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power

    def seconds(self, sizes: Sizes) -> float:
        return float(super().seconds(sizes) ** self.power)


@pytest.mark.parametrize("power", [0.8, 1.25])
@pytest.mark.parametrize("asked", [{"speedup": 1.5}, {"max_latency_ms": 0.65}])
@pytest.mark.long
def test_a_time_holds_where_parts_do_not_add_up(
    asked: dict[str, Any],
    power: float,
    digits_vit: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Bent(power)
    if "max_latency_ms" in asked:  # as a share of what the whole network takes
        taken = 1000 * machine.seconds(tuple(widths.counts(network(digits_vit))))
        asked = {"max_latency_ms": asked["max_latency_ms"] * taken}
    monkeypatch.setitem(BACKENDS, "torch", machine)
    monkeypatch.setattr(latency, "clock_for", lambda threads, device: lambda: machine.now)
    report = acn.compress(digits_vit, tmp_path / "out", **HOW, **asked)
    (limit,) = report.limits
    assert report.held and limit.asked == next(iter(asked.values()))
    whole, mine, _ = report.rows
    seconds = machine.seconds(tuple(widths.counts(network(report.out))))
    assert mine.milliseconds == pytest.approx(1000 * seconds)
    assert limit.found == pytest.approx(
        whole.milliseconds / mine.milliseconds if "speedup" in asked else mine.milliseconds
    )
    assert abs(limit.found / limit.asked - 1) < 0.1  # and no more was taken out than that


class Shared(Machine):
    """A machine on which others work too: what takes a second takes more while they do."""

    slower: float = 1.0
    calls: float = math.inf
    """So many calls more are made until they are done."""

    def work(self, seconds: float) -> None:
        self.calls -= 1
        super().work(seconds * (self.slower if self.calls >= 0 else 1))


@pytest.mark.parametrize(
    ("table", "choice", "last", "held"),
    [
        (1.0, 1.5, 1.0, True),  # candidates are timed in a worse moment than the rest
        (1.0, 1.0, 1.5, False),  # all that is timed last is
        (1.5, 1.5, 1.0, True),  # all but that
    ],
)
@pytest.mark.long
def test_a_limit_in_milliseconds_is_of_the_calmest_moment(
    table: float,
    choice: float,
    last: float,
    held: bool,
    digits_vit: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Shared()
    machine.slower = table
    found, asked = _on(machine, digits_vit, tmp_path, monkeypatch, choice, last)
    whole, mine, _ = found.rows
    assert found.held == held
    assert found.calmest == pytest.approx(whole.milliseconds * min(table, choice) / last)
    changed = last / min(table, choice)
    assert abs(mine.milliseconds / (changed * asked) - 1) < 0.1  # and no more was taken out
    told = "The machine is " + ("busier" if changed > 1 else "calmer")
    assert (told in (found.complaint() or "")) == (not held)
    assert (told in _said(found)) == (changed != 1)


@pytest.mark.long
def test_what_is_timed_in_a_bad_moment_is_timed_again(
    digits_vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, asked = _on(Shared(), digits_vit, tmp_path, monkeypatch, 1.0, 1.5, calls=99)
    assert found.held and abs(found.rows[1].milliseconds / asked - 1) < 0.1
    assert "The machine is" not in _said(found)


def _said(report: Compressed) -> str:
    return " ".join(as_text(report.display()).split())


def _on(
    machine: Shared,
    source: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    choice: float,
    last: float,
    calls: float = math.inf,
) -> tuple[Compressed, float]:
    """A limit of two thirds of what the network takes while nobody else works, on a machine that
    is slower while candidates are chosen and in the last timing; and the limit."""
    monkeypatch.setitem(BACKENDS, "torch", machine)
    monkeypatch.setattr(latency, "clock_for", lambda threads, device: lambda: machine.now)
    asked = 650 * machine.seconds(tuple(widths.counts(network(source))))

    def others(event: Event) -> None:
        if str(event).startswith("looking at"):
            machine.slower = choice
        elif str(event).startswith("timing side by side"):
            machine.slower, machine.calls = last, calls

    how = HOW | {"max_latency_ms": asked, "progress": others}
    return acn.compress(source, place / "out", **how), asked


@pytest.mark.slow  # a dozen exports; that it is chosen is tested below
def test_int8_is_kept_beside_the_float_file_where_it_holds(
    digits_vit: Path, tmp_path: Path
) -> None:
    how = HOW | {"backend": "onnx", "quantize": "auto"}
    report = acn.compress(digits_vit, tmp_path / "out", target_params=0.6, **how)
    assert report.int8_table is None and not any(point.int8 for point in report.frontier)
    _, mine, small, baseline = report.rows
    assert (small.name, small.parameters) == ("its int8 file", mine.parameters)
    file = tmp_path / "out" / "onnx" / "model_quantized.onnx"
    assert file.stat().st_size < 0.8 * report.onnx.bytes
    assert "its int8 file (" in report.verdict() and "int8 changes" in str(report)
    assert baseline.name.startswith("drop to")


@pytest.mark.long
def test_int8_is_chosen_where_a_size_asks_for_it(digits_vit: Path, tmp_path: Path) -> None:
    whole = load_source(find_source(digits_vit))
    size = round(0.25 * 4 * whole.parameters) + 40_000 * whole.depth
    how = HOW | {"backend": "onnx", "quantize": "auto"}
    report = acn.compress(digits_vit, tmp_path / "out", target_size=size, **how)
    assert report.chosen.int8 and report.held
    _, mine, float_, baseline = report.rows
    assert [r.name for r in report.rows[1:3]] == ["compressed, int8", "its float file"]
    assert mine.parameters == float_.parameters > 0.25 * whole.parameters
    assert baseline.name == "int8 alone" or baseline.name.endswith(", int8")
    file = tmp_path / "out" / report.delivered
    assert file.name == "model_quantized.onnx" and file.stat().st_size == report.limits[0].found
    rows = held_apart(Compress(data="digits", target_size=size), whole, find_source(digits_vit))
    assert report.rows[1].quality.value == measure_file(file, rows.reported).value
    assert (
        report.after is not None
        and report.after.value == measure(network(report.out), rows.reported).value
    )
    assert " in int8" in report.verdict() and "limits are about its onnx/model_q" in str(report)
    floats = [p.blocks for p in report.frontier if not p.int8]
    assert all(p.blocks in floats for p in report.frontier if p.int8)  # the better of them


@pytest.mark.long
def test_an_interrupted_search_goes_on(digits_vit: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "out", list[str]()

    def stop(event: Event) -> None:
        told.append(str(event))
        if str(event).startswith("candidate 2:"):
            raise KeyboardInterrupt

    how = HOW | {"target_params": 0.6}
    with pytest.raises(Interrupted, match=r"out\.measured\.json\. Run the same command with --res"):
        acn.compress(digits_vit, out, **how | {"progress": stop})
    assert notes_file(out).is_file() and not out.exists()
    again: list[str] = []
    report = acn.compress(
        digits_vit, out, resume=True, **how | {"progress": lambda event: again.append(str(event))}
    )
    assert not any(text.startswith(("candidate 1:", "candidate 2:")) for text in again)
    assert len(report.frontier) > 2
    assert not notes_file(out).exists()


def test_notes_of_another_search_are_not_gone_on_from(digits_vit: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"nothing to resume: there is no .*out\.measured\.json"):
        acn.compress(digits_vit, out, target_params=0.6, resume=True, **HOW)
    notes_file(out).write_text(json.dumps({"version": 1, "search": "another"}))
    with pytest.raises(ConfigError, match=r"is of another search: source, data or options differ"):
        acn.compress(digits_vit, out, target_params=0.6, resume=True, **HOW)
    notes_file(out).write_text("mine")
    given = ["--data", "digits", "--speedup", "2"]
    fails("Move it away, or choose another OUT.", "compress", digits_vit, out, *given)
    assert notes_file(out).read_text() == "mine"


# rows


@pytest.mark.parametrize("splits", [(), ("test",), ("validation", "test")])
def test_no_row_serves_two_purposes(
    splits: tuple[str, ...], digits_vit: Path, tmp_path: Path
) -> None:
    import datasets

    from acn_compress.data.places import open_split

    rows = open_split("digits", "train").rows
    names = ("train", *splits)
    parts = {name: rows.select(range(i * 200, (i + 1) * 200)) for i, name in enumerate(names)}
    source = find_source(digits_vit)
    how, net = Compress(data=datasets.DatasetDict(parts), target_params=0.6), load_source(source)
    held = held_apart(how, net, source)
    seen = [
        {np.asarray(data.examples[i]["image"]).tobytes() for i in range(len(data))}
        for data in held[:3]
    ]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert [len(s) for s in seen] == [len(d) for d in held[:3]]
    assert (held.note is None) == (len(splits) == 2)
    if splits:  # what a run measures on
        alone = reported_split(how, net, source)
        pairs = zip(alone.batches(64), held.reported.batches(64), strict=True)
        assert all(torch.equal(a["pixel_values"], b["pixel_values"]) for a, b in pairs)


@pytest.mark.long
def test_a_run_has_the_rows_and_the_baseline_of_its_search(
    digits_vit: Path, tmp_path: Path
) -> None:
    steps = [{"compress": {"target_params": 0.6, "backend": "torch"}}]
    given = {"name": "mine", "source": str(digits_vit), "data": "digits", "steps": steps}
    told: list[str] = []
    report = acn.run(
        Recipe.model_validate(given),
        out=tmp_path / "run",
        progress=lambda event: told.append(str(event)) if isinstance(event, Result) else None,
    )
    assert isinstance(report, Ran)
    path = tmp_path / "run" / "1-compress"
    found = Compressed.model_validate_json((path / "report.json").read_text())
    assert report.examples == found.rows[0].quality.examples < 360
    for mine, theirs in zip(report.rows, found.rows, strict=True):
        assert (mine.value, mine.parameters) == (theirs.quality.value, theirs.parameters)
        assert mine.drop == theirs.drop and mine.torch and mine.onnx
    assert report.rows[-1].is_baseline and Path(report.rows[-1].path).is_file()
    assert told == [found.brief()] == [step.result for step in report.steps]
    screen = " ".join(str(report).split())
    assert report.verdict() in screen and found.verdict() not in screen
    assert "rows that 1-compress did not decide on" in screen and "1 step and" in screen
    assert "or your own" not in screen  # made here: there is no file to name


def test_without_labels_the_answers_of_the_original_stand_for_them(digits_vit: Path) -> None:
    import datasets

    from acn_compress.data.places import open_split

    parts = {"train": open_split("digits", "train").rows, "test": open_split("digits", "eval").rows}
    bare = datasets.DatasetDict({k: v.remove_columns("label") for k, v in parts.items()})
    source = find_source(digits_vit)
    whole = load_source(source)
    held = held_apart(Compress(data=bare, target_params=0.6), whole, source)
    assert measure(whole, held.deciding).value == measure(whole, held.reported).value == 1.0
    assert held.reported.read is not None
    told = "no labels: measured is how often a model answers as the original does"
    assert told in held.reported.read.notes
    batch = next(held.reported.batches(16))
    with torch.inference_mode():
        answers = network(digits_vit)(pixel_values=batch["pixel_values"]).logits.argmax(-1)
    assert torch.equal(batch["labels"], answers)


def test_too_few_rows_to_hold_some_apart_are_told(digits_vit: Path) -> None:
    from acn_compress.data.places import open_split

    source, rows = find_source(digits_vit), open_split("digits", "train").rows.select(range(30))
    with pytest.raises(DataError, match=r"has 30 rows, too few to decide on some and report on"):
        held_apart(Compress(data=rows, target_params=0.6), load_source(source), source)


# limits


def test_limits_are_asked_for() -> None:
    for given, said in (
        ({}, "compress needs a limit: one or several of max_drop, speedup, max_latency_ms"),
        ({"speedup": 2, "max_latency_ms": 1}, "compress has both speedup and max_latency_ms"),
        ({"speedup": 1}, "speedup is 1.0, expected: greater than 1"),
        ({"target_size": "large"}, "target_size is 'large', expected: a size, such as 20MB"),
        ({"target_params": 0.5, "convert": True}, "compress has convert, but no epochs"),
        (
            {"speedup": 2, "quantize": "auto", "backend": "torch"},
            "compress has quantize, but torch runs no int8. Use backend onnx",
        ),
    ):
        options = flags(given)
        fails(said, "compress", "src", "out", "--data", "digits", *options)


@pytest.mark.parametrize(
    ("written", "bytes_"),
    [("20MB", 20_000_000), ("1.5 GB", 1_500_000_000), ("7kB", 7000), ("7KB", 7000), (9, 9)],
)
def test_sizes_are_read(written: str | int, bytes_: int) -> None:
    assert Compress(data="digits", target_size=written).target_size == bytes_


def test_an_interval_must_pass_unless_the_point_is_enough() -> None:
    drop = Drop(drop=0.005, low=-0.01, high=0.02)
    assert not Limits(max_drop=0.01).keeps_drop(drop)
    assert Limits(max_drop=0.01, bound="point").keeps_drop(drop)
    assert Limits().keeps_drop(drop)


class Priced(Frontier):
    """At every price one candidate that keeps a drop from 0.6 on, and one, a little cheaper, that
    never does."""

    most, least = 1.0, 0.1  # properties of what is measured

    def __init__(self) -> None:
        self.points = []

    def at(self, budget: float) -> Point:
        quality = Quality(metric="accuracy", value=0.9, low=0.9, high=0.9, loss=0.1, examples=9)
        for price, keeps in ((budget, budget >= 0.6), (budget - 0.004, False)):
            drop = Drop(drop=0.0 if keeps else 0.5, low=0.0, high=0.0 if keeps else 0.5)
            point = Point(
                blocks=({},),
                milliseconds=price,
                parameters=1,
                foreseen=0.0,
                quality=quality,
                drop=drop,
            )
            self.points.append(point)
        return self.points[-2]

    def cost(self, point: Point) -> float:
        return point.milliseconds


def test_the_gap_below_the_cheapest_that_keeps_a_drop_is_halved() -> None:
    priced = Priced()
    priced.explore()
    found = priced.keeping(Limits(max_drop=0.01))[0]
    assert 0.6 <= found.milliseconds <= 0.6 + (0.7 - 0.55) / 4 + 0.02


def test_dearer_ones_that_keep_a_drop_are_tried_if_they_are_better_in_their_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frontier, "HALVINGS", 0)
    priced = Priced()
    priced.explore()
    limits = Limits(max_drop=0.01)
    one = priced.keeping(limits)[0]  # the next are alike in quality
    better = one.quality.model_copy(update={"loss": 0.05})
    worse = one.quality.model_copy(update={"loss": 0.5})

    def dearer(by: float, quality: Quality, int8: bool = False) -> Point:
        found = {"milliseconds": one.milliseconds + by, "quality": quality, "int8": int8}
        return one.model_copy(update=found)

    for point in (hidden := dearer(0.03, worse), float_ := dearer(0.04, better)):
        priced.points.append(point)
    priced.points.append(int8 := dearer(0.02, worse, int8=True))
    found = priced.keeping(limits)
    assert found == [one, int8, float_] and hidden not in found
    cheaper = dearer(-0.1, better).model_copy(update={"drop": priced.points[1].drop})
    priced.points.append(cheaper)  # does not keep the drop, but is as good as the dearer one
    assert priced.keeping(limits) == [one, int8]
    assert [p.milliseconds for p in found] == sorted(p.milliseconds for p in found)
    assert not priced.keeping(Limits(max_drop=-1))


class Smooth(Frontier):
    """A candidate for every time: the more it takes, the less it loses."""

    slowest = 10.0  # a property of what is measured

    def __init__(self) -> None:
        self.one = Priced().at(1.0)

    def within(self, limits: Limits) -> Point:
        assert limits.milliseconds is not None
        loss = {"loss": 1 / limits.milliseconds}
        quality = self.one.quality.model_copy(update=loss)
        found = {"milliseconds": limits.milliseconds, "quality": quality}
        return self.one.model_copy(update=found)


@pytest.mark.parametrize(
    ("takes", "chosen"),
    [
        (lambda foreseen: foreseen, 4.8),  # as was foreseen
        (lambda foreseen: 0.8 * foreseen, 6.0),  # less: there is room
        (lambda foreseen: 0.8 * foreseen if foreseen < 5 else foreseen, 4.8),  # only for this one
    ],
)
def test_room_that_a_candidate_leaves_is_used(
    takes: Callable[[float], float], chosen: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose, "_time", lambda job, point: takes(point.milliseconds))
    how = Compress(data="digits", speedup=2.0)  # within 5 ms
    job: Any = SimpleNamespace(how=how, frontier=Smooth(), tell=lambda text: None)
    (point,) = choose.tries(job, Limits(milliseconds=4.8))
    assert point.milliseconds == pytest.approx(chosen)
