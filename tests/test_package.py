"""The package from outside: what it imports, what it exports, and what transformers does with its
models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from tiny import network

import acn_compress
from acn_compress import compat, on_import

# transformers cannot be imported at all beside a torchvision built for another torch: plain
# transformers gets that guard, and nothing else
GUARD = f"""
import importlib.util as u, sys
for name, file in (("on_import", {on_import.__file__!r}), ("compat", {compat.__file__!r})):
    s = u.spec_from_file_location("acn_compress." + name, file)
    sys.modules[s.name] = u.module_from_spec(s)
    s.loader.exec_module(sys.modules[s.name])
assert "acn_compress" not in sys.modules
import torch, transformers
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_importing_it_is_light() -> None:
    heavy = ("torch", "transformers", "numpy", "onnx", "datasets", "pydantic")
    done = python(f"import sys, acn_compress; print([m for m in {heavy} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_the_public_names() -> None:
    assert set(acn_compress.__all__) == {
        "AcnError",
        "Job",
        "Recipe",
        "benchmark",
        "compare",
        "compress",
        "convert",
        "doctor",
        "evaluate",
        "export",
        "finetune",
        "init",
        "inspect",
        "load",
        "profile",
        "prune",
        "push",
        "run",
        "truncate",
        "validate",
    }
    for name in acn_compress.__all__:
        assert getattr(acn_compress, name).__doc__, name
    with pytest.raises(AttributeError):
        acn_compress.nonsense  # noqa: B018


@pytest.mark.long
def test_plain_transformers_refuses_a_converted_model(digits_acn: Path) -> None:
    auto = "transformers.AutoModelForImageClassification.from_pretrained"
    done = python(GUARD + f"{auto}({str(digits_acn)!r})")
    assert done.returncode != 0 and "acn_vit" in done.stderr


@pytest.mark.long
def test_plain_transformers_reads_a_residual_model_and_gets_it_right(digits_vit: Path) -> None:
    code = f"""
auto = transformers.AutoModelForImageClassification
m = auto.from_pretrained({str(digits_vit)!r}).eval()
torch.manual_seed(0)
print(m(torch.randn(1, 3, 8, 8)).logits.double().sum().item(), type(m).__name__)
"""
    total, name = python(GUARD + code).stdout.split()
    torch.manual_seed(0)
    ours = network(digits_vit).model(torch.randn(1, 3, 8, 8)).logits.double().sum().item()
    assert name == "ViTForImageClassification" and float(total) == pytest.approx(ours, abs=1e-6)


@pytest.mark.long
def test_auto_classes_and_pipelines_work_after_the_import(digits_acn: Path) -> None:
    from sklearn.datasets import load_digits

    code = f"""
import acn_compress
from transformers import AutoModelForImageClassification as A, pipeline
from PIL import Image
import numpy as np
m = A.from_pretrained({str(digits_acn)!r})
p = pipeline('image-classification', {str(digits_acn)!r})
from sklearn.datasets import load_digits
x = np.round(load_digits().images[7] * 255 / 16).astype('uint8')
print(type(m).__name__, p(Image.fromarray(x))[0]['label'])
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    name, label = done.stdout.split()
    assert name == "AcnViTForImageClassification"
    pixels = (
        torch.from_numpy(load_digits().images[7] * 255 / 16).round().expand(1, 3, 8, 8).float()
        / 127.5
        - 1
    )
    assert label == str(int(network(digits_acn).model(pixels).logits.argmax()))


def test_a_loaded_model_is_the_users_own_class(digits_acn: Path) -> None:
    model = acn_compress.load(digits_acn)
    assert isinstance(model, transformers.ViTForImageClassification) and not model.training


def test_a_model_can_be_loaded_under_a_head_of_another_size(digits_vit: Path) -> None:
    model = acn_compress.load(digits_vit, task="image-classification", num_labels=2)
    assert model.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert model(torch.zeros(1, 3, 8, 8)).logits.shape == (1, 2)
