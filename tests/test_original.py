"""What every step says of the quality: measured against the original of the chain where that can be
had as it was, on the same rows, and the same in report, provenance, card and ONNX file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from brought import bert, table, texts
from tiny import network

import acn_compress
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.original import at_hand, find_original
from acn_compress.checkpoint.provenance import Provenance, history
from acn_compress.data.load import Data, load_data
from acn_compress.errors import ConfigError
from acn_compress.measure.original import Original
from acn_compress.measure.quality import measure
from acn_compress.quality import NO_ORIGINAL, NOT_MEASURED, told

ROWS: dict[str, Any] = {"data": "digits", "limit": 90}


@pytest.fixture(scope="module")
def chain(digits_vit: Path, digits_acn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An original, what was converted from it and what was cut from that, side by side."""
    place = tmp_path_factory.mktemp("chain")
    shutil.copytree(digits_vit, place / "digits-vit")
    shutil.copytree(digits_acn, place / "acn")
    acn_compress.truncate(place / "acn", place / "cut", depth=2, **ROWS)
    return place


def past(directory: Path) -> Provenance:
    return history(find_source(directory))


def test_the_drop_is_that_from_the_first_of_the_chain_and_not_a_sum(chain: Path) -> None:
    report = json.loads((chain / "cut" / "report.json").read_text())
    right = acn_compress.evaluate(chain / "cut", against=chain / "digits-vit", **ROWS)
    other = acn_compress.evaluate(chain / "cut", against=chain / "acn", **ROWS)
    found = past(chain / "cut").quality
    assert found is not None and found.below is not None and right.drop is not None
    assert found.against == "original" and found.below.name == "digits-vit"
    assert found.below.drop == right.drop and found.quality == right.result
    assert report["original"]["drop"] == right.drop.plain() != report["drop"]
    assert other.drop is not None and report["drop"] == other.drop.plain()
    assert found.data == "digits:test" and found.quality.examples == 90
    line = f"{right.result} on digits:test, n = 90; {found}"
    assert f"| quality | accuracy {line} |" in (chain / "cut" / "README.md").read_text()
    assert str(found).endswith("against the original digits-vit")
    assert line in " ".join(str(acn_compress.inspect(chain / "cut")).split())


def test_what_prepares_an_original_makes_one(chain: Path) -> None:
    """As in a recipe: training whole comes before it, training a cut model after."""
    vit = find_source(chain / "digits-vit")
    assert find_original(vit) is vit
    for name in ("acn", "cut"):
        found = find_original(find_source(chain / name))
        assert found is not None and found.sha256() == vit.sha256()
    entry = past(chain / "digits-vit").steps[0]
    assert entry.prepares and not past(chain / "acn").steps[-1].prepares
    assert not entry.model_copy(update={"options": {**entry.options, "depth": 2}}).prepares


@pytest.mark.parametrize("lost", ["moved", "other weights"])
def test_without_its_original_a_step_says_it_is_against_its_source(
    lost: str, chain: Path, tmp_path: Path
) -> None:
    shutil.copytree(chain / "acn", tmp_path / "acn")
    if lost == "other weights":
        shutil.copytree(chain / "cut", tmp_path / "digits-vit")
    report = acn_compress.truncate(tmp_path / "acn", tmp_path / "out", depth=2, **ROWS)
    found = past(tmp_path / "out").quality
    assert found is not None and found.below is not None
    assert (found.against, found.below.drop) == ("source", report.drop)
    assert str(found).endswith("against its source acn") and report.original is None
    assert "against its source" in str(report)
    source = find_source(tmp_path / "acn")
    assert find_original(source) is None
    with at_hand(str(chain / "cut"), str(chain / "digits-vit")):  # as a run says it
        known = find_original(source)
        assert known is not None and known.name == str(chain / "digits-vit")
    assert find_original(source) is None


def test_nothing_measured_is_not_the_quality_of_the_source(chain: Path, tmp_path: Path) -> None:
    acn_compress.truncate(chain / "acn", tmp_path / "out", depth=1)
    assert past(chain / "acn").quality is not None and past(tmp_path / "out").quality is None
    assert f"| quality | {NOT_MEASURED} |" in (tmp_path / "out" / "README.md").read_text()
    assert f"quality {NOT_MEASURED}" in " ".join(
        str(acn_compress.inspect(tmp_path / "out")).split()
    )


