"""Text: tiny BERTs with a real WordPiece tokenizer, on small files of every kind a user may
bring."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any, get_args

import datasets
import numpy as np
import pandas
import pytest
import torch
import transformers as hf
from tiny import net_of, network, tiny
from tokenizers.processors import TemplateProcessing

from acn_compress import convert, evaluate, export, finetune, inspect, profile, prune, truncate
from acn_compress.checkpoint.find import find_source
from acn_compress.data.load import Columns, Data, load_data
from acn_compress.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    Interrupted,
    UnsupportedError,
)
from acn_compress.events import Event, TrainingStep
from acn_compress.measure.quality import Scores, measure, summary
from acn_compress.measure.readouts import profile_model
from acn_compress.network.network import first_output
from acn_compress.options import Task
from acn_compress.tasks import IGNORED, TASKS, features
from acn_compress.training.batches import Bucketed

GOOD, BAD = ("good", "lovely", "brilliant", "charming"), ("bad", "dull", "awful", "boring")
FILLER = (
    "the",
    "film",
    "was",
    "a",
    "story",
    "of",
    "people",
    "and",
    "music",
    "it",
    "felt",
    "rather",
)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
}


def sentence(rng: random.Random, mood: tuple[str, ...]) -> str:
    words = [rng.choice(FILLER) for _ in range(rng.randint(2, 20))]
    words.insert(rng.randrange(len(words)), rng.choice(mood))
    return " ".join(words)


def sentences(n: int, seed: int) -> list[tuple[str, int]]:
    """Texts of very different length with one word that says which."""
    rng = random.Random(seed)
    return [(sentence(rng, (BAD, GOOD)[i % 2]), i % 2) for i in range(n)]


@pytest.fixture(scope="session")
def tokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WordPiece tokenizer trained on the sentences, as transformers saves it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        [t for t, _ in sentences(400, 0)],
        trainers.WordPieceTrainer(vocab_size=150, special_tokens=SPECIAL),
    )
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(
        zip(
            ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True
        )
    )
    directory = tmp_path_factory.mktemp("tokenizer")
    hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=48, **names
    ).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def bert(tokenizer_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder without a head, its tokenizer beside it."""
    directory = tmp_path_factory.mktemp("models") / "bert"
    torch.manual_seed(0)
    hf.BertModel(hf.BertConfig(**BERT, vocab_size=150)).save_pretrained(directory)
    for file in tokenizer_directory.iterdir():
        shutil.copyfile(file, directory / file.name)
    return directory


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of csv files: text, label by name."""
    directory = tmp_path_factory.mktemp("reviews")
    for split, n, seed in (("train", 480, 1), ("validation", 100, 2)):
        rows = [(t, ("negative", "positive")[y]) for t, y in sentences(n, seed)]
        pandas.DataFrame(rows, columns=["text", "label"]).to_csv(
            directory / f"{split}.csv", index=False
        )
    return directory


@pytest.fixture(scope="session")
def classifier(bert: Path, reviews: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder with a new head, trained far above chance."""
    out = tmp_path_factory.mktemp("models") / "classifier"
    report = finetune(
        bert, out, str(reviews), task="text-classification", epochs=8, batch_size=16, lr=3e-3
    )
    assert (
        report["after"]["value"] > 0.9
        and report["after"]["mcc"] > 0.8
        and report["after"]["f1_macro"] > 0.9
    )
    assert (
        "The checkpoint has no such head: 2 tensors began at random "
        "(classifier.bias, classifier.weight)." in report["note"]
    )
    return out


def write(path: Path, columns: dict[str, Any]) -> str:
    """A table as parquet or json lines."""
    frame = pandas.DataFrame(columns)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
    return str(path)


def with_head(bert: Path, task: str, **options: Any) -> Any:
    return network(bert, task=task, **options)


def read(spec: str, net: Any, bert: Path, **options: Any) -> Data:
    return load_data(spec, net, find_source(bert), role="eval", **options)


# --- the chain


