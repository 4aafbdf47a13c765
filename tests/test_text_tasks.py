"""How texts are read: columns, labels, tags, answers, hidden words and blocks of every task."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers as hf
from texts import BERT, SPECIAL, read, sentences, with_head, write
from tiny import net_of, network, saved
from tokenizers.processors import TemplateProcessing

from acn_compress import evaluate, finetune
from acn_compress.checkpoint.find import find_source
from acn_compress.data.load import Columns, load_data
from acn_compress.errors import ConfigError, DataError
from acn_compress.measure.quality import Scores, measure, summary
from acn_compress.tasks import IGNORED, TASKS, features


def test_the_longest_text_is_what_the_user_or_the_model_says(bert: Path, tmp_path: Path) -> None:
    net = with_head(bert, "text-classification", labels=["LABEL_0", "LABEL_1"])
    data = write(tmp_path / "d.parquet", {"sentence": ["the film " * 60, "dull"], "label": [0, 1]})
    for wanted, found in ((None, 48), (10, 10)):
        batch = next(read(data, net, bert, max_length=wanted).batches(2))
        assert batch["input_ids"].shape == (2, found) and batch["attention_mask"].sum(
            1
        ).tolist() == [3, found]
    with pytest.raises(DataError, match="max_length is 49, but the model takes at most 48 tokens"):
        read(data, net, bert, max_length=49)


def decode(bert: Path, ids: Any) -> str:
    return str(hf.AutoTokenizer.from_pretrained(bert).decode(ids))


@pytest.mark.parametrize(
    ("columns", "option"),
    [
        (("sentence1", "sentence2"), None),
        (("premise", "hypothesis"), None),
        (("question", "sentence"), None),
        (("left", "right"), "left, right"),
    ],
)
def test_pairs_are_read_as_pairs(
    bert: Path, tmp_path: Path, columns: tuple[str, str], option: str | None
) -> None:
    net = with_head(bert, "text-classification", labels=["LABEL_0", "LABEL_1"])
    table = {columns[0]: ["a good film"], columns[1]: ["it was bad"], "idx": [7], "label": [1]}
    batch = next(
        read(write(tmp_path / "d.json", table), net, bert, columns=Columns(text=option)).batches(1)
    )
    assert decode(bert, batch["input_ids"][0]) == "[CLS] a good film [SEP] it was bad [SEP]"
    assert batch["token_type_ids"][0].tolist() == [0] * 5 + [1] * 4 and batch[
        "labels"
    ].tolist() == [1]


def test_the_only_column_of_text_is_found_whatever_its_name(bert: Path, tmp_path: Path) -> None:
    net = with_head(bert, "text-classification", labels=["LABEL_0", "LABEL_1"])
    data = read(
        write(tmp_path / "d.parquet", {"headline": ["good", "bad"], "id": [1, 2], "label": [1, 0]}),
        net,
        bert,
    )
    assert len(data) == 2


def test_labels_are_matched_by_name(bert: Path, tmp_path: Path) -> None:
    net = with_head(bert, "text-classification", labels=["positive", "negative"])
    data = write(tmp_path / "d.json", {"text": ["good", "bad"], "label": ["positive", "negative"]})
    assert [int(read(data, net, bert).examples[i]["labels"]) for i in (0, 1)] == [0, 1]
    one = write(tmp_path / "one.json", {"text": ["bad"], "label": ["Negative"]})
    assert int(read(one, net, bert).examples[0]["labels"]) == 1  # a split need not have every label
    stars = with_head(bert, "text-classification", labels=["1", "2", "3"])
    data = write(tmp_path / "stars.json", {"text": ["good", "bad"], "label": [3, 1]})
    assert [int(read(data, stars, bert).examples[i]["labels"]) for i in (0, 1)] == [2, 0]
    other = write(tmp_path / "o.json", {"text": ["good", "bad"], "label": ["for", "against"]})
    with pytest.raises(
        DataError, match="has the labels against, for, but the model knows positive, negative"
    ):
        read(other, net, bert)


def test_tags_stand_at_the_first_token_of_their_word(bert: Path, tmp_path: Path) -> None:
    words = [["the", "zzfilm", "good"], ["story"]]
    data = write(tmp_path / "d.json", {"tokens": words, "ner_tags": [["O", "B-X", "O"], ["B-X"]]})
    net = with_head(bert, "token-classification", labels=["B-X", "O"])
    batch = next(read(data, net, bert).batches(2))
    tokenizer = hf.AutoTokenizer.from_pretrained(bert)
    for row, labels, tags in zip(
        batch["input_ids"], batch["labels"], (["B-X"], ["O", "B-X", "O"]), strict=True
    ):
        pieces = tokenizer.convert_ids_to_tokens(row)
        assert [net.config.id2label[int(y)] for y in labels if y != IGNORED] == tags
        begins = [(p not in SPECIAL and not p.startswith("##")) or p == "[UNK]" for p in pieces]
        assert [y != IGNORED for y in labels.tolist()] == begins
    report = finetune(
        bert,
        tmp_path / "out",
        data,
        task="token-classification",
        epochs=1,
        batch_size=2,
        eval_data=data,
    )
    assert (
        report["after"]["metric"] == "token_accuracy" and report["structure"]["form"] == "residual"
    )
    with pytest.raises(DataError, match="row 1 has 2 words and 1 tags"):
        read(
            write(
                tmp_path / "bad.json", {"tokens": [["a"], ["a", "b"]], "ner_tags": [["O"], ["B-X"]]}
            ),
            net,
            bert,
        )
    with pytest.raises(DataError, match="column 'ner_tags' holds no lists"):
        read(write(tmp_path / "flat.json", {"tokens": [["a"]], "ner_tags": ["O"]}), net, bert)


def test_answers_become_their_first_and_last_token(bert: Path, tmp_path: Path) -> None:
    context = "the film was a lovely story of people"
    answers = [
        {"text": ["lovely story"], "answer_start": [context.index("lovely")]},
        {"text": [], "answer_start": []},
        {"text": ["people"], "answer_start": [context.index("people")]},
    ]
    data = write(
        tmp_path / "d.json",
        {"question": ["it was"] * 3, "context": [context] * 3, "answers": answers},
    )
    net = with_head(bert, "question-answering")
    batch = next(read(data, net, bert).batches(3))
    spans = [
        decode(bert, ids[s : e + 1])
        for ids, (s, e) in zip(batch["input_ids"], batch["labels"].tolist(), strict=True)
    ]
    assert spans == ["lovely story", "[CLS]", "people"]
    assert next(read(data, net, bert, max_length=12).batches(3))["labels"][2].tolist() == [
        0,
        0,
    ]  # cut off
    perfect = {
        "start_logits": torch.zeros(3, batch["input_ids"].shape[1]),
        "end_logits": torch.zeros(3, batch["input_ids"].shape[1]),
    }
    for key, column in (("start_logits", 0), ("end_logits", 1)):
        perfect[key][torch.arange(3), batch["labels"][:, column]] = 9.0
    perfect["end_logits"][0] = perfect["end_logits"][0].roll(1)  # one token too long
    found = summary(
        Scores.of(TASKS["question-answering"].score(type("Output", (), perfect)(), batch)),
        TASKS["question-answering"],
    )
    assert found["metric"] == "exact_match" and found["value"] == pytest.approx(2 / 3)
    assert found["token_f1"] == pytest.approx((2 * 2 / 5 + 2) / 3)
    finetune(bert, tmp_path / "out", data, task="question-answering", epochs=1, batch_size=2)
    assert evaluate(tmp_path / "out", data=data)["result"]["examples"] == 3
    with pytest.raises(DataError, match="row 0 has no answer as SQuAD writes it"):
        read(
            write(
                tmp_path / "bad.json",
                {"question": ["it"], "context": [context], "answers": ["people"]},
            ),
            net,
            bert,
        )


def test_hidden_words_are_the_same_in_every_evaluation_and_new_in_training(
    bert: Path, reviews: Path
) -> None:
    net = with_head(bert, "masked-lm")
    data = load_data(f"{reviews}:train", net, find_source(bert), role="eval")
    examples = data.examples
    rows = [examples[i] for i in range(200)]
    together, alone = examples.collate(rows), examples.collate(rows[3:4])
    n = alone["input_ids"].shape[1]
    assert torch.equal(together["input_ids"][3, :n], alone["input_ids"][0]) and torch.equal(
        together["labels"][3, :n], alone["labels"][0]
    )
    hidden = together["labels"] != IGNORED
    real = sum(len(r["input_ids"]) - 2 for r in rows)
    assert 0.13 < hidden.sum() / real < 0.22 and bool(
        hidden.any(1).all()
    )  # short texts hide at least one word
    masked = together["input_ids"][hidden] == 4
    kept = together["input_ids"][hidden] == together["labels"][hidden]
    assert 0.7 < masked.float().mean() < 0.9 and 0.03 < kept.float().mean() < 0.2
    assert not torch.isin(together["labels"], torch.tensor([0, 2, 3])).any()
    torch.manual_seed(0)
    assert not torch.equal(
        examples.collate(rows, train=True)["labels"], examples.collate(rows, train=True)["labels"]
    )
    found = summary(measure(net, data), TASKS["masked-lm"])
    assert found["metric"] == "token_accuracy" and found["perplexity"] == pytest.approx(
        np.exp(found["loss"])
    )


def test_a_text_file_is_one_row_of_blocks(bert: Path, tmp_path: Path) -> None:
    lines = [t for t, _ in sentences(40, 3)]
    (tmp_path / "a.txt").write_text("\n".join(lines) + "\n")
    gpt = hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=150, n_embd=32, n_layer=2, n_head=2, n_positions=48, eos_token_id=3
        )
    ).eval()
    net, source = net_of(gpt), find_source(bert)
    examples = load_data(str(tmp_path / "a.txt"), net, source, role="eval", max_length=16).examples
    tokenizer = hf.AutoTokenizer.from_pretrained(bert)
    joined = tokenizer(" ".join(lines), add_special_tokens=False)["input_ids"]
    blocks = [examples[n]["input_ids"].tolist() for n in range(len(examples))]
    found = list(itertools.chain(*blocks))
    assert found == joined[: len(found)] and len(joined) - len(found) <= 1
    assert all(len(b) == 16 for b in blocks[:-1])
    batch = examples.collate([examples[0], examples[len(examples) - 1]])
    with torch.inference_mode():
        theirs = float(gpt(**features(batch), labels=batch["labels"]).loss)
        scores = Scores.of(TASKS["causal-lm"].score(gpt(**features(batch)), batch))
    told = summary(scores, TASKS["causal-lm"])
    assert told["loss"] == pytest.approx(theirs, abs=1e-5)
    assert told["perplexity"] == pytest.approx(np.exp(theirs), rel=1e-4)


@pytest.mark.parametrize("begins", [True, False])
def test_documents_begin_and_end_as_the_tokenizer_has_it_and_lines_go_on(
    begins: bool, bert: Path, tmp_path: Path
) -> None:
    """A row is a document, however it ends; lines are those of a .txt file, or told."""
    model = tmp_path / "m"
    shutil.copytree(bert, model)
    made = hf.AutoTokenizer.from_pretrained(bert)
    made.add_special_tokens({"bos_token": "[CLS]", "eos_token": "[SEP]"})
    frame = ("[CLS] $A", [("[CLS]", made.cls_token_id)]) if begins else ("$A", [])
    processor = TemplateProcessing(single=frame[0], special_tokens=frame[1])
    made.backend_tokenizer.post_processor = processor
    made.save_pretrained(model)
    gpt = hf.GPT2Config(vocab_size=150, n_embd=32, n_layer=2, n_head=2, n_positions=48)
    net, some = net_of(hf.GPT2LMHeadModel(gpt).eval()), [t for t, _ in sentences(6, 3)]
    rows = [f"{a}\n{b}\n" for a, b in zip(some[::2], some[1::2], strict=True)]

    def joined(data: Any) -> tuple[list[int], list[str]]:
        found = load_data(data, net, find_source(model), role="eval", max_length=16)
        assert found.read is not None
        blocks = [found.examples[n]["input_ids"].tolist() for n in range(len(found.examples))]
        return list(itertools.chain(*blocks)), found.read.notes

    def wanted(documents: list[str]) -> list[int]:
        ids = [made(t, add_special_tokens=False)["input_ids"] for t in documents]
        start = [made.bos_token_id] if begins else []
        return [n for each in ids for n in [*start, *each, made.eos_token_id]]

    documents = datasets.Dataset.from_dict({"text": rows})
    assert joined(documents) == (wanted(rows), [])
    lines = datasets.Dataset.from_dict({"text": [f"{t}\n" for t in some]})
    (tmp_path / "a.txt").write_text("".join(lines["text"]))
    found, notes = joined(lines)
    assert found == wanted(["".join(lines["text"])])[:-1]
    assert notes == ["each row is one line with its end: taken for lines of one text"]
    assert joined(str(tmp_path / "a.txt")) == (found, [])


# --- bad data


@pytest.mark.parametrize(
    ("columns", "options", "text"),
    [
        (
            {"x": [1], "y": [2]},
            {},
            "no column holds the text. Present: x, y. Name it with --text-column",
        ),
        (
            {"text": ["good"], "z": [1]},
            {},
            "no column holds the labels. Present: text, z. Name it with --label-column",
        ),
        (
            {"text": ["good"], "label": [0]},
            {"text": "body"},
            "has no column 'body'. Present: text, label. Set --text-column",
        ),
        (
            {"data": [[{"texts": [{"text": "good"}]}]], "label": [0]},
            {"text": "text"},
            "has no column 'text'. .* Column 'data' holds objects within a row: write one row per",
        ),
        (
            {"text": ["good"], "label": [0]},
            {"text": "text,text,text"},
            "--text-column names 3 columns. Expected one, or two",
        ),
        (
            {"text": ["good", " "], "label": [0, 1]},
            {},
            "row 1 of column 'text' is empty. Remove the row",
        ),
        ({"text": ["good", None], "label": [0, 1]}, {}, "row 1 of column 'text' is empty"),
        (
            {"text": [3, 4], "label": [0, 1]},
            {},
            "row 0 of column 'text' holds no text \\(found 3\\)",
        ),
        (
            {"text": ["good"], "label": [7]},
            {},
            "labels run from 7 to 7, but the model has 2 classes",
        ),
        ({"text": ["good", "bad"], "label": ["a", None]}, {}, "column 'label' has empty labels"),
    ],
)
def test_bad_data_says_what_is_there(
    bert: Path, tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], text: str
) -> None:
    net = with_head(bert, "text-classification", labels=["LABEL_0", "LABEL_1"])
    with pytest.raises(DataError, match=text):
        read(write(tmp_path / "d.parquet", columns), net, bert, columns=Columns(**options))


def test_text_without_any_text_or_a_tokenizer_that_fits(
    bert: Path, reviews: Path, tmp_path: Path
) -> None:
    (tmp_path / "blank.txt").write_text("\n\n \n")
    with pytest.raises(DataError, match=r"blank.txt:train has no text in it"):
        read(str(tmp_path / "blank.txt"), network(bert), bert)
    shutil.copytree(
        bert, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*", "special*")
    )
    with pytest.raises(
        DataError,
        match=r"bare has no tokenizer. Expected tokenizer.json \(or vocab.txt, ...\) "
        "beside config.json",
    ):
        finetune(tmp_path / "bare", tmp_path / "out", str(reviews), task="text-classification")
    shutil.copytree(bert, tmp_path / "other")
    small = hf.BertModel(hf.BertConfig(**BERT, vocab_size=20))
    small.save_pretrained(tmp_path / "other")
    with pytest.raises(DataError, match=r"the tokenizer knows token \d+, but the model embeds 20"):
        evaluate(tmp_path / "other", data=str(reviews))
    (tmp_path / "other" / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="its tokenizer cannot be loaded"):
        evaluate(tmp_path / "other", data=str(reviews))
    with pytest.raises(DataError, match="noise is for images; there is none for texts"):
        evaluate(bert, data=str(reviews), noise="gaussian:0.1")
    saved(with_head(bert, "masked-lm"), tmp_path / "masked")
    with pytest.raises(ConfigError, match=r"masked does masked-lm, but .*bert features\. They"):
        evaluate(bert, data=str(reviews), against=tmp_path / "masked")
    wide = hf.BertModel(hf.BertConfig(**{**BERT, "hidden_size": 64}, vocab_size=150))
    wide.save_pretrained(tmp_path / "wide")
    with pytest.raises(DataError, match="the reference has width 64, but the model 32"):
        evaluate(bert, data=str(reviews), against=tmp_path / "wide")
    assert not (tmp_path / "out").exists()