def test_what_gives_the_same_answers_has_the_same_quality(chain: Path, tmp_path: Path) -> None:
    report = acn_compress.export(chain / "cut", tmp_path / "out", format="safetensors")
    found = past(chain / "cut").quality
    assert past(tmp_path / "out").quality == found == report.outcome and found is not None
    assert str(found) in " ".join(str(report).split())
    assert f"| quality | {told(found)} |" in (tmp_path / "out" / "README.md").read_text()


def test_provenance_of_before_is_read(chain: Path, tmp_path: Path) -> None:
    shutil.copytree(chain / "acn", tmp_path / "acn")
    file = tmp_path / "acn" / "provenance.json"
    stored = json.loads(file.read_text())
    for step in stored["steps"]:
        del step["quality"]
    file.write_text(json.dumps(stored))
    assert past(tmp_path / "acn").quality is None
    assert NOT_MEASURED in str(acn_compress.inspect(tmp_path / "acn"))
    assert acn_compress.truncate(tmp_path / "acn", tmp_path / "out", depth=1, **ROWS).drop


def test_an_original_that_reads_other_examples_is_not_compared(chain: Path) -> None:
    """Nor one whose rows cannot be read."""
    source, net = find_source(chain / "cut"), network(chain / "cut")

    def read(limit: int) -> Data:
        return load_data("digits", net, source, role="eval", limit=limit)

    data = read(60)
    fewer = Original.of(source, data, lambda other, place: read(30))
    assert fewer is not None and fewer.below(measure(net, data)) is None
    assert Original.of(source, data, lambda other, place: None) is None


@pytest.mark.long
def test_a_drop_may_be_from_the_original(chain: Path, tmp_path: Path) -> None:
    """The depth is the first that is near enough to it, not to SRC, and what is said is true."""
    acn, how = chain / "acn", {**ROWS, "bound": "point"}
    drops = []
    for depth in (1, 2, 3):
        cut = acn_compress.truncate(acn, tmp_path / str(depth), depth=depth, **ROWS)
        assert cut.original is not None and cut.drop is not None
        drops.append((cut.original.drop.drop, cut.drop.drop))
    assert all(a != b for a, b in drops)
    for against, column in (("original", 0), ("source", 1), (None, 0)):
        limit = max(0.0, min(drops[0]))  # which one of them keeps and the other does not
        first = next(k for k, found in enumerate(drops, 1) if found[column] <= limit)
        options = {**how, "max_drop": limit, "against": against}
        found = acn_compress.truncate(acn, tmp_path / f"to {against}", **options)
        assert found.depth == first
    why = json.loads((tmp_path / "to None" / "report.json").read_text())["why"]
    assert why.endswith("against the original digits-vit, point bound")
    (tmp_path / "alone").mkdir()
    shutil.copytree(acn, tmp_path / "alone" / "acn")
    gone = {**how, "max_drop": 0.5, "against": "original"}
    with pytest.raises(ConfigError, match="its original was not found"):
        acn_compress.truncate(tmp_path / "alone" / "acn", tmp_path / "none", **gone)
    gone["against"] = None
    found = acn_compress.truncate(tmp_path / "alone" / "acn", tmp_path / "fallback", **gone)
    assert f"acn, as {NO_ORIGINAL}, point bound" in found.why
    with pytest.raises(ConfigError, match="against original, which needs max_drop"):
        acn_compress.truncate(acn, tmp_path / "none", depth=1, against="original")


def test_a_profile_knows_the_original_and_a_cut_by_it_was_measured(
    chain: Path, tmp_path: Path
) -> None:
    """All that would be measured anew is in it: the same depth, against the same, with the same
    figures, though the original is gone meanwhile."""
    shutil.copytree(chain / "acn", tmp_path / "acn")
    shutil.copytree(chain / "digits-vit", tmp_path / "digits-vit")
    profile = acn_compress.profile(tmp_path / "acn", max_drop=0.1, bound="point", **ROWS)
    assert profile.from_original is not None
    limit = profile.from_original[1].drop + 0.01
    how: dict[str, Any] = {"max_drop": max(limit, 0), "bound": "point"}
    anew = acn_compress.truncate(tmp_path / "acn", tmp_path / "anew", **how, **ROWS)
    shutil.rmtree(tmp_path / "digits-vit")
    for against in (None, "original"):
        out = tmp_path / f"to {against}"
        found = acn_compress.truncate(tmp_path / "acn", out, against=against, **how)
        assert found.depth == anew.depth == 1 and found.warning() is None
        outcome, theirs = past(out).quality, anew.outcome()
        assert outcome is not None and theirs is not None and outcome.against == "original"
        assert str(outcome) == str(theirs).replace(f"{tmp_path}/", "")
        assert outcome.quality.value == pytest.approx(theirs.quality.value, abs=1e-6)
        assert str(outcome) in (out / "README.md").read_text()