@pytest.mark.long
def test_every_command_works_on_a_sentence_classifier(
    classifier: Path, reviews: Path, tmp_path: Path
) -> None:
    data = str(reviews)
    converted = convert(
        classifier, tmp_path / "acn", data, epochs=6, batch_size=16, lr=3e-3, prefix_loss=1.0
    )
    assert converted["structure"]["form"] == "acn" and converted["after"]["value"] > 0.9
    found = profile(
        tmp_path / "acn", data=data, measures=("influence", "cka", "leave-one-out", "taylor")
    )
    assert found["depths"][3]["agreement"] == 1.0 and found["blocks"][3]["cka"] == pytest.approx(1)
    cut = truncate(tmp_path / "acn", tmp_path / "cut", depth=2, data=data)
    assert cut["after"]["value"] == pytest.approx(found["depths"][2]["value"])
    pruned = prune(
        tmp_path / "cut",
        tmp_path / "pruned",
        target_sparsity=0.3,
        data=data,
        epochs=2,
        batch_size=16,
    )
    assert pruned["after"]["value"] > 0.8 and pruned["achieved"] <= 0.3
    exported = export(tmp_path / "pruned", tmp_path / "onnx")
    assert (
        exported["inputs"] == ["input_ids", "attention_mask", "token_type_ids"]
        and (tmp_path / "onnx" / "tokenizer.json").is_file()
    )
    against = evaluate(tmp_path / "pruned", data=data, against=classifier)
    assert against["result"]["value"] == pytest.approx(pruned["after"]["value"])
    assert inspect(tmp_path / "pruned")["labels"] == ("negative", "positive")
    answer = hf.pipeline("text-classification", str(tmp_path / "pruned"))
    assert [a["label"] for a in answer(["it was a lovely film", "a dull story"])] == [
        "positive",
        "negative",
    ]


@pytest.mark.long
def test_an_encoder_is_distilled_on_text_without_labels(
    bert: Path, reviews: Path, tmp_path: Path
) -> None:
    for split in ("train", "validation"):
        texts = pandas.read_csv(reviews / f"{split}.csv")["text"]
        (tmp_path / f"{split}.txt").write_text(
            "\n".join(texts) + "\n\n"
        )  # an empty line is no text
    report = convert(bert, tmp_path / "acn", str(tmp_path), epochs=4, batch_size=16, lr=2e-3)
    assert report["examples"] == 480 and report["before"]["value"] == pytest.approx(1)
    assert report["after"]["metric"] == "cosine" and report["after"]["value"] > 0.6
    own = evaluate(tmp_path / "acn", data=str(tmp_path))["result"]
    assert own["value"] == pytest.approx(1)  # its own reference
    against = evaluate(tmp_path / "acn", data=str(tmp_path), against=bert)
    assert against["result"]["value"] == pytest.approx(
        report["after"]["value"], abs=1e-5
    ) and against["other"]["value"] == pytest.approx(1)
    found = profile(tmp_path / "acn", data=str(tmp_path))
    assert (
        found["depths"][3]["value"] == pytest.approx(1)
        and found["depths"][3]["mse"] == 0
        and found["depths"][1]["mse"] > 0
    )
    with pytest.raises(ConfigError, match="features has no labels: it needs a teacher"):
        finetune(bert, tmp_path / "out", str(tmp_path), epochs=1)
    finetune(
        bert, tmp_path / "out", str(tmp_path), depth=2, teacher=bert, epochs=0.2, batch_size=16
    )


def test_a_network_is_trained_from_a_config_with_a_tokenizer_beside(
    tokenizer_directory: Path, reviews: Path, tmp_path: Path
) -> None:
    config = {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        **BERT,
        "vocab_size": 150,
    }
    shutil.copytree(tokenizer_directory, tmp_path / "new")
    (tmp_path / "new" / "config.json").write_text(json.dumps(config))
    finetune(
        tmp_path / "new",
        tmp_path / "out",
        str(reviews),
        init="random",
        alpha=0.0,
        epochs=0.2,
        batch_size=16,
    )
    net = network(tmp_path / "out")
    assert net.structure.form == "acn" and net.config.id2label == {
        0: "negative",
        1: "positive",
    }
    assert evaluate(tmp_path / "out", data=str(reviews))["result"]["examples"] == 100


