"""Cutting tokens: texts that use none of those that went are read and answered as before, all
others in smaller pieces."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from tiny import SHAPE, network
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from acn_compress import export, prune
from acn_compress.checkpoint.files import read_json, write_json
from acn_compress.errors import ConfigError, DataError, UnsupportedError

WORDS = " ".join(
    p.read_text() for p in sorted((Path(__file__).parent.parent / "docs").glob("*.md"))
).split()
HALF = len(WORDS) // 2
BYTES = [f"<0x{n:02X}>" for n in range(256)]
ODD = ["Ünïcödé 漢字 zzyzx", "🙂 \x00 \t", "x", "antidisestablishmentarianism", ".,;!?"]


def texts(words: list[str], count: int, length: int = 4) -> list[str]:
    """Some words in a row, from places drawn at random."""
    places = random.Random(0).choices(range(len(words) - length), k=count)
    return [" ".join(words[at : at + length]) for at in places]


def wordpiece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(
        WORDS, trainers.WordPieceTrainer(vocab_size=1500, special_tokens=special)
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 3), ("[SEP]", 4)]
    )
    made.decoder = decoders.WordPiece()
    return made


def bytes_(ignore_merges: bool = False) -> Tokenizer:
    """GPT-2's kind; its special token is the last, as there."""
    made = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [f" {word}" for word in WORDS],
        trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet),
    )
    made.add_special_tokens(["<|end|>"])
    made.decoder = decoders.ByteLevel()
    return made


def fallback() -> Tokenizer:
    """Llama's kind: merges over spaces made visible, bytes for what is unknown."""
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    special = ["<unk>", "<s>", "</s>", *BYTES]
    made.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=1500, special_tokens=special))
    data = made.to_str()
    made = Tokenizer.from_str(data)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return made


