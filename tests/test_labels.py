"""Columns and labels: exact names first, nothing that could be meant in two ways."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import transformers as hf
from brought import SMALL, bert, loaded, read, table, targets, texts
from PIL import Image

import acn_compress
from acn_compress.data.labels import Labels, match
from acn_compress.data.load import Columns, label_names
from acn_compress.data.table import Table
from acn_compress.errors import DataError, UnsupportedError
from acn_compress.tasks import TASKS


def matched(names: list[str] | int, values: list[Any], own: list[str] | None = None) -> list[int]:
    """Labels of data as a model with these names numbers them."""
    config = hf.BertConfig(num_labels=names if isinstance(names, int) else len(names))
    if not isinstance(names, int):
        config.id2label = dict(enumerate(names))
    return match(Labels(values, own), config, "x", "label").numbers.tolist()


def test_an_exact_name_comes_first() -> None:
    assert matched(["b", "B", "a"], ["a", "B", "b"]) == [2, 1, 0]
    assert matched(12, ["LABEL_11", "LABEL_2"]) == [11, 2]
    assert matched(["5", "3", "1"], [1, 3]) == [2, 1]
    assert matched(["1", "2"], [2.0, 1.0]) == [1, 0]
    assert matched(["x", "y"], [1, 0], own=["y", "x"]) == [0, 1]


def test_case_is_forgiven_where_it_cannot_mislead() -> None:
    assert matched(["Negative", "POSITIVE"], ["positive", "negative "]) == [1, 0]
    assert matched(["A", "a", "b"], ["a", "B"]) == [1, 2]
    for names, values in (
        (["A", "a", "b"], ["b", "Á"]),
        (["AB", "Ab"], ["ab"]),
        (["a"], ["A", "a"]),
    ):
        with pytest.raises(DataError):
            matched(names, values)


def test_numbers_count_only_for_a_model_whose_names_say_nothing() -> None:
    assert matched(3, [2, 0, 1]) == [2, 0, 1] and matched(3, ["2", "0"]) == [2, 0]
    assert matched(2, [1, 0], own=["neg", "pos"]) == [1, 0]
    with pytest.raises(DataError, match=r"labels run from 1 to 3, but the model has 3 classes"):
        matched(3, [1, 2, 3])
    told = r"are numbers \(0 to 1\), but .* names \(1 star, 2 stars\): which number .* is not known"
    for own in (None, ["0", "1"]):
        with pytest.raises(DataError, match=told):
            matched(["1 star", "2 stars"], [0, 1], own=own)
    with pytest.raises(DataError, match="has the labels bad, good, but the model knows LABEL_0"):
        matched(2, ["good", "bad"])
    with pytest.raises(DataError, match="has 3 labels"):
        matched(2, [0, 1], own=["a", "b", "c"])


def test_names_that_are_numbers_are_these_numbers_however_they_are_stored() -> None:
    """Folders and other named classes are sorted as texts: 0, 1, 10, 2."""
    folders = sorted(map(str, range(11)))
    assert folders[2] == "10"
    places = [folders.index(str(n)) for n in (10, 2, 0)]
    assert matched(11, places, own=folders) == matched(11, [10, 2, 0]) == [10, 2, 0]
    assert matched(folders, places, own=folders) == [folders.index(n) for n in ("10", "2", "0")]
    assert matched(3, [1, 0], own=["00", "02"]) == [2, 0]
    assert matched(["2", "1"], [1, 0], own=["01", "02"]) == [0, 1]
    from_one = sorted(map(str, range(1, 4)))
    for values, own in (([1, 2, 3], None), ([0, 1, 2], from_one)):
        with pytest.raises(DataError, match="run from 1 to 3, but the model has 3 classes"):
            matched(3, values, own=own)
    with pytest.raises(DataError, match=r"two of the labels are one number \(0?1, 0?1\)"):
        matched(3, [0, 1], own=["1", "01"])
    assert Labels([0], folders).classes() == [str(n) for n in range(11)]


def test_labels_that_a_model_does_not_know_are_named() -> None:
    names = [f"class {i}" for i in range(9)]
    told = r"has 10 labels \(.*\), .*; not among them: other \(other in 2 rows\)\. To train"
    with pytest.raises(DataError, match=told):
        matched(names, [*names, "other", "other"])


@pytest.mark.parametrize("values", [[None, 1], [0.5, 1], [float("nan"), 1.0]])
def test_rows_without_a_class_are_refused(values: list[Any]) -> None:
    with pytest.raises(DataError, match=r"empty labels|is not a class label"):
        matched(2, values)
    with pytest.raises(DataError, match="split has no labels"):
        matched(2, [-1, -1], own=["a", "b"])


def features(**columns: Any) -> datasets.Features:
    return datasets.Features(
        {
            name: datasets.ClassLabel(names=of) if isinstance(of, list) else datasets.Value(of)
            for name, of in columns.items()
        }
    )


def test_the_column_of_that_name_is_taken_before_any_of_that_type(tmp_path: Path) -> None:
    model = bert(tmp_path / "m")
    typed = features(kind=["f", "g"], text="string", label="int64")
    rows = {"kind": [1, 1], "text": texts(2), "label": [0, 1]}
    assert targets(read(datasets.Dataset.from_dict(rows, features=typed), model)) == [0, 1]
    typed = features(kind=["f", "g"], text="string")
    rows = {"kind": [1, 0], "text": texts(2)}
    found = read(datasets.Dataset.from_dict(rows, features=typed), model)
    assert targets(found) == [1, 0] and found.read is not None
    assert found.read.columns == {"label": "kind", "text": "text"}
    typed = features(kind=["f", "g"], sex=["f", "g"], text="string")
    rows = {"kind": [1, 0], "sex": [0, 0], "text": texts(2)}
    with pytest.raises(DataError, match=r"kind, sex could all hold the labels\. .* --label-column"):
        read(datasets.Dataset.from_dict(rows, features=typed), model)


def test_a_number_is_looked_for_where_numbers_are(tmp_path: Path) -> None:
    model = bert(tmp_path / "m", num_labels=1)
    spec = table(tmp_path / "d.parquet", text=texts(3), score=[9.0, 9.0, 9.0], label=[0.5, 1, 2])
    assert [float(read(spec, model).examples[i]["labels"]) for i in range(3)] == [0.5, 1.0, 2.0]
    spec = table(tmp_path / "e.parquet", text=texts(2), label=["a", "b"], score=[1.5, 2.5])
    assert float(read(spec, model).examples[1]["labels"]) == 2.5
    spec = table(tmp_path / "f.parquet", text=texts(2), label=[1.0, float("inf")])
    with pytest.raises(DataError, match="row 1 of column 'label' is inf"):
        read(spec, model)


def test_a_class_called_by_a_number_is_that_number(tmp_path: Path) -> None:
    """And not the place at which it stands among the classes."""
    model = bert(tmp_path / "m", num_labels=1)
    stars = {"text": texts(3), "label": [4, 0, 2]}
    typed = features(text="string", label=["1", "2", "3", "4", "5"])
    found = read(datasets.Dataset.from_dict(stars, features=typed), model)
    assert [float(found.examples[i]["labels"]) for i in range(3)] == [5.0, 1.0, 3.0]
    typed = features(text="string", label=["one", "two", "three", "four", "five"])
    with pytest.raises(DataError, match="does not hold a number in every row"):
        read(datasets.Dataset.from_dict(stars, features=typed), model)


def test_vectors_have_a_place_for_each_class(tmp_path: Path) -> None:
    model = bert(tmp_path / "m", num_labels=5, problem_type="multi_label_classification")
    flags = [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 1]]
    with pytest.raises(DataError, match="vectors of 4 zeros and ones, but the model has 5 classes"):
        read(table(tmp_path / "d.jsonl", text=texts(3), labels=flags), model)
    spec = table(tmp_path / "e.jsonl", text=texts(2), labels=[[0, 1], [1, 0]])  # lists of classes
    assert read(spec, model).examples[0]["labels"].tolist() == [1, 1, 0, 0, 0]


def test_words_are_texts(tmp_path: Path) -> None:
    model = bert(tmp_path / "m", "ForTokenClassification", labels=["O", "B"])
    for word in (3, None):
        with pytest.raises(DataError, match=rf"row 1 of column 'tokens' holds {word}\."):
            read(
                table(tmp_path / "d.jsonl", tokens=[["w1"], [word]], ner_tags=[["O"], ["B"]]), model
            )


def test_a_row_is_told_by_its_number_in_the_data(tmp_path: Path) -> None:
    """Not by that in the sample that a limit drew."""
    model = bert(tmp_path / "m", num_labels=1)
    scores = [*range(99), float("inf")]
    spec = table(tmp_path / "d.parquet", text=[*texts(99), " "], score=scores)
    for seed in range(20):  # the last row is drawn by some
        try:
            read(spec, model, limit=20, seed=seed)
        except DataError as error:
            assert "row 99 of column" in str(error)
            return
    raise AssertionError("no seed drew the last row")


def test_a_new_head_gets_the_names_in_their_order(tmp_path: Path) -> None:
    task = TASKS["text-classification"]
    spec = table(tmp_path / "d.parquet", text=texts(3), label=[10, 9, 1])
    assert label_names(spec, Columns(), task) == ["1", "9", "10"]
    assert label_names(spec, Columns(label="text"), task) is not None
    assert label_names(spec, Columns(), TASKS["text-regression"]) is None


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        ("text-classification", {"text": texts(3), "label": [1, 1, 1]}),
        ("audio-classification", {"audio": texts(3), "label": ["1"] * 3}),
        ("token-classification", {"tokens": [["w1"]] * 3, "ner_tags": [["1"]] * 3}),
    ],
)
def test_a_new_head_needs_two_classes(task: str, rows: dict[str, Any], tmp_path: Path) -> None:
    """Of one output transformers makes a regression."""
    spec = table(tmp_path / "d.jsonl", **rows)
    with pytest.raises(DataError, match=r"d\.jsonl:train: only one class \(1\) in column .* two\."):
        label_names(spec, Columns(), TASKS[task])
    typed = features(text="string", label=["0", "1"])
    named = datasets.Dataset.from_dict({"text": texts(2), "label": [1, 1]}, features=typed)
    with pytest.raises(DataError, match=r"only one class \(1\)"):
        label_names(named, Columns(), TASKS["text-classification"])
    several = table(tmp_path / "e.jsonl", text=texts(3), labels=[["1"], [], ["1"]])
    assert label_names(several, Columns(), TASKS["text-multi-label"]) == ["1"]


def test_a_class_that_the_training_data_lack_is_told_as_such(tmp_path: Path) -> None:
    """And not sent to train a new head, which is what was done."""
    model = bert(tmp_path / "m", "Model")
    rows = {"text": texts(4), "label": ["bad", "good", "bad", "good"]}
    table(tmp_path / "d" / "train.csv", **rows)
    table(tmp_path / "d" / "test.csv", **rows | {"label": ["bad", "meh", "meh", "good"]})
    how: dict[str, Any] = {"task": "text-classification", "epochs": 1}
    with pytest.raises(
        DataError, match=r"d:test has labels .* lack: meh \(meh in 2 rows\)"
    ) as told:
        acn_compress.finetune(model, tmp_path / "out", str(tmp_path / "d"), **how)
    assert "To train a head" not in str(told.value)
    config = hf.BertConfig(**SMALL, vocab_size=35).to_dict() | {
        "architectures": ["BertForSequenceClassification"]
    }
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"d:test has labels that the training data lack: meh"):
        acn_compress.finetune(
            tmp_path / "m" / "config.json",
            tmp_path / "out",
            str(tmp_path / "d"),
            init="random",
            epochs=1,
        )


def test_folders_are_classes_by_their_numbers_and_one_alone_is_none(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 3), "uint8")
    for number in range(11):
        (tmp_path / "many" / str(number)).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "many" / str(number) / "a.png")
    shutil.copytree(tmp_path / "many" / "2", tmp_path / "one" / "cat")
    task = TASKS["image-classification"]
    assert label_names(str(tmp_path / "many"), Columns(), task) == [str(n) for n in range(11)]
    with pytest.raises(DataError, match=r"no column holds the labels\.") as refused:
        label_names(str(tmp_path / "one"), Columns(), task)
    told = str(refused.value)
    assert "there is one only (cat)" in told and "--label-column" not in told


@pytest.mark.long
def test_a_limit_draws_every_class_in_its_share(tmp_path: Path) -> None:
    model = bert(tmp_path / "m", num_labels=3)
    labels = [0] * 60 + [1] * 30 + [2] * 10
    spec = table(tmp_path / "d.parquet", text=texts(100), label=labels)
    found = read(spec, model, limit=20)
    assert [targets(found).count(i) for i in range(3)] == [12, 6, 2]
    assert targets(found) == sorted(targets(found)) and found.read is not None
    assert "20 of 100 rows, drawn from seed 0" in found.read.notes[0]
    few = [targets(read(spec, model, limit=3)).count(i) for i in range(3)]
    assert few == [1, 1, 1]
    one = read(spec, model, limit=2).read
    assert one is not None and one.missing is not None and "no row has the label" in one.notes[-1]
    ids = [
        [read(spec, model, limit=20, seed=s).examples[i]["input_ids"].tolist() for i in range(20)]
        for s in (0, 0, 1)
    ]
    assert ids[0] == ids[1] != ids[2]
    assert targets(read(spec, model, limit=100)) == labels


def test_lines_of_a_text_stay_together_where_a_limit_draws_them() -> None:
    lines = datasets.Dataset.from_dict({"text": [f"line {i}\n" for i in range(50)]})
    numbers = [int(t.split()[1]) for t in Table(lines, "x").sampled(7, 3, None).rows["text"]]
    assert numbers == list(range(numbers[0], numbers[0] + 7))
    loose = datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(50)]})
    numbers = [int(t.split()[1]) for t in Table(loose, "x").sampled(7, 3, None).rows["text"]]
    assert len(set(numbers)) == 7 and numbers == sorted(numbers)
    assert numbers != list(range(numbers[0], numbers[0] + 7))


def test_several_numbers_have_no_metric(tmp_path: Path) -> None:
    spec = table(tmp_path / "d.parquet", text=texts(4), label=[0, 1, 2, 0])
    model = bert(tmp_path / "m", num_labels=3, problem_type="regression")
    with pytest.raises(UnsupportedError, match="no metric here"):
        read(spec, model)
    assert loaded(model).depth == 2  # it can still be cut and exported