@pytest.mark.long
def test_interrupted_training_on_text_goes_on_to_the_same_weights(
    bert: Path, reviews: Path, tmp_path: Path
) -> None:
    job: dict[str, Any] = {"data": str(reviews), "epochs": 1.5, "batch_size": 16}
    finetune(bert, tmp_path / "straight", **job, task="masked-lm")

    def interrupt(event: Event) -> None:
        if isinstance(event, TrainingStep) and event.step == 35:  # in the second epoch
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        finetune(bert, tmp_path / "stopped", **job, task="masked-lm", progress=interrupt)
    finetune(bert, tmp_path / "stopped", **job, task="masked-lm", resume=True)
    straight, stopped = (tmp_path / n / "model.safetensors" for n in ("straight", "stopped"))
    assert straight.read_bytes() == stopped.read_bytes()


# --- batches


@pytest.mark.parametrize("name", ["bert", "bert-tokens", "distilbert", "electra", "roberta"])
def test_padding_changes_nothing(name: str) -> None:
    net = tiny(name, 0.3)
    rows = [torch.randint(5, 100, (n,)) for n in (4, 9, 17)]
    mask = torch.tensor([[1] * len(r) + [0] * (17 - len(r)) for r in rows])
    padded = torch.nn.utils.rnn.pad_sequence(
        rows, batch_first=True, padding_value=net.config.pad_token_id
    )
    with torch.inference_mode():
        together = first_output(net(input_ids=padded, attention_mask=mask))
        for row, found in zip(rows, together, strict=True):
            alone = first_output(net(input_ids=row[None]))[0]
            torch.testing.assert_close(
                found[: len(row)] if name == "bert-tokens" else found, alone, rtol=0, atol=1e-5
            )


@pytest.mark.long
def test_scores_do_not_depend_on_batches_and_stand_in_the_same_order(
    classifier: Path, reviews: Path
) -> None:
    net = network(classifier)
    data = read(str(reviews), net, classifier)
    one, many = measure(net, data, batch_size=1), measure(net, data, batch_size=64)
    np.testing.assert_allclose(one.loss, many.loss, atol=1e-5)
    assert (one.target == many.target).all() and len(set(one.target[:20])) == 2
    longest = [int(b["attention_mask"].sum(1).max()) for b in data.batches(10)]
    assert longest == sorted(longest) and longest[0] < longest[-1]
    assert [
        b["input_ids"].shape[1] for b in data.batches(10)
    ] == longest  # no more padding than needed


def test_training_batches_hold_texts_of_similar_length() -> None:
    sizes = torch.randint(1, 200, (1003,), generator=torch.Generator().manual_seed(0))
    sampler = Bucketed(sizes, 8, seed=0)
    drawn, again = list(sampler), list(Bucketed(sizes, 8, seed=0))
    sampler.set_epoch(1)
    first = [place for place, _ in drawn]
    assert drawn == again != list(sampler) and sorted(first) == list(range(1003))
    batches = [sizes[first[i : i + 8]] for i in range(0, 1000, 8)]
    waste = 1 - sizes[first[:1000]].sum() / sum(int(b.max()) * 8 for b in batches)
    assert waste < 0.05  # random batches waste about 45 %
    assert batches[0].max() != min(b.max() for b in batches)  # short ones do not all come first


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


# --- what the tasks make of data


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


