"""Text: every command on tiny BERTs with a real tokenizer, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas
import pytest
import torch
import transformers as hf
from texts import BERT, GOOD, read, sentences, write
from tiny import network, tiny

from acn_compress import convert, evaluate, export, finetune, inspect, profile, prune, truncate
from acn_compress.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    Interrupted,
    UnsupportedError,
)
from acn_compress.events import Event, TrainingStep
from acn_compress.measure.quality import measure
from acn_compress.measure.readouts import profile_model
from acn_compress.network.network import first_output
from acn_compress.options import Task
from acn_compress.tasks import IGNORED, TASKS
from acn_compress.training.batches import Bucketed


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
