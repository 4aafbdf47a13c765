"""Fewer bits in ONNX: let through only where the answers stay, whatever hides a change."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers as hf
from onnx import TensorProto
from PIL import Image
from test_cli import fails
from tiny import SHAPE, TEXT, network, plain, saved, tiny

import acn_compress
from acn_compress import figures
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.provenance import history
from acn_compress.checkpoint.push import sorted_out
from acn_compress.data.load import load_data, open_split
from acn_compress.errors import DataError, VerificationError
from acn_compress.network.adopt import adopt
from acn_compress.network.network import Network
from acn_compress.onnx.facts import facts_of
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
    quantize,
    random_rows,
    real_rows,
)
from acn_compress.onnx.session import Array, Input
from acn_compress.onnx.write import write_onnx
from acn_compress.options import Export, Quantize
from acn_compress.quality import NOT_MEASURED, told
from acn_compress.steps.export import _rows
from acn_compress.targets import TARGETS
from acn_compress.targets.onnx import OnnxExported

pytestmark = pytest.mark.xdist_group("quantize")  # what is made once is made in one process


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


@pytest.mark.long
def test_a_regression_that_int8_spoils_is_refused(tmp_path: Path) -> None:
    source = find_source(saved(regression(40.0), tmp_path / "m"))
    whole = write_onnx(network(tmp_path / "m"), tmp_path / FILES[None], source)
    assert whole.agreement is None  # a number has no answer that could be the same
    told = "of their own spread, allowed 0.2. Export without int8."  # and with fp16
    fails(told, "export", tmp_path / "m", tmp_path / "out", "--quantize", "fp16,int8")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def every(digits_vit: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OnnxExported]:
    """The digits ViT in every precision, and what was reported."""
    out = tmp_path_factory.mktemp("every") / "onnx"
    report = acn_compress.export(digits_vit, out, data="digits", quantize=(*get_args(Quantize),))
    assert isinstance(report, OnnxExported)
    return out, report


@pytest.mark.long
def test_every_precision_stands_beside_the_float_file_and_is_smaller(
    every: tuple[Path, OnnxExported],
) -> None:
    out, report = every
    names = {p.name for p in (out / "onnx").iterdir()}
    assert names == set(FILES.values()) == {Path(row.file).name for row in report.files}
    assert not sorted_out(out, TARGETS["onnx"].files)[1]  # all of it is known to `push`
    whole, *others = report.files
    assert whole.judged is None and whole.bytes == report.bytes
    for row in others:
        assert row.bytes == (out / row.file).stat().st_size < 0.75 * whole.bytes
        assert row.judged is not None and row.judged.examples == 180
        assert row.judged.cosine is not None and row.judged.cosine >= COSINE
    assert report.calibrated_on == "digits:train, n = 128" and report.data == "digits:test"
    for text in ((out / "README.md").read_text(), " ".join(str(report).split())):
        assert "digits:test, n = 360" in text and "model_q4.onnx" in text


def test_what_is_reported_of_a_file_is_what_a_stranger_finds_in_it(
    every: tuple[Path, OnnxExported], digits_vit: Path
) -> None:
    """The accuracy of each, by scikit-learn's images, transformers' processor and ONNX Runtime."""
    out, report = every
    split = open_split("digits", "eval").rows
    processor = hf.AutoImageProcessor.from_pretrained(digits_vit)
    images = [Image.fromarray(np.uint8(image)).convert("RGB") for image in split["image"]]
    pixels = processor(images, return_tensors="np")["pixel_values"]
    batches = np.split(pixels, range(64, len(pixels), 64))  # int8's ranges are those of a batch
    for row in report.files:
        session = onnxruntime.InferenceSession(str(out / row.file))
        (given,), (gives,) = session.get_inputs(), session.get_outputs()
        assert given.type == gives.type == "tensor(float)"
        said = [session.run(None, {given.name: batch})[0].argmax(-1) for batch in batches]
        right = np.concatenate(said) == np.array(split["label"])
        assert row.measured is not None
        # their processor's pixels lie 6e-08 beside ours, and rounding makes more of that
        few = 0 if row.precision in (None, "fp16") else 3 / len(right)
        assert row.measured.quality.value == pytest.approx(right.mean(), abs=few)
        model = onnx.load(str(out / row.file))
        assert model.producer_name == "acn-compress" and model.opset_import[0].version == row.opset
        facts = {p.key: p.value for p in model.metadata_props}
        assert facts.get("quantized") == row.precision and facts["model_type"] == "vit"
        q = row.measured.quality
        assert facts["quality"].startswith(f"{q.metric} {q} on digits:test, n = 360; ")
        change = figures.change(row.measured.drop, q.metric)
        assert f"{change} points (95 %, paired) against the original digits-vit" in facts["quality"]


def test_each_precision_is_what_its_name_says(every: tuple[Path, OnnxExported]) -> None:
    """By the operators and the types of the weights."""
    out, _ = every

    def operators(precision: Quantize | None) -> set[str]:
        return {n.op_type for n in onnx.load(str(out / onnx_file(precision))).graph.node}

    float_types = {TensorProto.FLOAT, TensorProto.FLOAT16}
    half = onnx.load(str(out / onnx_file("fp16"))).graph.initializer
    assert {t.data_type for t in half} & float_types == {TensorProto.FLOAT16}
    assert "MatMulInteger" in operators("int8") and "MatMulNBits" in operators("int4")
    assert {"QuantizeLinear", "DequantizeLinear"} < operators("int8-static")
    assert "DynamicQuantizeLinear" not in operators("int8-static") | operators(None)


@pytest.mark.long
def test_a_precision_that_loses_more_than_it_may_is_refused(
    digits_vit: Path, tmp_path: Path
) -> None:
    """By the drop that is asked for, and only by it."""
    told = (
        r"int8: \S+ \[.*\] points against its source, allowed a drop of 0 \(upper bound\); "
        r"fp16: .* points against its source, .* Export without int8 and fp16"
    )
    with pytest.raises(VerificationError, match=told):
        acn_compress.export(
            digits_vit,
            tmp_path / "out",
            data="digits",
            limit=100,
            quantize=("int8", "fp16"),
            max_drop=0,
        )
    assert not list(tmp_path.iterdir())


def test_static_ranges_are_never_taken_from_rows_that_are_measured(
    digits_vit: Path, tmp_path: Path
) -> None:
    """They come from the training split; of the only one some rows are held apart."""
    options = Export.model_validate({"data": "digits:test", "quantize": "int8-static"})
    net, source = network(digits_vit), find_source(digits_vit)
    rows = _rows(options, net, source)
    assert rows is not None and rows.calibrated_on == "digits:train, n = 128"
    alone = tmp_path / "alone.parquet"
    open_split("digits", "eval").rows.to_parquet(alone)
    rows = _rows(options.changed(data=str(alone), limit=200), net, source)
    assert rows is not None and (len(rows.measured), len(rows.calibration or ())) == (150, 50)
    both = [[str(rows.measured.examples[i]) for i in range(150)]]
    both += [[str(rows.calibration.examples[i]) for i in range(50)]] if rows.calibration else []
    assert not set(both[0]) & set(both[1])


@pytest.mark.long
def test_without_data_nothing_is_said_of_answers(digits_acn: Path, tmp_path: Path) -> None:
    report = acn_compress.export(digits_acn, tmp_path / "int8", quantize=("int8",))
    assert report["files"][1]["judged"]["cosine"] >= COSINE
    card = (tmp_path / "int8" / "README.md").read_text()
    known = told(history(find_source(digits_acn)).quality)
    for text in (card, " ".join(str(report).split())):
        assert "on random inputs (no data was given), n = 128" in text
        assert "of files in fewer bits not measured" in text  # what is told is the source's
        assert "same answer" not in text and "accuracy" not in text.replace(known, "")
    assert facts_of(tmp_path / "int8" / onnx_file("int8")).metadata["quality"] == NOT_MEASURED
    fails("no data to calibrate it on", "export", digits_acn, "out", "--quantize", "int8-static")


@pytest.mark.long
def test_half_precision_weights_are_quantised_too(tmp_path: Path) -> None:
    """Weights behind a cast, and a transpose, are where the tools look for them."""
    net = tiny("gpt2")
    net.model.to(torch.bfloat16)
    source = saved(net, tmp_path / "m")
    whole = write_onnx(network(source), tmp_path / FILES[None], find_source(source))
    quantize(
        net, tmp_path / FILES[None], ["int8", "int4"], whole.outputs, random_rows(net, None, 0)
    )
    blocks = 4 * net.depth  # attention and MLP, in and out
    for file, operator in ((FILES["int8"], "MatMulInteger"), (FILES["int4"], "MatMulNBits")):
        nodes = onnx.load(str(tmp_path / file)).graph.node
        assert sum(node.op_type == operator for node in nodes) >= blocks


def test_a_few_rows_cannot_tell(digits_acn: Path) -> None:
    net = network(digits_acn)
    data = load_data("digits", net, find_source(digits_acn), role="eval", limit=FEWEST - 1)
    with pytest.raises(DataError, match="has 19 examples, too few to judge fewer bits on"):
        real_rows(data, [Input("pixel_values", (None,), "float32")])


@pytest.mark.long
def test_plain_networks_of_every_head_can_be_judged(tmp_path: Path) -> None:
    """What int8 does to random weights is no matter here: that each head's rows are read is."""
    for name in ("bert-answers", "bert-features"):
        whole = adopt(plain(name))
        whole.keep_((0,))
        source = find_source(saved(whole, tmp_path / name))
        net, file = network(tmp_path / name), tmp_path / FILES[None]
        rows = random_rows(net, None, 0)
        written = write_onnx(net, file, source)
        (found,) = quantize(net, file, ["int8"], written.outputs, rows).values()
        assert found.examples == 128 and found.agreement is None  # of random rows
