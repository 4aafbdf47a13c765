"""Texts are tokenised some at a time, and many of them lie in a file: what is read is the same."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import transformers as hf
from brought import WORDS, bert, loaded, read, texts, tokenizer

from acn_compress.checkpoint.find import find_source
from acn_compress.data.load import Data, load_data
from acn_compress.errors import DataError

COUNT = 2050  # more than are tokenised at once, twice
CHECKED = (0, 999, 1000, 1001, 2000, 2049)
HEADS = {
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "masked-lm": "ForMaskedLM",
    "features": "Model",
}


def rows_for(task: str) -> datasets.Dataset:
    """A table for a task."""
    some = texts(COUNT)
    if task == "text-classification":
        return datasets.Dataset.from_dict({"text": some, "label": [i % 2 for i in range(COUNT)]})
    if task == "token-classification":
        words = [text.split() for text in some]
        tags = [[i % 2 for i, _ in enumerate(row)] for row in words]
        return datasets.Dataset.from_dict({"tokens": words, "tags": tags})
    if task == "question-answering":
        contexts = texts(COUNT, seed=1, words=30)
        answers = [{"text": [c.split()[-1]], "answer_start": [c.rindex("w")]} for c in contexts]
        return datasets.Dataset.from_dict(
            {"question": some, "context": contexts, "answers": answers}
        )
    return datasets.Dataset.from_dict({"text": some})


def numbers(data: Data, index: int) -> list[tuple[str, Any]]:
    """An example as plain numbers."""
    row = data.examples[index]
    windows = row.get("windows", [row])
    found = [(k, w[k].tolist()) for w in windows for k in ("input_ids", "token_type_ids")]
    labels = row.get("labels")
    return found if data.task.taught or labels is None else [*found, ("labels", labels.tolist())]


@pytest.mark.parametrize("task", HEADS)
def test_every_text_is_read_as_it_is_alone_in_memory_or_not(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, model = rows_for(task), bert(tmp_path / "m", HEADS[task])
    net, source = loaded(model), find_source(model)

    def read(some: datasets.Dataset) -> Data:
        return load_data(some, net, source, role="eval", max_length=16)

    kept, alone = read(rows), [read(rows.select([i])) for i in CHECKED]
    cache = tmp_path / "cache"
    monkeypatch.setattr("acn_compress.data.tokens.IN_MEMORY", 1 << 10)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    mapped = read(rows)
    assert len(kept) == len(mapped) == COUNT and kept.read is not None and mapped.read is not None
    assert kept.read.lengths == mapped.read.lengths
    elsewhere = pickle.loads(pickle.dumps(mapped)) if task == "masked-lm" else mapped
    for i, one in zip(CHECKED, alone, strict=True):
        assert numbers(kept, i) == numbers(mapped, i) == numbers(elsewhere, i) == numbers(one, 0)
    assert files(cache)
    del mapped, elsewhere
    assert not files(cache)


def files(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_a_text_file_is_one_row_of_blocks_however_many_lines(tmp_path: Path) -> None:
    model = tmp_path / "m"
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
    config = hf.GPT2Config(**sizes, vocab_size=5 + len(WORDS), bos_token_id=2, eos_token_id=3)
    hf.GPT2LMHeadModel(config).save_pretrained(model)
    tokenizer(model, frame=False)
    lines = [f"{text}\n" for text in texts(COUNT)]
    (tmp_path / "a.txt").write_text("".join(lines))
    examples = read(str(tmp_path / "a.txt"), model, max_length=16).examples
    found = np.concatenate([examples[i]["input_ids"] for i in range(len(examples))])
    plain = hf.AutoTokenizer.from_pretrained(model)
    wanted = plain("".join(lines), add_special_tokens=False)["input_ids"]
    assert found.tolist() == wanted[: len(found)] and len(wanted) - len(found) < 2
    assert {len(examples[i]["input_ids"]) for i in range(len(examples) - 1)} == {16}


def test_a_text_that_is_empty_is_told_by_its_row(tmp_path: Path) -> None:
    model = bert(tmp_path / "m")
    some = texts(COUNT)
    some[1500] = " "
    rows = datasets.Dataset.from_dict({"text": some, "label": [0, 1] * (COUNT // 2)})
    with pytest.raises(DataError, match="row 1500 of column 'text' is empty"):
        read(rows, model)
