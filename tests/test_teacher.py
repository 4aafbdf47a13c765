"""A teacher is mapped, prepared for, or refused: what it says of an input is what it would say of
it alone, in the student's classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

import acn_compress as acn
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.errors import ConfigError
from acn_compress.network.network import Network
from acn_compress.training.teacher import load_teacher

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
WORDS = ["[PAD]", "[UNK]", "Good", "good", "film", "bad", "music", "WORLD", "a", "b"]
COLOURS = ["red", "green", "blue"]


def _vit(where: Path, names: list[str] = COLOURS, size: int = 8, **processor: Any) -> Path:
    torch.manual_seed(0)
    own: dict[str, Any] = {"image_size": size, "patch_size": 4, "intermediate_size": 64}
    config = hf.ViTConfig(**SIZE, **own, id2label=dict(enumerate(names)))
    hf.ViTForImageClassification(config).save_pretrained(where)
    hf.ViTImageProcessor(size={"height": size, "width": size}, **processor).save_pretrained(where)
    return where


def _bert(
    where: Path,
    names: list[str] = COLOURS,
    words: list[str] = WORDS,
    cls: Any = hf.BertForSequenceClassification,
    lowercase: bool = False,
    **config: Any,
) -> Path:
    torch.manual_seed(0)
    own = {"vocab_size": len(words), "intermediate_size": 64, "max_position_embeddings": 40}
    cls(hf.BertConfig(**SIZE | own | config, id2label=dict(enumerate(names)))).save_pretrained(
        where
    )
    return _tokenizer(where, words, lowercase)


def _tokenizer(where: Path, words: list[str], lowercase: bool = False) -> Path:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if lowercase:
        made.normalizer = normalizers.Lowercase()
    hf.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", model_max_length=38
    ).save_pretrained(where)
    return where


def _reordered(
    src: Path, where: Path, order: list[int], rename: Callable[[str], str] = str
) -> Path:
    """The same network with its classes in another order."""
    net = load_source(find_source(src))
    head: Any = net.model.classifier
    with torch.no_grad():
        head.weight.copy_(head.weight[order].clone())
        head.bias.copy_(head.bias[order].clone())
    names = net.config.id2label
    net.config.id2label = {i: rename(names[o]) for i, o in enumerate(order)}
    net.config.label2id = {name: i for i, name in net.config.id2label.items()}
    where.mkdir()
    for file in src.iterdir():
        (where / file.name).write_bytes(file.read_bytes())
    state = {k: v.contiguous() for k, v in net.model.state_dict().items()}
    from safetensors.torch import save_file

    save_file(state, where / "model.safetensors", {"format": "pt"})
    config = json.loads((where / "config.json").read_text())
    config |= {"id2label": net.config.id2label, "label2id": net.config.label2id}
    (where / "config.json").write_text(json.dumps(config))
    return where


def _pair(teacher: Path, student: Path) -> tuple[Network, Network]:
    source = find_source(student)
    net = load_source(source)
    return load_teacher(find_source(teacher), net, source), net


def _logits(net: Network, **given: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = net(**(given or net.example_inputs(batch=4))).logits
    return found


@pytest.mark.parametrize("rename", [str, str.upper])
@pytest.mark.parametrize("make", [_vit, _bert])
def test_classes_in_another_order_are_matched_by_name(
    make: Any, rename: Any, tmp_path: Path
) -> None:
    teacher = make(tmp_path / "t")
    taught, net = _pair(teacher, _reordered(teacher, tmp_path / "s", [2, 0, 1], rename))
    assert torch.equal(_logits(taught), _logits(net))
    assert taught.config.id2label == net.config.id2label
    alone = load_source(find_source(teacher))
    assert torch.equal(_logits(taught), _logits(alone)[:, [2, 0, 1]])


def test_names_that_differ_in_their_case_alone_are_not_mixed_up(tmp_path: Path) -> None:
    teacher = _vit(tmp_path / "t", ["a", "A", "b"])
    taught, net = _pair(teacher, _reordered(teacher, tmp_path / "s", [1, 2, 0]))
    assert torch.equal(_logits(taught), _logits(net))
    other = _vit(tmp_path / "o", ["A", "B", "c"])
    with pytest.raises(ConfigError, match=r"knows 3 classes \(a, A, b\), but the model 3 classes"):
        _pair(teacher, other)


def test_names_that_say_nothing_go_by_position(tmp_path: Path) -> None:
    teacher, student = _vit(tmp_path / "t", [f"LABEL_{i}" for i in range(3)]), _vit(tmp_path / "s")
    taught, net = _pair(teacher, student)
    assert torch.equal(_logits(taught), _logits(net))


def test_names_that_are_numbers_go_by_these(tmp_path: Path) -> None:
    """Which folders in the order of texts are not at their places."""
    teacher = _vit(tmp_path / "t", ["2", "0", "1"])
    taught, net = _pair(teacher, _vit(tmp_path / "s", [f"LABEL_{i}" for i in range(3)]))
    alone = load_source(find_source(teacher))
    assert torch.equal(_logits(taught), _logits(alone)[:, [1, 2, 0]])
    assert taught.config.id2label == net.config.id2label


@pytest.mark.parametrize(
    "processor",
    [
        {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        {"do_normalize": False},
        {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [60.0] * 3},
        {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
    ],
)
def test_a_teacher_sees_pixels_of_its_own_normalisation(
    processor: dict[str, Any], tmp_path: Path
) -> None:
    import numpy as np
    from PIL import Image

    student, teacher = _vit(tmp_path / "s"), _vit(tmp_path / "t", **processor)
    taught, _ = _pair(teacher, student)
    bytes_ = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype="uint8")
    own, given = (
        hf.ViTImageProcessor.from_pretrained(d)(Image.fromarray(bytes_), return_tensors="pt")
        for d in (teacher, student)
    )
    alone = load_source(find_source(teacher))
    assert not torch.allclose(own["pixel_values"], given["pixel_values"], atol=1e-2) or (
        "rescale_factor" in processor
    )
    torch.testing.assert_close(
        _logits(taught, pixel_values=given["pixel_values"]),
        _logits(alone, pixel_values=own["pixel_values"]),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_teacher_that_is_like_its_student_is_left_as_it_is(tmp_path: Path) -> None:
    for make in (_vit, _bert):
        where = tmp_path / make.__name__
        where.mkdir()
        taught, net = _pair(make(where / "t"), make(where / "s"))
        assert not taught.model._forward_hooks and not taught.model._forward_pre_hooks
        assert torch.equal(_logits(taught), _logits(net))


def test_a_teacher_without_token_types_is_given_none(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = hf.DistilBertConfig(
        vocab_size=len(WORDS), dim=32, n_layers=2, n_heads=4, hidden_dim=64, num_labels=3
    )
    config.id2label = dict(enumerate(COLOURS))
    hf.DistilBertForSequenceClassification(config).save_pretrained(tmp_path / "t")
    taught, net = _pair(_tokenizer(tmp_path / "t", WORDS), _bert(tmp_path / "s"))
    given = net.example_inputs()
    types = {"token_type_ids": torch.zeros_like(given["input_ids"])}
    assert torch.equal(_logits(taught, **given, **types), _logits(taught, **given))


def test_batches_are_filled_up_with_the_padding_of_the_teacher(tmp_path: Path) -> None:
    def decoder(where: Path, pad: int) -> Path:
        torch.manual_seed(0)
        config = hf.GPT2Config(
            vocab_size=len(WORDS), n_embd=32, n_layer=2, n_head=4, n_positions=40, pad_token_id=pad
        )
        config.id2label = dict(enumerate(COLOURS))
        hf.GPT2ForSequenceClassification(config).save_pretrained(where)
        return _tokenizer(where, WORDS)

    taught, net = _pair(decoder(tmp_path / "t", 9), decoder(tmp_path / "s", 0))
    short = {"input_ids": torch.tensor([[4, 5, 6, 0, 0]])}
    short["attention_mask"] = (short["input_ids"] != 0).long()
    alone = torch.tensor([[4, 5, 6]])
    expected = _logits(net, input_ids=alone, attention_mask=torch.ones_like(alone))
    torch.testing.assert_close(_logits(net, **short), expected)
    torch.testing.assert_close(_logits(taught, **short), expected)


MASKED = {"cls": hf.BertForMaskedLM}


@pytest.mark.parametrize(
    ("make", "teacher", "student", "said"),
    [
        (_vit, {"names": ["red", "green"]}, {}, r"knows 2 classes .*, but the model 3 classes"),
        (_vit, {"names": ["red", "green", "grey"]}, {}, r"\(red, green, grey\), but the model 3"),
        (_vit, {"size": 12}, {}, "sees 12 x 12 pixels in 3 channels, but the model 8 x 8"),
        (_bert, MASKED, {}, "does masked-lm, but the model text-classification"),
        (_bert, {"names": ["one"]}, {}, "does text-regression, but the model text-classification"),
        (_bert, {"words": WORDS[:-1]}, {}, "reads 9 tokens, but the model's tokenizer has 10"),
        (_bert, {"words": [*WORDS[:2], *WORDS[:1:-1]]}, {}, "reads other tokens"),
        (_bert, {"lowercase": True}, {}, "splits texts otherwise"),
        (_bert, MASKED | {"vocab_size": 12}, MASKED, "a vocabulary of 12, but the model one of 10"),
        (_bert, {"vocab_size": 9}, {}, "has a vocabulary of 9, but the model one of 10"),
    ],
)
def test_what_cannot_teach_is_refused_in_one_line(
    make: Any, teacher: dict[str, Any], student: dict[str, Any], said: str, tmp_path: Path
) -> None:
    src = make(tmp_path / "t", **teacher)
    with pytest.raises(ConfigError, match=said) as caught:
        _pair(src, make(tmp_path / "s", **student))
    assert "\n" not in str(caught.value) and str(src) in str(caught.value)


def test_a_padded_vocabulary_is_no_other_one(tmp_path: Path) -> None:
    taught, net = _pair(_bert(tmp_path / "t"), _bert(tmp_path / "s", vocab_size=16))
    assert (taught.config.vocab_size, net.config.vocab_size) == (10, 16)


def test_a_teacher_must_take_the_longest_text_of_the_data(tmp_path: Path) -> None:
    texts = [f"{'film ' * (4 + i % 9)}{'good' if i % 2 else 'bad'}" for i in range(24)]
    rows = [f"{text},{COLOURS[i % 3]}" for i, text in enumerate(texts)]
    (tmp_path / "texts.csv").write_text("text,label\n" + "\n".join(rows))
    teacher = _bert(tmp_path / "t", max_position_embeddings=12)
    how: dict[str, Any] = {"data": str(tmp_path / "texts.csv"), "epochs": 1, "batch_size": 8}
    how |= {"teacher": teacher, "progress": False}
    student = _bert(tmp_path / "s")
    with pytest.raises(ConfigError, match=r"takes texts of 12 tokens, but .* has some of 13. Cut"):
        acn.finetune(student, tmp_path / "out", **how)
    acn.finetune(student, tmp_path / "out", max_length=12, **how)


@pytest.mark.long
def test_before_is_the_student_and_the_teacher_is_measured_beside_it(
    vit_config: Path, tmp_path: Path
) -> None:
    trained = tmp_path / "trained"
    how: dict[str, Any] = {"data": "digits", "batch_size": 32, "progress": False}
    acn.finetune(vit_config, trained, init="random", epochs=6, lr=2e-3, **how)
    student = _reordered(trained, tmp_path / "s", [*range(1, 10), 0])
    alone = acn.evaluate(trained, data="digits", progress=False)["result"]["value"]
    assert acn.evaluate(student, data="digits", progress=False)["result"]["value"] == alone > 0.4
    how |= {"teacher": trained, "epochs": 0.5, "lr": 1e-4, "task_weight": 0.0}
    found = acn.finetune(student, tmp_path / "out", **how)
    assert found.before is not None and found.teacher is not None and found.after is not None
    assert found.before.value == found.teacher.value == alone < found.after.value + 0.02
    acn.truncate(student, tmp_path / "cut", depth=1)
    found = acn.finetune(tmp_path / "cut", tmp_path / "taught", **how)
    cut = acn.evaluate(tmp_path / "cut", data="digits", progress=False).result
    assert found.teacher is not None
    assert found.before == cut and found.teacher.value == alone > cut.value
    assert f"teacher     accuracy {alone:.4f}" in str(found)
    converted = acn.convert(tmp_path / "cut", tmp_path / "acn", **how)
    assert (converted.before, converted.teacher) == (found.before, found.teacher)
    itself = acn.convert(tmp_path / "cut", tmp_path / "self", **how | {"teacher": tmp_path / "cut"})
    assert itself.before == cut and itself.teacher is None
