"""Tasks as objects: which head belongs to which, decided as transformers decides it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import transformers as hf
from tiny import tiny

from acn_compress.errors import ConfigError, UnsupportedError
from acn_compress.tasks import TASKS, head_named, task_called, task_named, task_of

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def config(**fields: object) -> hf.BertConfig:
    return hf.BertConfig(**TINY, intermediate_size=16, vocab_size=30, **fields)


@pytest.mark.parametrize(
    ("head", "fields", "name"),
    [
        ("ForSequenceClassification", {"num_labels": 3}, "text-classification"),
        ("ForSequenceClassification", {"num_labels": 1}, "text-regression"),
        (
            "ForSequenceClassification",
            {"num_labels": 2, "problem_type": "single_label_classification"},
            "text-classification",
        ),
        (
            "ForSequenceClassification",
            {"num_labels": 1, "problem_type": "regression"},
            "text-regression",
        ),
        (
            "ForSequenceClassification",
            {"num_labels": 1, "problem_type": "multi_label_classification"},
            "text-multi-label",
        ),
        ("ForTokenClassification", {"num_labels": 1}, "token-classification"),
        ("ForQuestionAnswering", {}, "question-answering"),
        ("ForMaskedLM", {}, "masked-lm"),
        ("LMHeadModel", {}, "causal-lm"),
        ("Model", {}, "features"),
    ],
)
def test_head_and_config_decide_the_task(head: str, fields: dict[str, object], name: str) -> None:
    assert task_named(f"Bert{head}", config(**fields)) is TASKS[name]


@pytest.mark.parametrize(
    ("cls", "fields", "why"),
    [
        ("Bert", {"problem_type": "regression", "num_labels": 3}, "gives 3 numbers"),
        ("ViT", {"problem_type": "regression", "num_labels": 2}, "gives numbers and no classes"),
        ("ViT", {"num_labels": 1}, "gives numbers and no classes"),
    ],
)
def test_what_has_no_metric_is_refused(cls: str, fields: dict[str, object], why: str) -> None:
    if cls == "ViT":
        name, made = "ViTForImageClassification", hf.ViTConfig(**TINY, **fields)
    else:
        name, made = "BertForSequenceClassification", config(**fields)
    with pytest.raises(UnsupportedError, match=why):
        task_named(name, made)


@pytest.mark.parametrize(
    ("problem", "labels"), [(None, 3), (None, 1), ("single_label_classification", 2)]
)
def test_the_loss_is_that_of_transformers(problem: str | None, labels: int) -> None:
    torch.manual_seed(0)
    model = hf.BertForSequenceClassification(config(num_labels=labels, problem_type=problem)).eval()
    ids = torch.randint(5, 30, (6, 7))
    wanted = torch.rand(6) if labels == 1 else torch.randint(labels, (6,))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": wanted}
    with torch.inference_mode():
        output = model(**batch)
    task = task_named("BertForSequenceClassification", model.config)
    assert torch.allclose(task.score(output, batch).loss.mean(), output.loss, atol=1e-6)


def test_a_task_is_found_by_its_name_or_the_known_ones_are_listed() -> None:
    assert all(task_called(name) is task and task.name == name for name, task in TASKS.items())
    with pytest.raises(ConfigError, match=r"task 'guessing' is not known\. Known: image-class"):
        task_called("guessing")


def test_a_card_needs_no_config_to_name_the_task() -> None:
    deit = head_named("DeiTForImageClassificationWithTeacher", "image")
    assert deit is TASKS["image-classification"]
    assert head_named("GPT2LMHeadModel", "text") is TASKS["causal-lm"]
    assert head_named("BertForNextSentencePrediction", "text") is None
    hubert = head_named("HubertForSequenceClassification", "audio")
    assert hubert is TASKS["audio-classification"]


def test_knowing_the_tasks_imports_no_torch() -> None:
    code = "import sys, acn_compress.tasks; print({'torch', 'numpy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["cliptext", "sigliptext"])
def test_a_tower_of_texts_has_the_embedding_that_it_makes_itself(name: str) -> None:
    net = tiny(name)
    inputs = net.example_inputs()
    with torch.inference_mode():
        output = net(**inputs)
        found = task_of(net).of(net).answers(output, inputs)
    pooled = getattr(output, "text_embeds", None)
    pooled = output.pooler_output if pooled is None else pooled
    assert torch.equal(found, torch.nn.functional.normalize(pooled, dim=-1))
