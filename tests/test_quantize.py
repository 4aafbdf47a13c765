"""int8 in ONNX: let through only where the answers stay, whatever hides a change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from tiny import SHAPE, TEXT, network, plain, saved, tiny

import acn_compress
from acn_compress.checkpoint.find import find_source
from acn_compress.data.load import load_data
from acn_compress.errors import DataError, VerificationError
from acn_compress.network.adopt import adopt
from acn_compress.network.network import Network
from acn_compress.onnx.layout import FILES, onnx_file
from acn_compress.onnx.quantize import (
    CLASSES,
    COSINE,
    ERROR,
    FEWEST,
    LABELS,
    NUMBERS,
    PLACES,
    Kind,
    Likeness,
    kind_of,
    real_rows,
)
from acn_compress.onnx.session import Array
from acn_compress.onnx.write import write_onnx


def likeness(kind: Kind, ours: Array, theirs: Array, parts: int = 7) -> Likeness:
    """Of rows that come in several batches."""
    found = Likeness(kind, ours.shape[-1])
    for a, b in zip(np.array_split(ours, parts), np.array_split(theirs, parts), strict=True):
        found.add(a, b)
    return found


def scores(rows: int, classes: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((rows, classes))


def test_running_sums_are_what_the_whole_arrays_say() -> None:
    ours, theirs = scores(200, 5), scores(200, 5) + 0.3 * scores(200, 5, seed=1) + 0.1
    found = likeness(NUMBERS, ours, theirs)
    assert found.error == pytest.approx(np.abs(ours - theirs).mean() / np.sqrt(ours.var(0).mean()))
    found = likeness(CLASSES, ours, theirs)
    a, b = (side - side.mean(-1, keepdims=True) for side in (ours, theirs))
    a, b = a - a.mean(0), b - a.mean(0)
    expected = (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
    assert found.cosine == pytest.approx(expected)
    same = (ours.argmax(-1) == theirs.argmax(-1)).mean()
    assert found.agreement == pytest.approx(same)


@pytest.mark.parametrize("offset", [0.0, 3.0, 300.0])
@pytest.mark.parametrize("shared_by", ["rows", "classes"])
def test_no_shared_offset_hides_changed_answers(offset: float, shared_by: str) -> None:
    """An offset that all rows or all classes share makes the plain cosine 1, and changes nothing
    of what was answered before or after."""
    own = scores(400, 4)
    off = 0.6 * scores(400, 4, seed=1)
    shared = np.array([1.0, 1.0, 0.0, 0.0]) if shared_by == "rows" else scores(400, 1, seed=2)
    ours, theirs = own + offset * shared, own + off + offset * shared
    found = likeness(CLASSES, ours, theirs)
    assert found.cosine is not None and found.cosine < COSINE - 0.05
    if offset == 300:
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        assert ((ours * theirs).sum(1) / lengths).mean() > 0.9  # what a plain cosine would say


def test_two_classes_are_judged_by_their_margin_not_by_its_sign() -> None:
    """A row of two centred scores has the cosine 1 or -1 with any other."""
    ours = scores(300, 2)
    found = likeness(CLASSES, ours, ours * np.abs(scores(300, 1, seed=3)))
    assert found.agreement == 1 and found.cosine is not None and found.cosine < COSINE


def test_a_single_number_is_judged_by_its_error_and_has_no_cosine() -> None:
    ours = scores(100, 1) + 50
    wrong, right = likeness(NUMBERS, ours, ours + 0.5), likeness(NUMBERS, ours, ours + 0.05)
    assert wrong.cosine is right.cosine is wrong.agreement is None
    assert wrong.error > ERROR > right.error


def test_equal_outputs_pass_even_if_they_never_vary() -> None:
    rows = np.ones((30, 4))
    assert likeness(NUMBERS, rows, rows).error == 0
    assert likeness(CLASSES, rows, rows).cosine == 1


def test_labels_of_which_several_hold_are_the_same_only_all_together() -> None:
    ours = scores(90, 3)
    theirs = ours.copy()
    theirs[:30, 0] *= -1
    assert likeness(LABELS, ours, theirs).agreement == pytest.approx(2 / 3)


def test_places_in_texts_of_any_length_are_compared_together() -> None:
    found = Likeness(PLACES, 5)
    for length in (5, 9, 13):
        found.add(scores(2, length) + 100, scores(2, length))
    assert found.cosine == pytest.approx(1) and found.agreement == 1


def test_what_an_output_is_follows_from_the_head() -> None:
    bert = tiny("bert")
    assert kind_of(bert, "logits", 3) is CLASSES
    assert kind_of(bert, "logits", 1) is NUMBERS
    bert.config.problem_type = "multi_label_classification"
    assert kind_of(bert, "logits", 3) is LABELS
    bert.config.problem_type = "regression"
    assert kind_of(bert, "logits", 3) is NUMBERS
    assert kind_of(tiny("bert-answers"), "start_logits", 12) is PLACES
    assert kind_of(tiny("bert-features"), "last_hidden_state", 32) is NUMBERS
    assert kind_of(tiny("gpt2"), "logits", 64) is CLASSES


def regression(outliers: float) -> Network:
    """One number, from a stream of which two features are far larger than the others: what int8 of
    activations, one scale for all, cannot hold."""
    shape = {**SHAPE, "hidden_size": 64, "intermediate_size": 256}
    config = hf.BertConfig(**shape, **TEXT, num_labels=1, problem_type="regression")
    torch.manual_seed(0)
    model = hf.BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(float(name.endswith("LayerNorm.weight")), 0.3)
        for layer in model.bert.encoder.layer:
            layer.output.LayerNorm.weight[:2] *= outliers
        model.classifier.bias.add_(6)
    return adopt(model)


def test_a_regression_that_int8_spoils_is_refused(tmp_path: Path) -> None:
    source = find_source(saved(regression(40.0), tmp_path / "m"))
    whole = write_onnx(network(tmp_path / "m"), tmp_path / FILES[None], source)
    assert whole.agreement is None  # a number has no answer that could be the same
    before = (tmp_path / FILES[None]).read_bytes()
    told = r"int8: on 128 examples of random inputs .* the numbers are off by .* allowed 0.2"
    with pytest.raises(VerificationError, match=told):
        write_onnx(network(tmp_path / "m"), tmp_path / FILES[None], source, quantize="int8")
    assert (tmp_path / FILES[None]).read_bytes() == before  # the float file, never the other


def test_int8_is_smaller_and_judged_on_the_users_rows(digits_acn: Path, tmp_path: Path) -> None:
    whole = acn_compress.export(digits_acn, tmp_path / "whole")
    report = acn_compress.export(digits_acn, tmp_path / "int8", data="digits", quantize="int8")
    assert report["quantized"] == "int8" and report["bytes"] < whole["bytes"]
    assert report["judged_on"] == "digits:test" and report["examples"] == 180
    assert report["cosine"] >= 0.98 and 0.95 <= report["agreement"] <= 1
    card = (tmp_path / "int8" / "README.md").read_text()
    for text in (card, " ".join(str(report).split())):
        assert "on digits:test, n = 180" in text
    assert [*(tmp_path / "int8").rglob("*.onnx*")] == [tmp_path / "int8" / onnx_file("int8")]


def test_without_data_it_says_that_the_inputs_were_random(digits_acn: Path, tmp_path: Path) -> None:
    report = acn_compress.export(digits_acn, tmp_path / "int8", quantize="int8")
    assert report["cosine"] >= 0.98 and 0 <= report["agreement"] <= 1
    card = (tmp_path / "int8" / "README.md").read_text()
    assert "on random inputs (no data was given), n = 128" in card


def test_a_few_rows_cannot_tell(digits_acn: Path) -> None:
    net = network(digits_acn)
    data = load_data("digits", net, find_source(digits_acn), role="eval", limit=FEWEST - 1)
    with pytest.raises(DataError, match="has 19 examples, too few to judge int8 on"):
        real_rows(data, ["pixel_values"])


def test_plain_networks_of_every_head_can_be_judged(tmp_path: Path) -> None:
    """What int8 does to random weights is no matter here: that each head's rows are read is."""
    for name in ("bert-answers", "bert-features"):
        whole = adopt(plain(name))
        whole.keep_((0,))
        source = find_source(saved(whole, tmp_path / name))
        net = network(tmp_path / name)
        try:
            report = write_onnx(net, tmp_path / FILES[None], source, quantize="int8")
            assert report.examples == 128 and report.error is not None
        except VerificationError as error:
            assert "int8: on 128 examples of random inputs" in str(error)