@pytest.mark.long
def test_a_decoder_learns_to_classify_though_it_has_no_padding_token(
    bert: Path, reviews: Path, tmp_path: Path
) -> None:
    gpt = hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=150,
            n_embd=32,
            n_layer=3,
            n_head=4,
            n_positions=48,
            bos_token_id=2,
            eos_token_id=3,
        )
    )
    gpt.save_pretrained(tmp_path / "gpt")
    for file in bert.glob("tokenizer*"):
        shutil.copyfile(file, tmp_path / "gpt" / file.name)
    options: dict[str, Any] = {"epochs": 4, "batch_size": 16, "lr": 3e-3}
    report = finetune(
        tmp_path / "gpt", tmp_path / "out", str(reviews), task="text-classification", **options
    )
    assert report["after"]["value"] > 0.9 and "score.weight" in report["note"]
    net = network(tmp_path / "out")
    one, many = (
        measure(net, read(str(reviews), net, tmp_path / "out"), batch_size=n) for n in (1, 50)
    )
    np.testing.assert_allclose(one.loss, many.loss, atol=1e-4)
    written = finetune(tmp_path / "gpt", tmp_path / "lm", str(reviews), epochs=1, batch_size=16)
    assert written["after"]["perplexity"] < written["before"]["perplexity"]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("bert", "text-classification"),
        ("bert-tokens", "token-classification"),
        ("bert-answers", "question-answering"),
        ("bert-masked", "masked-lm"),
    ],
)
def test_our_loss_is_the_familys_own(name: str, task: str) -> None:
    net = tiny(name)
    inputs = net.example_inputs(batch=4)
    classes = net.config.vocab_size if task == "masked-lm" else net.config.num_labels
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(
        classes,
        (4,) if name == "bert" else (4, 2) if name == "bert-answers" else (4, 12),
        generator=generator,
    )
    if task in {"token-classification", "masked-lm"}:
        labels[torch.rand(labels.shape, generator=generator) < 0.4] = IGNORED
    theirs = (
        {"start_positions": labels[:, 0], "end_positions": labels[:, 1]}
        if name == "bert-answers"
        else {"labels": labels}
    )
    with torch.inference_mode():
        found = TASKS[task].score(net(**inputs), inputs | {"labels": labels})
        expected = net(**inputs, **theirs).loss
    torch.testing.assert_close(
        (found.loss * found.weight).sum() / found.weight.sum(), expected, rtol=1e-5, atol=1e-6
    )
    assert found.target is not None and found.prediction is not None
    assert len(found.logits) == len(found.target) == len(found.prediction)


@pytest.mark.long
def test_a_regression_is_measured_in_its_own_units(bert: Path, tmp_path: Path) -> None:
    texts = [t for t, _ in sentences(120, 4)]
    numbers = [2.0 * any(w in t for w in GOOD) + len(t.split()) / 20 for t in texts]
    data = write(tmp_path / "d.parquet", {"sentence1": texts, "sentence2": texts, "score": numbers})
    report = finetune(
        bert,
        tmp_path / "out",
        data,
        task="text-regression",
        epochs=8,
        batch_size=8,
        lr=3e-3,
        eval_data=data,
    )
    after = report["after"]
    assert after["metric"] == "negative_mae" and report["before"]["value"] < after["value"] < 0
    assert (
        after["pearson"] > 0.8
        and after["spearman"] > 0.8
        and after["low"] <= after["value"] <= after["high"]
    )
    net = network(tmp_path / "out")
    scores = measure(net, read(data, net, tmp_path / "out"))
    assert after["value"] == pytest.approx(
        -np.abs(scores.prediction - scores.target).mean(), abs=1e-5
    )
    assert after["pearson"] == pytest.approx(
        np.corrcoef(scores.prediction, scores.target)[0, 1], abs=1e-4
    )
    assert (
        convert(tmp_path / "out", tmp_path / "acn", data, epochs=1, batch_size=8)["structure"][
            "form"
        ]
        == "acn"
    )
    with pytest.raises(DataError, match="column 'score' does not hold a number in every row"):
        read(write(tmp_path / "bad.json", {"text": ["good"], "score": ["high"]}), net, bert)


def test_the_profile_of_padded_text_counts_no_padding(classifier: Path, reviews: Path) -> None:
    net = network(classifier)
    data = read(str(reviews), net, classifier, limit=20)
    extras = ("influence", "cka")
    together, alone = (profile_model(net, data, extras=extras, batch_size=n) for n in (20, 1))
    for a, b in zip(together["blocks"], alone["blocks"], strict=True):
        assert a.keys() == b.keys()
        for key in a.keys():  # noqa: SIM118
            assert a[key] == pytest.approx(b[key], abs=1e-4)


