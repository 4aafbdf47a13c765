"""A teacher whose answers are kept teaches the same; kept answers are used for what they are of."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from brought import bert, loaded, texts
from test_pictures import PROCESSORS, picture, png, rows, vit

import acn_compress as acn
from acn_compress.checkpoint import swap
from acn_compress.errors import ConfigError
from acn_compress.training import objective, taught

COUNT = 24
HOW: dict[str, Any] = {"epochs": 2, "batch_size": 4, "progress": False, "lr": 1e-3, "workers": 0}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where answers are kept."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many texts or images teachers were asked for, call by call."""
    found: list[int] = []
    real = objective.answers_of

    def counted(teacher: Any, given: dict[str, torch.Tensor], of: Any) -> Any:
        found.append(len(next(iter(given.values()))))
        return real(teacher, given, of)

    monkeypatch.setattr(taught, "answers_of", counted)
    yield found


def images() -> datasets.Dataset:
    return rows([png(picture(16, 16)) for _ in range(COUNT)])


def pair_of(kind: str, place: Path) -> tuple[Path, Path, datasets.Dataset]:
    """A student, another network as its teacher, and data."""
    if kind == "images":
        teacher = vit(place / "t", PROCESSORS["imagenet"], hidden_act="relu")
        return vit(place / "s", PROCESSORS["plain"]), teacher, images()
    head = {"classes": "ForSequenceClassification", "tags": "ForTokenClassification"}
    made = [
        bert(place / name, head.get(kind, "ForQuestionAnswering"), longest=24, hidden_act=act)
        for name, act in (("s", "gelu"), ("t", "relu"))
    ]
    some = texts(COUNT, words=12)
    if kind == "classes":
        table = {"text": some, "label": [i % 2 for i in range(COUNT)]}
    elif kind == "tags":
        split = [text.split() for text in some]
        table = {"tokens": split, "tags": [[i % 2 for i, _ in enumerate(row)] for row in split]}
    else:
        contexts = texts(COUNT, seed=1, words=50)  # some are read in several windows
        found = [{"text": [c.split()[-1]], "answer_start": [c.rindex("w")]} for c in contexts]
        short = texts(COUNT, seed=2, words=4)
        table = {"question": short, "context": contexts, "answers": found}
    return made[0], made[1], datasets.Dataset.from_dict(table)


def answers(directory: Path) -> torch.Tensor:
    """To fixed inputs. What an answer begins at is told by differences alone: their mean is that of
    a bias without a gradient but rounding, of which AdamW makes steps."""
    net = loaded(directory)
    torch.manual_seed(0)
    with torch.inference_mode():
        output = net(**net.example_inputs(batch=8, length=10))
    found: torch.Tensor = output.start_logits if "start_logits" in output else output.logits
    return found.log_softmax(-1)


def trained(place: Path, student: Path, teacher: Path, data: Any, **how: Any) -> Any:
    return acn.finetune(student, place, data=data, teacher=teacher, **(HOW | how))


@pytest.mark.parametrize(
    "kind",
    [
        "classes",
        *(pytest.param(k, marks=pytest.mark.long) for k in ("images", "tags", "questions")),
    ],
)
def test_what_is_kept_teaches_as_the_teacher_does(
    kind: str, tmp_path: Path, cache: Path, asked: list[int]
) -> None:
    student, teacher, data = pair_of(kind, tmp_path)
    how = {"hidden_weight": 0.5}
    plain = trained(tmp_path / "plain", student, teacher, data, **how)
    assert not asked and not list(cache.rglob("hidden.*"))
    kept = trained(tmp_path / "kept", student, teacher, data, cache_teacher=True, **how)
    first, losses = (
        len(asked),
        [[e["loss"] for e in r["training"]["history"]] for r in (plain, kept)],
    )
    assert sum(asked) >= COUNT + 1  # each once, and the first for its shapes
    assert torch.tensor(losses[0]) == pytest.approx(torch.tensor(losses[1]), abs=1e-6)
    assert (answers(tmp_path / "plain") - answers(tmp_path / "kept")).abs().max() < 1e-6
    trained(tmp_path / "again", student, teacher, data, cache_teacher=True, workers=1, **how)
    assert len(asked) == first + 3  # three examples, to see that it still answers so
    assert (tmp_path / "kept/model.safetensors").read_bytes() == (
        tmp_path / "again/model.safetensors"
    ).read_bytes()


