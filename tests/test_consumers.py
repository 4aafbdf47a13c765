"""What export writes opens, as it is, where others run such files, and says what torch says:
transformers.js, optimum, sentence-transformers (`make consumers` installs them)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers as hf
from brought import bert, dense, encoder, texts, tokenizer
from tiny import saved, tiny

import acn_compress
from acn_compress.checkpoint.processors import name_tokenizer_plainly
from acn_compress.compression.prune import prune_
from acn_compress.onnx.layout import FILES, onnx_file, weights_of
from acn_compress.onnx.session import Array
from benchmarks.consumers import (
    Rows,
    Said,
    difference,
    images,
    optimum,
    sentence_transformers,
    transformers_js,
)

LIMIT = 1e-5  # between any of their numbers and torch's
TEXTS = texts(4)

pytestmark = pytest.mark.xdist_group("consumers")  # what is exported is shared


# what is exported for them


@dataclass(frozen=True)
class Case:
    """A network with all that a stranger needs, and who runs it.

    Args:
        make: writes its model directory.
        task: the pipeline of transformers.js; None if it has no such class.
        optimum: the class of optimum.
        images: its rows are images.
    """

    make: Callable[[Path], Path]
    task: str | None
    optimum: str
    images: bool = False

    @property
    def rows(self) -> Rows:
        return images(PIXELS) if self.images else {"texts": TEXTS}

    def in_node(self, out: Path, dtype: str = "fp32") -> Said:
        assert self.task is not None
        return transformers_js(out, self.task, self.rows, dtype)

    def in_optimum(self, out: Path, file: str | None = None) -> Said:
        return optimum(out, self.optimum, self.rows, file)


def text(name: str, directory: Path) -> Path:
    """A tiny network in hybrid form, which no library but ours could load, with a tokenizer."""
    saved(tiny(name, 0.3), directory)
    tokenizer(directory, longest=32)
    return directory


def image(model: str, config: str, directory: Path, **fields: Any) -> Path:
    """A tiny network for images of 8 x 8 in three colours, with a processor."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    size = {"image_size": 8, "patch_size": 4, "num_labels": 5}
    made = getattr(hf, model)(getattr(hf, config)(**shape, **size, **fields))
    made.save_pretrained(directory)
    hf.ViTImageProcessor(size={"height": 8, "width": 8}, image_std=[0.2, 0.3, 0.4]).save_pretrained(
        directory
    )
    return directory


def sentences(directory: Path) -> Path:
    """A sentence encoder with everything behind its pooling."""
    flags = {"pooling_mode_mean_tokens": True, "word_embedding_dimension": 16}
    encoder(directory, flags, "Dense", "Normalize")
    dense(directory / "2_Dense", torch.randn(5, 16), torch.randn(5))
    name_tokenizer_plainly(directory)  # so that they can read the source as well
    return directory


PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype="uint8")
CLASSES = "ORTModelForSequenceClassification"
PICTURES = "ORTModelForImageClassification"
VIT = partial(image, "ViTForImageClassification", "ViTConfig", intermediate_size=64)
CASES = {
    "bert": Case(partial(text, "bert"), "text-classification", CLASSES),
    "sentences": Case(sentences, "feature-extraction", "ORTModelForFeatureExtraction"),
    "vit": Case(VIT, "image-classification", PICTURES, images=True),
}
SLOW = {
    "bert-tokens": Case(
        partial(text, "bert-tokens"), "token-classification", "ORTModelForTokenClassification"
    ),
    "bert-answers": Case(
        partial(text, "bert-answers"), "question-answering", "ORTModelForQuestionAnswering"
    ),
    "bert-masked": Case(partial(text, "bert-masked"), "fill-mask", "ORTModelForMaskedLM"),
    "distilbert": Case(partial(text, "distilbert"), "text-classification", CLASSES),
    "electra": Case(partial(text, "electra"), "text-classification", CLASSES),
    "roberta": Case(partial(text, "roberta"), "text-classification", CLASSES),
    "gpt2-classification": Case(partial(text, "gpt2-classification"), None, CLASSES),
    "mistral-tokens": Case(partial(text, "mistral-tokens"), None, "ORTModelForTokenClassification"),
    "llama-features": Case(
        partial(text, "llama-features"), "feature-extraction", "ORTModelForFeatureExtraction"
    ),
    "deit": Case(
        partial(image, "DeiTForImageClassification", "DeiTConfig", intermediate_size=64),
        "image-classification",
        PICTURES,
        images=True,
    ),
    "dinov2": Case(
        partial(image, "Dinov2ForImageClassification", "Dinov2Config", mlp_ratio=2),
        "image-classification",
        PICTURES,
        images=True,
    ),
}
IN_NODE = [
    *CASES,
    *(pytest.param(n, marks=pytest.mark.slow) for n, case in SLOW.items() if case.task is not None),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Source and export of a case, made when first asked for."""
    place = tmp_path_factory.mktemp("consumers")

    def make(name: str) -> tuple[Path, Path]:
        source, out = place / name, place / f"{name}-onnx"
        if not out.is_dir():
            acn_compress.export((CASES | SLOW)[name].make(source), out)
        return source, out

    return make


def check_inputs(directory: Path, case: Case, inputs: dict[str, Array]) -> None:
    """Their tokens or pixels are those of transformers."""
    if case.images:
        processor = hf.AutoImageProcessor.from_pretrained(directory)
        pixels = processor(list(PIXELS), return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(inputs["pixel_values"], pixels, atol=1e-6)
        return
    expected = hf.AutoTokenizer.from_pretrained(directory)(TEXTS, padding=True, return_tensors="np")
    for name in ("input_ids", "attention_mask"):
        np.testing.assert_array_equal(inputs[name], expected[name])


Made = Callable[[str], tuple[Path, Path]]


@pytest.mark.parametrize("name", IN_NODE)
@pytest.mark.long
def test_transformers_js_opens_it_and_says_what_torch_says(name: str, made: Made) -> None:
    source, out = made(name)
    case = (CASES | SLOW)[name]
    found = case.in_node(out)
    check_inputs(out, case, found["inputs"])
    assert difference(source, found) <= LIMIT
    if name == "sentences":
        assert "sentence_embedding" in found["outputs"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CASES, *SLOW])
def test_optimum_opens_it_and_says_what_torch_says(name: str, made: Made) -> None:
    source, out = made(name)
    case = (CASES | SLOW)[name]
    found = case.in_optimum(out)
    check_inputs(out, case, found["inputs"])
    assert difference(source, found) <= LIMIT


@pytest.mark.slow
def test_sentence_transformers_opens_it_and_says_what_it_says_of_the_source(made: Made) -> None:
    source, out = made("sentences")
    theirs = sentence_transformers(source, "torch", TEXTS)
    assert np.abs(sentence_transformers(out, "onnx", TEXTS) - theirs).max() <= LIMIT
    assert np.abs(in_graph(out) - theirs).max() <= LIMIT


def in_graph(directory: Path) -> Array:
    """The embeddings of the graph alone: a tokenizer, ONNX Runtime, nothing else."""
    session = onnxruntime.InferenceSession(str(directory / onnx_file()))
    encode = hf.AutoTokenizer.from_pretrained(directory)
    given = encode(TEXTS, padding=True, return_tensors="np", return_token_type_ids=True)
    (found,) = session.run(["sentence_embedding"], dict(given))
    return np.asarray(found)


def decoder(name: str, alpha: float, directory: Path) -> Path:
    """A pruned language model, whose tokenizer pads in front."""
    net = tiny(name, alpha)
    prune_(net, 0.4, refit=False)
    saved(net, directory)
    tokenizer(directory, frame=False, padding_side="left")
    return directory


@pytest.mark.slow
@pytest.mark.parametrize(("name", "alpha"), [("gpt2", 0.3), ("mistral", 0.4), ("qwen3", 0.0)])
def test_both_generate_from_the_cache_what_torch_generates_without(
    name: str, alpha: float, tmp_path: Path
) -> None:
    source, out = decoder(name, alpha, tmp_path / "m"), tmp_path / "onnx"
    acn_compress.export(source, out)
    rows: Rows = {"texts": TEXTS, "tokens": 10}
    for found in (
        transformers_js(out, "text-generation", rows),
        optimum(out, "ORTModelForCausalLM", rows),
    ):
        prompt = {k: torch.from_numpy(found["inputs"][k]) for k in ("input_ids", "attention_mask")}
        assert not bool(prompt["attention_mask"].all())
        expected = acn_compress.load(source).generate(
            **prompt, max_new_tokens=10, min_new_tokens=10, do_sample=False, use_cache=False
        )
        np.testing.assert_array_equal(found["outputs"]["sequences"], expected)


@pytest.mark.slow
def test_both_find_int8_by_the_name_they_know(made: Made, tmp_path: Path) -> None:
    source, _ = made("vit")
    case, out = CASES["vit"], tmp_path / "int8"
    acn_compress.export(source, out, quantize=("int8", "fp16", "int4"))
    for found in (case.in_node(out, "q8"), case.in_optimum(out, FILES["int8"])):
        assert difference(source, found) < 0.02
    for dtype in ("fp16", "q4"):
        check_inputs(out, case, (found := case.in_node(out, dtype))["inputs"])
        assert difference(source, found) < 0.2


@pytest.mark.slow
def test_weights_beside_the_graph_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a graph above 2 GB."""
    monkeypatch.setattr("acn_compress.onnx.write.LIMIT", 0)
    source, out = bert(tmp_path / "m"), tmp_path / "onnx"
    acn_compress.export(source, out)
    file = out / onnx_file()
    assert {p.name for p in file.parent.iterdir()} == {file.name, weights_of(file).name}
    case = CASES["bert"]
    for found in (case.in_node(out), case.in_optimum(out)):
        assert difference(source, found) <= LIMIT
