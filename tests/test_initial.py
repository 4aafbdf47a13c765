"""Which blocks a shallower network starts from: what is compared is what is kept, the better one is
taken, and choosing is paid for."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import MODELS, network, outputs, tiny

from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint.directory import find_source, read_json
from acn_compress.compression import start as initial
from acn_compress.compression.start import EXAMPLES, cut_
from acn_compress.errors import ConfigError
from acn_compress.measure.budget import equal_epochs, training_flops
from acn_compress.recipe.run import run
from acn_compress.steps.compare import compare
from acn_compress.steps.convert import convert
from acn_compress.steps.finetune import finetune
from acn_compress.tasks import features
from acn_compress.training.recipe import Recipe
from acn_compress.training.job import Job

JOB = Job("digits")
POST_NORM = ("bert", "roberta", "electra", "distilbert")


def kept_of(net: Any) -> tuple[int, ...]:
    return net.structure.blocks


@pytest.mark.parametrize("name", MODELS)
def test_blocks_left_out_are_blocks_removed(name: str) -> None:
    net = tiny(name)
    with torch.no_grad(), net.bypassing([1]):
        without = outputs(net)
    net.keep_((0, 2))
    assert torch.equal(outputs(net), without)


def test_auto_spreads_the_blocks_of_a_post_norm_network_that_is_refitted() -> None:
    net = tiny("bert")
    cut_(net, 2, "auto", JOB, None, refitted=True, examples=1)
    assert kept_of(net) == (0, 2)


@pytest.mark.parametrize("name", [n for n in MODELS if n.startswith(POST_NORM)])
def test_auto_keeps_the_first_blocks_of_a_post_norm_network(name: str) -> None:
    net = tiny(name)
    assert cut_(net, 2, "auto", JOB, None) == 0.0 and kept_of(net) == (
        0,
        1,
    )  # without a look at data


def test_evenly_spaced_blocks_have_the_first_and_the_last_among_them() -> None:
    for depth, even in ((1, (0,)), (2, (0, 2)), (3, (0, 1, 2))):
        net = tiny("vit")
        assert cut_(net, depth, "even", JOB, None) == 0.0 and kept_of(net) == even


def test_best_takes_out_what_changes_the_answers_least(
    digits_vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initial, "DEEP", 1.0)
    source = find_source(digits_vit)
    whole = checkpoint.load_source(source)
    (batch,) = replace(JOB, limit=EXAMPLES).train_split(whole, source).batches(EXAMPLES)
    answers = outputs(whole, **features(batch)) / initial.TEMPERATURE

    def loss(kept: tuple[int, ...]) -> float:
        net = checkpoint.load_source(source)
        net.keep_(kept)
        now = outputs(net, **features(batch)) / initial.TEMPERATURE
        return float(
            torch.nn.functional.kl_div(
                now.log_softmax(-1), answers.softmax(-1), reduction="batchmean"
            )
        )

    pairs = {kept: loss(kept) for kept in itertools.combinations(range(3), 2)}
    assert len(set(pairs.values())) == 3
    pair = min(pairs, key=pairs.__getitem__)
    single = min(((i,) for i in pair), key=loss)
    for keep, epochs in (("best", 0.1), ("auto", 10)):
        for depth, kept in ((2, pair), (1, single), (3, (0, 1, 2))):
            net = checkpoint.load_source(source)
            spent = cut_(net, depth, keep, replace(JOB, recipe=Recipe(epochs=epochs)), source)
            assert kept_of(net) == kept and (spent > 0) == (depth < 3)


def test_auto_chooses_only_where_that_is_cheap_beside_the_training(
    digits_vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        cut_(network(digits_vit), 1, "auto", replace(JOB, recipe=Recipe(epochs=100)), None) == 0.0
    )  # a third is no deep cut
    monkeypatch.setattr(initial, "DEEP", 1.0)
    source = find_source(digits_vit)
    whole = checkpoint.load_source(source)
    spent = cut_(checkpoint.load_source(source), 1, "best", JOB, source)
    epoch = len(JOB.train_split(whole, source)) * training_flops(whole, depth=1, teacher_depth=3)
    for epochs, chooses in ((10.1 * spent / epoch, True), (9.9 * spent / epoch, False)):
        net = checkpoint.load_source(source)
        assert (
            cut_(net, 1, "auto", replace(JOB, recipe=Recipe(epochs=epochs)), source) > 0
        ) == chooses


def test_what_a_start_takes_is_paid_for(digits_vit: Path, tmp_path: Path) -> None:
    source = find_source(digits_vit)
    whole = checkpoint.load_source(source)
    job = Job("digits", Recipe(epochs=3, batch_size=64), eval_limit=50)
    budget = replace(job, recipe=Recipe(epochs=equal_epochs(whole, 3, depth=2), batch_size=64))
    spent = cut_(checkpoint.load_source(source), 2, "auto", budget, source, whole, refitted=True)
    report = compare(
        digits_vit,
        job,
        depths=(2,),
        out=tmp_path / "c",
        seeds=1,
        routes=("drop-last", "acn-cut-first"),
    )
    plain, chosen = (r["epochs"] for r in report["runs"])
    examples = len(job.train_split(whole, source))
    assert (plain - chosen) * examples * training_flops(
        whole, depth=2, teacher_depth=3
    ) == pytest.approx(spent, rel=0.01)


@pytest.mark.usefixtures("no_table")
def test_the_baseline_of_a_run_is_given_what_choosing_took(
    digits_vit: Path, tmp_path: Path
) -> None:
    from acn_compress.recipe.schema import Recipe as Chain

    def epochs(keep: str) -> float:
        steps = [{"convert": {"depth": 2, "keep": keep, "epochs": 0.5}}]
        chain = Chain.model_validate(
            {
                "source": str(digits_vit),
                "data": "digits",
                "limit": 400,
                "eval_limit": 50,
                "steps": steps,
            }
        )
        found = run(chain, out=tmp_path / keep)
        provenance = read_json(Path(found["baseline"]) / "provenance.json")
        assert provenance is not None
        trained: float = provenance["steps"][-1]["options"]["job"]["recipe"]["epochs"]
        return trained

    source = find_source(digits_vit)
    spent = cut_(checkpoint.load_source(source), 2, "best", replace(JOB, limit=400), source)
    price = 400 * training_flops(checkpoint.load_source(source), depth=2, teacher_depth=3)
    assert epochs("best") - epochs("first") == pytest.approx(spent / price, abs=1e-3)


def test_what_was_kept_is_written_and_loads_again(digits_vit: Path, tmp_path: Path) -> None:
    for step, options in ((convert, {"alpha_end": 0.5}), (finetune, {"teacher": digits_vit})):
        out = tmp_path / step.__name__
        report = step(digits_vit, out, "digits", depth=2, keep="even", epochs=0.1, **options)
        assert report["structure"]["blocks"] == [0, 2] and report["structure"]["source_blocks"] == 3
        assert kept_of(network(out)) == (0, 2)
        provenance = read_json(out / "provenance.json")
        assert provenance is not None and provenance["steps"][-1]["options"]["keep"] == "even"
    with pytest.raises(ConfigError, match=r"keep is 'last', expected first, even, best, auto"):
        convert(digits_vit, tmp_path / "x", "digits", depth=2, keep="last", epochs=0.1)  # type: ignore[arg-type]
