"""Several classes per example, of texts and of images: trained, measured as scikit-learn does,
exported."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score
from tiny import network

from acn_compress import evaluate, export, finetune, prune
from acn_compress.errors import DataError, UnsupportedError

WORDS = ("red", "green", "blue", "big", "small", "old", "new", "dog", "cat", "house")
COLOURS = ("red", "green", "blue")
SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}


def texts(number: int, seed: int) -> list[dict[str, Any]]:
    """A text has the classes of the colours that are in it, or none."""
    rng = random.Random(seed)
    rows = [" ".join(rng.choices(WORDS, k=rng.randint(2, 6))) for _ in range(number)]
    return [{"text": t, "labels": [c for c in COLOURS if c in t.split()]} for t in rows]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, and a BERT without a head beside it."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    where = tmp_path_factory.mktemp("several")
    (where / "data").mkdir()
    for split, rows in (("train", texts(400, 0)), ("test", texts(120, 1))):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (where / "data" / f"{split}.jsonl").write_text(lines)
    vocabulary = {w: i for i, w in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(where / "bert")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary), intermediate_size=64, max_position_embeddings=16, **SHAPE
    )
    transformers.BertModel(config).save_pretrained(where / "bert")
    return where


@pytest.fixture(scope="module")
def trained(written: Path) -> Path:
    """That BERT, trained to say which colours are in a text."""
    options: dict[str, Any] = {"epochs": 8, "batch_size": 16, "lr": 3e-3, "task_weight": 1.0}
    data = str(written / "data")
    report = finetune(written / "bert", written / "out", data, task="text-multi-label", **options)
    assert report.after is not None
    assert report.after.metric == "f1_samples" and report.after.value > 0.9
    assert report.note is not None and "began at random" in report.note
    return written / "out"


@pytest.mark.long
def test_the_metric_is_that_of_scikit_learn_on_plain_transformers(
    written: Path, trained: Path
) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(trained).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained)
    rows = texts(120, 1)
    with torch.inference_mode():
        logits = [model(**tokenizer(r["text"], return_tensors="pt")).logits[0] for r in rows]
    said = (torch.stack(logits) > 0).int().numpy()
    right = np.array([[int(c in row["labels"]) for c in COLOURS] for row in rows])
    order = [model.config.label2id[c] for c in COLOURS]
    found = evaluate(trained, data=str(written / "data")).result
    samples = f1_score(right, said[:, order], average="samples", zero_division=1.0)
    assert found.value == pytest.approx(samples, abs=1e-6)
    micro = f1_score(right, said[:, order], average="micro")
    assert found.further["f1_micro"] == pytest.approx(micro, abs=1e-6)
    loss = torch.nn.BCEWithLogitsLoss()(torch.stack(logits)[:, order], torch.tensor(right).float())
    assert found.loss == pytest.approx(float(loss), rel=1e-4)


@pytest.mark.long
def test_it_is_pruned_distilled_and_exported(written: Path, trained: Path, tmp_path: Path) -> None:
    data = str(written / "data")
    report = prune(trained, tmp_path / "small", data, target_sparsity=0.3, epochs=1, batch_size=16)
    assert report.drop is not None and report.drop.drop < 0.1
    export(tmp_path / "small", tmp_path / "onnx")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "onnx")
    inputs = dict(
        tokenizer(["big red dog", "new blue green cat"], padding=True, return_tensors="np")
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "onnx" / "model.onnx"))
    wanted = {i.name for i in session.get_inputs()}
    inputs |= {"token_type_ids": np.zeros_like(inputs["input_ids"])}
    (logits,) = session.run(["logits"], {k: v for k, v in inputs.items() if k in wanted})
    with torch.inference_mode():
        tensors = {k: torch.tensor(v) for k, v in inputs.items() if k in wanted}
        expected = network(tmp_path / "small").answer(**tensors).numpy()
    assert np.abs(logits - expected).max() < 1e-4
    with pytest.raises(UnsupportedError, match="needs a classifier"):
        evaluate(trained, data=data, exit_entropy=0.5)


@pytest.mark.long
def test_images_with_several_classes_are_trained_and_measured(
    vit_config: Path, tmp_path: Path
) -> None:
    """Is a digit even, is it above four: vectors of zeros and ones, in memory."""
    digits = load_digits()
    flags = [[float(y % 2 == 0), float(y > 4)] for y in digits.target]
    features = datasets.Features(
        {
            "image": datasets.Array2D((8, 8), "uint8"),
            "labels": datasets.Sequence(datasets.Value("float32")),
        }
    )
    pixels = np.round(digits.images * (255 / 16)).astype("uint8")
    rows = datasets.Dataset.from_dict({"image": pixels, "labels": flags}, features=features)
    both = rows.train_test_split(0.2, seed=0)
    config = json.loads(vit_config.read_text()) | {"problem_type": "multi_label_classification"}
    config |= {"id2label": {"0": "even", "1": "large"}, "label2id": {"even": 0, "large": 1}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    options: dict[str, Any] = {
        "epochs": 12,
        "batch_size": 32,
        "lr": 2e-3,
        "task_weight": 1.0,
        "init": "random",
    }
    report = finetune(tmp_path / "config.json", tmp_path / "out", both, **options)
    assert report.after is not None
    assert report.after.metric == "f1_samples" and report.after.value > 0.75
    assert network(tmp_path / "out").config.id2label == {0: "even", 1: "large"}


@pytest.mark.long
def test_one_class_per_row_is_refused(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("text,labels\nbig red dog,red\nnew cat,blue\n")
    with pytest.raises(
        DataError, match=r"column 'labels' holds no lists\. Expected a list of classes"
    ):
        evaluate(trained, data=str(tmp_path / "one.csv"))
