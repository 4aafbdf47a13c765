"""Which split is read: by the words in the names of files and folders, as `datasets` knows them."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
import pytest
from brought import bert, read, table, targets, texts
from PIL import Image

from acn_compress.data.load import has_eval_split
from acn_compress.data.places import fingerprint, name_of, open_split
from acn_compress.data.split_names import guessed, kind_of
from acn_compress.data.table import Columns, Table
from acn_compress.errors import DataError

MEASURES = "what a command measures on"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def rows(spec: str, role: str) -> tuple[int, str]:
    found = open_split(spec, role)  # type: ignore[arg-type]
    return len(found.rows), found.split


@pytest.mark.parametrize(
    ("train", "held_out", "split"),
    [
        ("sst2-train.csv", "sst2-dev.csv", "validation"),
        ("training_set.csv", "evaluation_set.csv", "test"),
        ("train.part1.csv", "valid.part1.csv", "validation"),
        ("en/train/a.csv", "en/test/a.csv", "test"),
        ("data/train-00000-of-00001.csv", "data/validation-00000-of-00001.csv", "validation"),
    ],
)
def test_names_say_the_split(tmp_path: Path, train: str, held_out: str, split: str) -> None:
    table(tmp_path / "d" / train, text=texts(7), label=[0] * 7)
    table(tmp_path / "d" / held_out, text=texts(3), label=[1] * 3)
    assert rows(str(tmp_path / "d"), "train") == (7, "train")
    assert rows(str(tmp_path / "d"), "eval") == (3, split)
    assert has_eval_split(str(tmp_path / "d"))


@pytest.mark.parametrize(
    ("name", "split"), [("a_test.csv", "test"), ("dev.csv", "validation"), ("rows.csv", "train")]
)
def test_one_file_that_is_named_is_what_is_meant(tmp_path: Path, name: str, split: str) -> None:
    place = str(table(tmp_path / name, text=texts(2)))
    assert rows(place, "eval") == rows(place, "train") == (2, split)
    assert not has_eval_split(place)
    said = open_split(place, "train").notes
    assert said == (() if split == "train" else (f"'{split}' by its name, which is {MEASURES}",))
    assert open_split(place, "eval").notes == ()


def test_a_word_within_a_word_says_nothing(tmp_path: Path) -> None:
    for name in ("latest.csv", "brain_trains.csv"):
        table(tmp_path / "d" / name, text=texts(4))
    assert rows(str(tmp_path / "d"), "train") == (8, "train")
    assert not has_eval_split(str(tmp_path / "d"))
    assert kind_of("contested") is None and kind_of("my-test.2") == "test"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("train.csv", "more.csv"), "more.csv is in no split"),
        (("a/train.csv", "a/test.csv", "b/rest.csv"), "rest.csv is in no split"),
        (("Train.csv", "Test.csv"), "would be read as 'train', but its name says test"),
    ],
)
def test_a_mixture_is_refused(tmp_path: Path, names: tuple[str, ...], text: str) -> None:
    for name in names:
        table(tmp_path / "d" / name, text=texts(4))
    with pytest.raises(DataError, match=text):
        open_split(str(tmp_path / "d"), "train")


def test_files_that_are_named_are_taken_by_their_names(tmp_path: Path) -> None:
    train = table(tmp_path / "a_train.csv", text=texts(5))
    test = table(tmp_path / "a_test.csv", text=texts(2))
    other = table(tmp_path / "b.csv", text=texts(3))
    assert rows(f"{train},{test}", "train") == (5, "train")
    assert rows(f"{train},{test}", "eval") == (2, "test")
    assert rows(f"{other},{other}", "train") == (6, "train")
    with pytest.raises(DataError, match=r"b\.csv says no split"):
        open_split(f"{train},{other}", "train")
    with pytest.raises(DataError, match="files of several types"):
        open_split(f"{train},{table(tmp_path / 'c.jsonl', text=texts(2))}", "train")


def test_nothing_is_trained_on_that_is_named_for_measuring(tmp_path: Path) -> None:
    table(tmp_path / "d" / "test.csv", text=texts(4))
    with pytest.raises(DataError, match=r"no split for train could be guessed\. Present: test"):
        open_split(str(tmp_path / "d"), "train")
    assert guessed("eval", ["train", "validation_matched", "test"]) == "validation_matched"
    assert guessed("eval", ["train", "val", "test"]) == "val"
    assert guessed("train", ["a", "b"]) is None


def test_a_readme_says_what_belongs_where(tmp_path: Path) -> None:
    table(tmp_path / "d" / "x.csv", text=texts(4))
    table(tmp_path / "d" / "y.csv", text=texts(3))
    table(tmp_path / "d" / "z.csv", text=texts(2))
    (tmp_path / "d" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - {split: train, path: y.csv}\n  - {split: test, path: x.csv}\n---\n"
    )
    assert rows(str(tmp_path / "d"), "train") == (3, "train")
    assert rows(str(tmp_path / "d"), "eval") == (4, "test")


def test_what_save_to_disk_wrote_is_read(tmp_path: Path) -> None:
    made = datasets.Dataset.from_dict({"text": texts(5)})
    datasets.DatasetDict(train=made, test=made.select(range(2))).save_to_disk(tmp_path / "d")
    assert rows(str(tmp_path / "d"), "eval") == (2, "test")
    made.save_to_disk(tmp_path / "one")
    assert rows(str(tmp_path / "one"), "train") == (5, "train")


def test_a_comma_may_be_part_of_a_name(tmp_path: Path) -> None:
    for name in ("a,b.csv", "c,d/e.csv"):
        table(tmp_path / name, text=texts(3), label=[0, 1, 0])
    assert rows(str(tmp_path / "a,b.csv"), "train") == (3, "train")
    assert rows(str(tmp_path / "c,d"), "train") == (3, "train")
    before = fingerprint(str(tmp_path / "a,b.csv"))
    table(tmp_path / "a,b.csv", text=texts(4), label=[0, 1, 0, 1])
    assert fingerprint(str(tmp_path / "a,b.csv")) != before


@pytest.mark.parametrize("place", ["d/a.csv", "d"])
def test_no_field_is_taken_for_that_of_another_column(tmp_path: Path, place: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.csv").write_text("text,label\ngood, really,0\nbad, too,1\n")
    with pytest.raises(DataError, match=r"more fields than the header \(text, label\)"):
        open_split(str(tmp_path / place), "train")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("folder", [False, True])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, name: str, folder: bool) -> None:
    sign = "\t" if name.endswith(".tsv") else ","
    header, row = ["label", "text", "label", "label.1"], ["0", "good", "1", "1"]
    for columns in (slice(None), slice(1, None)):
        place = tmp_path / f"d{columns.start}"
        place.mkdir()
        lines = "".join(sign.join(fields[columns]) + "\n" for fields in (header, row))
        (place / name).write_text(lines)
        spec = str(place if folder else place / name)
        if columns.start == 1:  # as data frames are joined, too
            assert open_split(spec, "train").rows.column_names == header[columns]
            continue
        with pytest.raises(DataError, match=rf"{name}: 2 columns are called 'label'\."):
            open_split(spec, "train")


def test_no_quote_hides_rows(tmp_path: Path) -> None:
    path, wanted = tmp_path / "a.tsv", ["good", '"fine', "bad", 'last"', "other"]
    path.write_text("text\tlabel\n" + "".join(f"{text}\t0\n" for text in wanted))
    with pytest.raises(DataError, match="a quote in row 1 of column 'text' opens a text of"):
        open_split(str(path), "train")
    quoted = ('"' + text.replace('"', '""') + '"' for text in wanted)
    path.write_text("text\tlabel\n" + "".join(f"{text}\t0\n" for text in quoted))
    assert list(open_split(str(path), "train").rows["text"]) == wanted
    path = tmp_path / "a.csv"  # where a tab is a sign like any other
    path.write_text('text,label\n"one\tand\ntwo",0\n')
    assert list(open_split(str(path), "train").rows["text"]) == ["one\tand\ntwo"]


def test_files_of_another_encoding_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("text,label\nb\xe4d,0\n".encode("cp1252"))
    with pytest.raises(DataError, match=r"Save it as UTF-8\."):
        open_split(str(tmp_path / "a.csv"), "train")


def test_words_that_a_csv_file_takes_for_nothing_are_told(tmp_path: Path) -> None:
    for rows in ("good,None\nbad,0\n", "NA,0\nbad,1\n"):
        (tmp_path / "a.csv").write_text("text,label\n" + rows)
        with pytest.raises(DataError, match=r"empty .*in a csv file so is what says NA"):
            read(str(tmp_path / "a.csv"), bert(tmp_path / "m"))


def test_a_file_of_the_same_name_size_and_time_is_read_anew(tmp_path: Path) -> None:
    path = Path(table(tmp_path / "d.csv", text=["aa", "bb"], label=[0, 1]))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    first = fingerprint(str(path))
    assert open_split(str(path), "eval").rows["label"][:] == [0, 1]
    table(path, text=["aa", "bb"], label=[1, 0])
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert open_split(str(path), "eval").rows["label"][:] == [1, 0]
    assert fingerprint(str(path)) != first


def test_an_object_of_datasets_is_data(tmp_path: Path) -> None:
    model = bert(tmp_path / "m")
    made = datasets.Dataset.from_dict({"text": texts(6), "label": [0, 1] * 3})
    again = datasets.Dataset.from_dict({"text": texts(6), "label": [0, 1] * 3})
    other = datasets.Dataset.from_dict({"text": texts(6), "label": [1, 0] * 3})
    assert targets(read(made, model)) == [0, 1] * 3
    assert name_of(made) == name_of(again) != name_of(other)
    both = datasets.DatasetDict(train=made, dev=other.select(range(2)))
    assert targets(read(both, model)) == [1, 0] and read(both, model).name.endswith(":dev")
    assert has_eval_split(both) and not has_eval_split(made)
    with pytest.raises(DataError, match=r"data is a dict\. Expected a name or path"):
        read({"text": texts(2)}, model)


def test_rows_are_read_as_they_lie_whatever_they_are_shown_as(tmp_path: Path) -> None:
    model = bert(tmp_path / "m", num_labels=3)
    plain = datasets.Dataset.from_dict({"text": texts(3), "label": [2, 0, 1]})
    for shown in (plain.with_format("torch"), plain.with_format(None, columns=["text"])):
        for data in (shown, datasets.DatasetDict(train=plain, test=shown)):
            assert targets(read(data, model)) == [2, 0, 1]
    changed = plain.with_transform(lambda rows: rows | {"label": [0] * len(rows["label"])})
    assert targets(read(changed, model)) == [0, 0, 0]


def test_what_was_read_is_reported(tmp_path: Path) -> None:
    model = bert(tmp_path / "m", labels=["no", "yes"])
    for name, count in (("train", 9), ("test", 5)):
        table(tmp_path / "d" / f"{name}.csv", text=texts(count), label=["Yes"] * count)
    found = read(str(tmp_path / "d"), model).read
    assert found is not None and (found.split, found.rows, found.used) == ("test", 5, 5)
    assert found.columns == {"text": "text", "label": "label"}
    assert found.labels == {"Yes": "yes"} and found.matched == "case" and found.missing == ["no"]
    assert found.notes == ["no row has the label no"]
    assert found.lengths is not None and found.lengths.limit == 64 and found.lengths.cut == 0
    assert str(found).endswith(
        "5 of 5 rows, text from 'text', label from 'label'; labels by case: Yes = yes; "
        f"texts of up to {found.lengths.longest} tokens, {found.lengths.mean:.0f} on average; "
        "no row has the label no"
    )


def test_the_place_of_a_file_is_part_of_the_content(tmp_path: Path) -> None:
    for name in ("cat/1.txt", "dog/2.txt"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_text(name)
    first = fingerprint(str(tmp_path / "d"))
    (tmp_path / "d" / "cat" / "1.txt").rename(tmp_path / "d" / "dog" / "1.txt")
    assert fingerprint(str(tmp_path / "d")) != first  # it is another class now
    second = fingerprint(str(tmp_path / "d"))
    (tmp_path / "d" / "README.md").write_text("---\nconfigs: []\n---\n")
    assert fingerprint(str(tmp_path / "d")) != second


@pytest.mark.parametrize("name", ["text", "csv"])
def test_a_folder_may_be_called_as_a_reader_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir()
    Path(name, "train.csv").write_text("text,label\ngood,1\nbad,0\n")
    assert open_split(name, "train").rows["text"] == ["good", "bad"]


def test_folders_that_are_no_classes_are_told_why(tmp_path: Path) -> None:
    for name in ("d/cat/0.png", "d/dog/0.png", "d/stray.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    split = open_split(str(tmp_path / "d"), "train")
    with pytest.raises(DataError, match="no classes here, as stray does not lie as deep as other"):
        Table.of(split, Columns()).class_column(["label"])
    (tmp_path / "d" / "stray.png").unlink()
    split = open_split(str(tmp_path / "d"), "train")
    assert Table.of(split, Columns()).class_column(["label"]) == "label" and not split.notes


def test_a_mistyped_place_is_answered_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(self: object, name: str, **options: object) -> None:
        asked.append(name)
        raise OSError("nobody there\nat all")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews").mkdir()
    table(tmp_path / "a.csv", text=texts(2))
    told = (
        r"data reviewz: no such file .* Hub it cannot .* \(OSError: nobody there\)\. Did you mean"
    )
    with pytest.raises(DataError, match=told + r" reviews\?"):
        open_split("reviewz", "train")
    assert asked == ["reviewz"]
    with pytest.raises(
        DataError, match=r"data b\.csv: no such file or folder\. Did you mean a.csv"
    ):
        open_split("b.csv", "train")


def test_fields_that_are_parted_by_something_else_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text;label\ngood;1\nbad;0\n")
    with pytest.raises(DataError, match=r"Present: text;label\. .* Its fields are parted by ';'"):
        Table.of(open_split(str(tmp_path / "a.csv"), "train"), Columns()).class_column(["label"])
