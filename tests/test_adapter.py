"""LoRA adapters of peft: read with their model and merged, they answer as peft's own model does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from tiny import SHAPE, TEXT, answer, network, outputs, plain, saved

from acn_compress.checkpoint.find import find_source
from acn_compress.errors import (
    AcnError,
    CheckpointError,
    MissingDependencyError,
    ModelDirError,
)

WEIGHTS = "adapter_model.safetensors"
CASES: dict[str, tuple[str, Any, dict[str, Any]]] = {  # name -> base, class to train, how
    "classifier": (
        "bert-features",
        hf.BertForSequenceClassification,
        {"task_type": "SEQ_CLS", "target_modules": ["query", "value"]},
    ),
    "tokens": (
        "bert-masked",
        hf.BertForTokenClassification,
        {"task_type": "TOKEN_CLS", "target_modules": ["dense"], "use_rslora": True},
    ),
    "decoder": (
        "llama",
        hf.LlamaForCausalLM,
        {"task_type": "CAUSAL_LM", "target_modules": ["q_proj", "down_proj"], "use_dora": True},
    ),
    "transposed": (
        "gpt2-classification",
        hf.GPT2ForSequenceClassification,
        {"task_type": "SEQ_CLS", "target_modules": ["c_attn"], "fan_in_fan_out": True},
    ),
    "image": (
        "vit",
        hf.ViTForImageClassification,
        {"target_modules": ["q_proj"], "modules_to_save": ["classifier"]},
    ),
}


def trained(name: str, at: Path) -> Any:
    """peft's model with every adapter tensor random, and its base and adapter on the disk at
    `base` and `lora`."""
    base, cls, how = CASES[name]
    plain(base).save_pretrained(at / "base")
    labels = {} if name in ("decoder", "image") else {"num_labels": 4}
    model = cls.from_pretrained(at / "base", **labels, ignore_mismatched_sizes=True)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=5, **how))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1)
    wrapped.eval().save_pretrained(at / "lora")
    return wrapped


@pytest.mark.parametrize("name", CASES)
def test_a_merged_adapter_answers_as_in_peft(name: str, tmp_path: Path) -> None:
    theirs = trained(name, tmp_path)
    net = network(tmp_path / "lora")
    inputs = net.example_inputs(batch=3)
    said = answer(theirs, **inputs)
    torch.testing.assert_close(outputs(net, **inputs), said, rtol=1e-4, atol=1e-5)
    with theirs.disable_adapter():
        assert not torch.allclose(said, answer(theirs, **inputs), atol=1e-3)
    assert any("adapter is merged" in remark for remark in net.remarks)
    again = network(saved(net, tmp_path / "out"))
    assert torch.equal(outputs(again, **inputs), outputs(net, **inputs))
    assert not list((tmp_path / "out").glob("adapter*"))


def test_what_an_adapter_changes_changes_the_hash(tmp_path: Path) -> None:
    trained("classifier", tmp_path)
    before = find_source(tmp_path / "lora").sha256()
    assert before != find_source(tmp_path / "base").sha256()
    tensors = load_file(tmp_path / "lora" / WEIGHTS)
    save_file({k: v + 1 for k, v in tensors.items()}, tmp_path / "lora" / WEIGHTS)
    assert find_source(tmp_path / "lora").sha256() != before


def told(at: Path, **fields: Any) -> None:
    file = at / "lora" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def without_a_tensor(at: Path) -> None:
    tensors = load_file(at / "lora" / WEIGHTS)
    del tensors[next(key for key in tensors if "lora_B" in key)]
    save_file(tensors, at / "lora" / WEIGHTS)


def with_one_too_many(at: Path) -> None:
    tensors = load_file(at / "lora" / WEIGHTS)
    save_file(
        {**tensors, "base_model.model.odd.lora_A.weight": torch.ones(1)}, at / "lora" / WEIGHTS
    )


def of_another_size(at: Path) -> None:
    hf.BertModel(hf.BertConfig(**{**SHAPE, "hidden_size": 16}, **TEXT)).save_pretrained(at / "base")


def not_finite(at: Path) -> None:
    tensors = load_file(at / "lora" / WEIGHTS)
    save_file({k: v * torch.nan for k, v in tensors.items()}, at / "lora" / WEIGHTS)


def without_a_head(at: Path) -> None:
    tensors = load_file(at / "lora" / WEIGHTS)
    save_file({k: v for k, v in tensors.items() if "lora" in k}, at / "lora" / WEIGHTS)


WRONG: list[tuple[Any, type[AcnError], str]] = [
    (lambda at: told(at, peft_type="IA3"), ModelDirError, "of type 'IA3', expected LORA"),
    (lambda at: told(at, base_model_name_or_path=None), ModelDirError, "names no base_model"),
    (
        lambda at: told(at, base_model_name_or_path=str(at / "gone")),
        ModelDirError,
        "no such file or directory",
    ),
    (
        lambda at: told(at, base_model_name_or_path=str(at / "lora")),
        ModelDirError,
        "is an adapter too",
    ),
    (lambda at: told(at, megatron_config={"a": 1}), ModelDirError, "asks for code of its own"),
    (lambda at: told(at, target_modules=["nothing"]), CheckpointError, "does not fit"),
    (
        lambda at: told(at, target_modules=None, layers_to_transform=[0]),
        CheckpointError,
        "does not fit",
    ),
    (lambda at: told(at, target_modules=".*", layers_pattern="x"), CheckpointError, "does not fit"),
    (lambda at: told(at, task_type=None, auto_mapping="x"), CheckpointError, "does not fit"),
    (lambda at: (at / "lora" / WEIGHTS).unlink(), CheckpointError, "a pickle is not read"),
    (without_a_tensor, CheckpointError, "missing or have no place"),
    (with_one_too_many, CheckpointError, "missing or have no place"),
    (of_another_size, CheckpointError, "does not fit"),
    (not_finite, CheckpointError, "does not fit|not finite"),
    (without_a_head, CheckpointError, "does not fit"),
]


@pytest.mark.parametrize(("spoil", "error", "why"), WRONG)
def test_an_adapter_that_is_wrong_is_refused(
    spoil: Any, error: type[AcnError], why: str, tmp_path: Path
) -> None:
    trained("classifier", tmp_path)
    spoil(tmp_path)
    with pytest.raises(error, match=why) as found:
        network(tmp_path / "lora")
    assert "\n" not in str(found.value)


def test_an_adapter_beside_a_model_is_refused(tmp_path: Path) -> None:
    trained("classifier", tmp_path)
    (tmp_path / "base" / "config.json").rename(tmp_path / "lora" / "config.json")
    with pytest.raises(ModelDirError, match="beside a model"):
        find_source(tmp_path / "lora")


def test_without_peft_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained("classifier", tmp_path)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependencyError, match=r"acn-compress\[peft\]"):
        network(tmp_path / "lora")