def test_what_was_trained_from_random_weights_has_a_quality_of_its_own(chain: Path) -> None:
    found = past(chain / "digits-vit").quality
    assert found is not None and (found.against, found.below) == (None, None)
    assert "points" not in told(found) and str(found.quality) in told(found)
    assert "random weights" in told(found)


def test_what_got_a_new_head_has_a_quality_of_its_own(tmp_path: Path) -> None:
    """Before it was trained it answered at random, which no original did: with classes of its own,
    or with none."""
    other = bert(tmp_path / "other", labels=["a", "b", "c", "d", "e"])
    for model, name in ((bert(tmp_path / "bare", "Model"), "bare"), (other, "other")):
        data = table(tmp_path / name / "d" / "train.csv", text=texts(40), label=["no", "yes"] * 20)
        how: dict[str, Any] = {"task": "text-classification", "epochs": 1, "batch_size": 8}
        out = tmp_path / f"{name}-out"
        report = acn_compress.finetune(model, out, data, eval_data=data, **how)
        assert report.new_head and report.original is None
        stored = json.loads((out / "report.json").read_text())
        assert stored["against"] == "itself with a new head, untrained"
        found = past(out).quality
        assert found is not None and (found.against, found.below) == (None, None)
        assert str(found) == str(report.outcome()) and "points" not in told(found)
        line = f"{report.after}".split(" ")[0] if report.after else ""
        assert f"accuracy {line}" in told(found) and told(found).endswith("with a new head")
        assert f"| quality | {told(found)} |" in (out / "README.md").read_text()
        assert str(found) in " ".join(str(report).split())
        again = acn_compress.finetune(out, tmp_path / f"{name}-again", data, eval_data=data, **how)
        outcome = again.outcome()
        assert not again.new_head and outcome is not None and outcome.below is not None
        assert outcome.below.drop == again.drop


def test_evaluate_measures_beside_the_original(chain: Path) -> None:
    """And says nothing of one where it is that itself, or another model is asked for."""
    cut, whole = chain / "cut", chain / "digits-vit"
    found, right = (acn_compress.evaluate(cut, against=a, **ROWS) for a in (None, whole))
    assert found.original is not None and found.original.drop == right.drop
    assert "against the original" in str(found) and right.original is None
    assert acn_compress.evaluate(whole, **ROWS).original is None


def test_what_was_never_measured_says_how_it_can_be(chain: Path, tmp_path: Path) -> None:
    """Every step that changes answers warns; one that does not says that its source was not
    measured either. With data and original, as far as they are known."""
    look = f"--data digits --against {chain / 'digits-vit'}"
    cut = acn_compress.truncate(chain / "acn", chain / "unseen", depth=1)
    thin = acn_compress.prune(chain / "acn", tmp_path / "thin", target_sparsity=0.3)
    same = acn_compress.export(chain / "unseen", tmp_path / "same", format="safetensors")
    for made in (cut, thin, same):
        text = str(made).replace("\\\n", "")
        assert f"evaluate {made.out} {look}" in " ".join(text.split())
        assert (made.warning() is None) == (made is same)
    assert f"{NOT_MEASURED}, as that of" in " ".join(str(same).split())
    again = acn_compress.inspect(chain / "unseen")
    assert f"acn-compress evaluate {chain / 'unseen'} --data digits" in " ".join(str(again).split())
    shutil.rmtree(chain / "unseen")


@pytest.mark.long
def test_compress_may_be_held_to_the_original(chain: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"data": "digits", "backend": "torch", "against": "original"}
    how |= {"max_drop": 0.5, "bound": "point", "progress": False}
    found = acn_compress.compress(chain / "acn", tmp_path / "out", **how)
    right = acn_compress.evaluate(tmp_path / "out", data="digits", against=chain / "digits-vit")
    assert right.drop is not None and found.original is not None and found.drop is not None
    (limit,) = found.limits
    assert (limit.found, limit.against) == (found.original.drop.drop, found.original.name)
    assert limit.found != found.drop.drop and found.original.name.endswith("digits-vit")
    (tmp_path / "alone").mkdir()
    shutil.copytree(chain / "acn", tmp_path / "alone" / "acn")
    with pytest.raises(ConfigError, match="its original was not found"):
        acn_compress.compress(tmp_path / "alone" / "acn", tmp_path / "none", **how)