# --- heads


def test_a_head_of_another_size_is_refused_or_made_anew(
    classifier: Path, reviews: Path, tmp_path: Path
) -> None:
    data = write(
        tmp_path / "d.json",
        {"text": ["good", "bad", "it was"] * 4, "label": ["yes", "no", "maybe"] * 4},
    )
    with pytest.raises(DataError, match=r"has 3 labels .* but the model has 2 .* --task"):
        evaluate(classifier, data=data)
    report = finetune(
        classifier, tmp_path / "out", data, task="text-classification", epochs=1, batch_size=4
    )
    assert "2 tensors began at random (classifier.bias, classifier.weight)" in report["note"]
    assert network(tmp_path / "out").config.num_labels == 3
    again = finetune(
        classifier,
        tmp_path / "again",
        str(reviews),
        task="text-classification",
        epochs=0.1,
        batch_size=16,
    )
    assert "note" not in again and again["before"]["value"] > 0.9  # it fits: nothing is made anew


def test_a_config_that_contradicts_the_weights_is_refused(classifier: Path, tmp_path: Path) -> None:
    shutil.copytree(classifier, tmp_path / "wrong")
    config = json.loads((tmp_path / "wrong" / "config.json").read_text())
    config |= {
        "id2label": {str(i): str(i) for i in range(5)},
        "label2id": {str(i): i for i in range(5)},
    }
    (tmp_path / "wrong" / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"classifier.bias is \(2,\) in the file, but \(5,\) by config.json"
    ):
        network(tmp_path / "wrong")
    config |= {"intermediate_size": 128}
    (tmp_path / "wrong" / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"intermediate.dense.bias is \(64,\) in the file, but \(128,\)"
    ):
        network(
            tmp_path / "wrong", task="text-classification", labels=["a", "b"]
        )  # a new head excuses only the head


def test_what_cannot_be_converted_says_why(
    bert: Path, classifier: Path, reviews: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError,
        match=r"no such head.* It has nothing to teach: train it first with "
        "acn-compress finetune --task",
    ):
        convert(bert, tmp_path / "out", str(reviews), task="text-classification")
    with pytest.raises(
        UnsupportedError,
        match=r"'bert' reads both ways, so it cannot be a causal-lm. Choose masked-lm",
    ):
        finetune(bert, tmp_path / "out", str(reviews), task="causal-lm")
    with pytest.raises(ConfigError, match=r"task is 'sentiment', expected: 'image-classification'"):
        finetune(bert, tmp_path / "out", str(reviews), task="sentiment")  # type: ignore[arg-type]
    features_only = convert(
        classifier, tmp_path / "features", str(reviews), task="features", epochs=0.2, batch_size=16
    )
    assert (
        features_only["after"]["metric"] == "cosine"
        and type(network(tmp_path / "features").model).__name__ == "AcnBertModel"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"is_decoder": True}, "it is a decoder"),
        ({"is_decoder": True, "add_cross_attention": True}, "it is a decoder"),
        ({"chunk_size_feed_forward": 8}, "chunk_size_feed_forward is set"),
        (
            {"architectures": ["BertForMultipleChoice"]},
            "the head BertForMultipleChoice is not supported",
        ),
    ],
)
def test_decoders_and_other_heads_are_refused(
    bert: Path, tmp_path: Path, options: dict[str, Any], text: str
) -> None:
    shutil.copytree(bert, tmp_path / "m")
    config = json.loads((bert / "config.json").read_text()) | options
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match=text):
        network(tmp_path / "m")
    report = inspect(tmp_path / "m")
    assert not report["supported"] and text in report["why"]


def test_recipes_know_every_task() -> None:
    assert get_args(Task) == tuple(TASKS)


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
    wide = hf.BertModel(hf.BertConfig(**{**BERT, "hidden_size": 64}, vocab_size=150))
    wide.save_pretrained(tmp_path / "wide")
    with pytest.raises(DataError, match="the reference has width 64, but the model 32"):
        evaluate(bert, data=str(reviews), against=tmp_path / "wide")
    assert not (tmp_path / "out").exists()
