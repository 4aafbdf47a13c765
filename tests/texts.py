"""Tiny BERTs with a real WordPiece tokenizer, and small files of every kind a user may bring."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
import transformers as hf
from tiny import network

from acn_compress import finetune
from acn_compress.checkpoint.find import find_source
from acn_compress.data.load import Data, load_data

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