def unigram() -> Tokenizer:
    """XLM-RoBERTa's kind."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    made.train_from_iterator(
        WORDS, trainers.UnigramTrainer(vocab_size=1500, special_tokens=special, unk_token="<unk>")
    )
    made.add_special_tokens(["<mask>"])
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return made


def bert(size: int) -> Any:
    return hf.BertForSequenceClassification(hf.BertConfig(**SHAPE, vocab_size=size, num_labels=3))


def roberta(size: int) -> Any:
    return hf.RobertaForMaskedLM(hf.RobertaConfig(**SHAPE, vocab_size=size, type_vocab_size=1))


def gpt2(size: int) -> Any:
    end = {"bos_token_id": size - 1, "eos_token_id": size - 1, "pad_token_id": size - 1}
    return hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=size, **end))


def llama(size: int) -> Any:
    grouped = {**SHAPE, "num_key_value_heads": 2, "pad_token_id": 2}
    return hf.LlamaForSequenceClassification(
        hf.LlamaConfig(**grouped, vocab_size=size + 5, num_labels=3)
    )


Made = tuple[Callable[[], Tokenizer], Callable[[int], Any], dict[str, str], str]
BERT = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTA = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "mask_token": "<mask>",
}
END = {
    "bos_token": "<|end|>",
    "eos_token": "<|end|>",
    "unk_token": "<|end|>",
    "pad_token": "<|end|>",
}
LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
KINDS: dict[str, Made] = {
    "wordpiece": (wordpiece, bert, BERT, "BertTokenizer"),
    "bytes": (bytes_, gpt2, END, "GPT2Tokenizer"),
    "bytes, whole words": (lambda: bytes_(True), gpt2, END, "PreTrainedTokenizerFast"),
    "fallback": (fallback, llama, LLAMA, "PreTrainedTokenizerFast"),
    "unigram": (unigram, roberta, ROBERTA, "PreTrainedTokenizerFast"),
}


def source(kind: str, directory: Path) -> Path:
    """A model with a tokenizer of a kind, as transformers saves both, vocabulary files and all."""
    tokenizer, model, special, cls = KINDS[kind]
    made = tokenizer()
    torch.manual_seed(0)
    model(made.get_vocab_size()).save_pretrained(directory)
    hf.PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(directory)
    if cls != "PreTrainedTokenizerFast":
        made.model.save(str(directory))  # vocab.txt, or vocab.json and merges.txt
    config = read_json(directory / "tokenizer_config.json") or {}
    write_json(directory / "tokenizer_config.json", config | {"tokenizer_class": cls})
    return directory


def written(texts: list[str], file: Path) -> str:
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([["text"], *([text] for text in texts)])
    return str(file)


def plain(directory: Path) -> tuple[Any, Any]:
    """Tokenizer and model by transformers alone."""
    name = (read_json(directory / "config.json") or {})["architectures"][0]
    model, loading = getattr(hf, name).from_pretrained(directory, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["mismatched_keys"]
    return hf.AutoTokenizer.from_pretrained(directory), model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_what_uses_no_cut_token_is_read_and_answered_as_before(kind: str, tmp_path: Path) -> None:
    whole = source(kind, tmp_path / "whole")
    data = written(texts(WORDS[:HALF], 150), tmp_path / "data.csv")
    report = prune(whole, tmp_path / "out", vocabulary=data, min_count=2)
    assert report["vocabulary"]["after"] < 0.8 * report["vocabulary"]["before"]
    assert (
        (report["parameters_before"] - report["parameters"])
        == (report["vocabulary"]["parameters_before"] - report["vocabulary"]["parameters_after"])
        > 0
    )
    (old, before), (new, after) = plain(whole), plain(tmp_path / "out")
    assert after.config.vocab_size == report["vocabulary"]["after"] <= before.config.vocab_size
    kept, left = set(new.get_vocab()), [0, 0]
    index = torch.tensor(
        [old.convert_tokens_to_ids(t) for t in sorted(kept, key=new.get_vocab().get)]
    )
    for text in [*texts(WORDS[:HALF], 60, 3), *texts(WORDS[HALF:], 60, 2), *ODD]:
        then, now = old(text, return_tensors="pt"), new(text, return_tensors="pt")
        names = old.convert_ids_to_tokens(then.input_ids[0])
        same = set(names) <= kept
        left[same] += 1
        if "wordpiece" not in kind and "unigram" not in kind and text not in ODD:
            assert new.decode(now.input_ids[0]) == old.decode(then.input_ids[0])
        with torch.inference_mode():
            logits, reduced = before(**then).logits, after(**now).logits
        assert reduced.isfinite().all()
        if same:
            assert new.convert_ids_to_tokens(now.input_ids[0]) == names
            if reduced.shape != logits.shape:
                logits = logits[..., index]
            # a product of another width is rounded in another order
            torch.testing.assert_close(reduced, logits, rtol=0, atol=1e-6)
    assert min(left) > 10


@pytest.mark.parametrize("kind", ["bytes", "unigram"])
def test_numbers_of_tokens_follow(kind: str, tmp_path: Path) -> None:
    whole = source(kind, tmp_path / "whole")
    prune(whole, tmp_path / "out", vocabulary=written(["a text"], tmp_path / "data.csv"))
    (old, before), (new, after) = plain(whole), plain(tmp_path / "out")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        number = getattr(before.config, name)
        assert old.convert_ids_to_tokens(number) == new.convert_ids_to_tokens(
            getattr(after.config, name)
        )
        assert getattr(old, name) == number and getattr(new, name) == getattr(after.config, name)
        generation = getattr(after, "generation_config", None)
        assert getattr(generation, name, None) in (None, getattr(after.config, name))
    if kind == "unigram":  # RoBERTa counts positions from it
        assert after.config.pad_token_id == before.config.pad_token_id == 1


@pytest.mark.long
def test_heads_features_and_tokens_go_in_one_command_and_to_onnx(tmp_path: Path) -> None:
    whole = source("wordpiece", tmp_path / "whole")
    file = tmp_path / "data.csv"
    with file.open("w", newline="") as out:
        rows = [[text, f"LABEL_{i % 3}"] for i, text in enumerate(texts(WORDS[:HALF], 90))]
        csv.writer(out).writerows([["text", "label"], *rows])
    how: dict[str, Any] = {"target_sparsity": 0.4, "uniform": True, "epochs": 1.0}
    report = prune(whole, tmp_path / "out", vocabulary=file, data=file, eval_data=file, **how)
    assert report["vocabulary"]["after"] < report["vocabulary"]["before"]
    assert report["before"]["examples"] == report["after"]["examples"] == 90
    tokenizer, model = plain(tmp_path / "out")
    ours = network(tmp_path / "out")
    batch = tokenizer(texts(WORDS[:HALF], 5), return_tensors="pt", padding=True)
    with torch.inference_mode():
        assert torch.equal(model(**batch).logits, ours(**batch).logits)
    assert export(tmp_path / "out", tmp_path / "onnx")["max_difference"] < 1e-4
    assert read_json(tmp_path / "onnx" / "tokenizer.json") == read_json(
        tmp_path / "out" / "tokenizer.json"
    )


def test_what_has_no_vocabulary_to_cut_is_refused(digits_vit: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="vocabulary is one of texts, and the model is for image-cl"
    ):
        prune(digits_vit, tmp_path / "out", vocabulary="digits")
    with pytest.raises(ConfigError, match="has min_count, but no vocabulary to count in"):
        prune(digits_vit, tmp_path / "out", target_sparsity=0.5, min_count=2)
    whole = source("wordpiece", tmp_path / "whole")
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (whole / file).unlink(missing_ok=True)
    data = written(["a text"], tmp_path / "data.csv")
    with pytest.raises(UnsupportedError, match=r"its vocabulary cannot be cut: .*found none"):
        prune(whole, tmp_path / "out", vocabulary=data)
    assert not (tmp_path / "out").exists()