@pytest.mark.long
def test_other_teachers_data_and_pixels_are_asked_anew(tmp_path: Path, cache: Path) -> None:
    student, teacher, data = pair_of("images", tmp_path)
    how = HOW | {"epochs": 1, "cache_teacher": True}

    def kept(number: int, **other: Any) -> int:
        given = {"student": student, "teacher": teacher, "data": data} | other
        trained(tmp_path / f"{number}", **given, **how)
        return len(list((cache / "acn_compress/taught").iterdir()))

    assert kept(0) == 1 and kept(1) == 1
    assert kept(2, data=data.select(range(COUNT - 4))) == 2
    assert kept(3, teacher=student) == 3
    (directory,) = [d for d in (cache / "acn_compress/taught").iterdir() if long(d) == COUNT - 3]
    right = taught.Taught(directory).array("logits").copy()
    wrong = np.load(directory / "logits.npy", "r+")
    wrong[:] = right + 0.1
    wrong.flush()
    assert kept(4, data=data.select(range(COUNT - 4))) == 3
    assert (taught.Taught(directory).array("logits") == right).all()


def test_what_no_run_uses_goes_and_what_is_not_ours_stays(tmp_path: Path, cache: Path) -> None:
    student, teacher, data = pair_of("classes", tmp_path)
    how = HOW | {"epochs": 1, "cache_teacher": True}
    trained(tmp_path / "first", student, teacher, data, **how)
    place = cache / "acn_compress/taught"
    (used,) = place.iterdir()
    left = swap.new_name(place / ("a" * 32)).name.replace(f"-{os.getpid()}-", "-999999999-")
    for name in ("b" * 32, "c" * 32, "d" * 32, "mine", left):
        shutil.copytree(used, place / name)
    (place / ("d" * 32) / "notes.txt").write_text("mine")
    for directory in set(place.iterdir()) - {place / ("c" * 32)}:
        os.utime(directory, (0, time.time() - taught.UNUSED - 60))
    os.utime(place / ("c" * 32), (0, time.time() - taught.UNUSED + 3600))
    before = used.stat().st_ino
    trained(tmp_path / "second", student, teacher, data, **how)
    assert {p.name for p in place.iterdir()} == {used.name, "c" * 32, "d" * 32, "mine"}
    assert used.stat().st_ino == before  # what is used stays, and is of now
    assert time.time() - used.stat().st_mtime < 3600


def long(directory: Path) -> int:
    return len(taught.Taught(directory).array("texts"))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"augment": "crop"}, "has both cache_teacher and augment crop"),
        ({"teacher": None}, "nothing is asked of a teacher"),
        ({"distil_weight": 0.0}, "nothing is asked of a teacher"),
    ],
)
def test_what_cannot_be_kept_is_refused(how: dict[str, Any], said: str, tmp_path: Path) -> None:
    model = vit(tmp_path / "m", PROCESSORS["plain"])
    options = HOW | {"teacher": model, "cache_teacher": True} | how
    with pytest.raises(ConfigError, match=said) as caught:
        acn.finetune(model, tmp_path / "out", data=images(), **options)
    assert "\n" not in str(caught.value)


def test_words_that_are_hidden_anew_cannot_be_kept(tmp_path: Path) -> None:
    model = bert(tmp_path / "m", "ForMaskedLM")
    data = datasets.Dataset.from_dict({"text": texts(COUNT)})
    with pytest.raises(ConfigError, match="masked-lm hides other tokens in every epoch"):
        trained(tmp_path / "out", model, model, data, cache_teacher=True)


def test_a_full_disk_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher, data = pair_of("classes", tmp_path)
    monkeypatch.setattr("acn_compress.training.taught.shutil.disk_usage", lambda _: Free())
    with pytest.raises(ConfigError, match=r"cache_teacher needs .* in .*taught, where .* are free"):
        trained(tmp_path / "out", student, teacher, data, cache_teacher=True)


class Free:
    free = 100
