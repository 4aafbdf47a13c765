"""The card of a directory: what a stranger reads, the Hub indexes, and its snippets, executed."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path
from typing import Any

import brought
import pytest
import transformers as hf
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from tiny import saved, tiny

import acn_compress
from acn_compress.checkpoint.licence import inherited
from acn_compress.checkpoint.source import Source

SNIPPET = re.compile(r"```python\n(.*?)```", re.DOTALL)
THEIRS = """---
license: apache-2.0
license_link: https://example.org/licence
language: [en]
datasets:
- someone/texts
base_model: someone/big
tags: [private-stuff]
pipeline_tag: fill-mask
---
# Somebody's model
"""


def card(directory: Path) -> Any:
    found = ModelCard.load(directory / "README.md")
    found.data.to_yaml()  # as the Hub reads it
    return found


def executed(directory: Path) -> list[str]:
    """Every snippet, run where the directory lies; those for libraries that are not here are
    not."""
    snippets = SNIPPET.findall((directory / "README.md").read_text())
    with contextlib.chdir(directory.parent), contextlib.redirect_stdout(io.StringIO()):
        for snippet in snippets:
            if "sentence_transformers" not in snippet:
                exec(snippet, {})
    return snippets


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of texts with a card of its own."""
    directory = brought.bert(tmp_path_factory.mktemp("models") / "reader", labels=["no", "yes"])
    brought.tokenizer(directory)
    (directory / "README.md").write_text(THEIRS)
    return directory


@pytest.mark.parametrize("plain", [True, False])
def test_a_measured_step_leaves_a_card_that_the_hub_understands(
    plain: bool, reader: Path, tmp_path: Path
) -> None:
    labels = ["no", "yes"] * 10
    data = brought.table(tmp_path / "rows.csv", text=brought.texts(20), label=labels)
    how: dict[str, Any] = {"target_sparsity": 0.3, "data": data, "uniform": plain}
    report = acn_compress.prune(reader, tmp_path / "small", score="magnitude", **how)
    found = card(tmp_path / "small").data
    assert found.library_name == ("transformers" if plain else "acn-compress")
    assert (found.license, found.base_model) == ("apache-2.0", "someone/big")
    assert (found.datasets, found.language) == (["someone/texts"], ["en"])
    assert found.pipeline_tag == "text-classification" and "private-stuff" not in found.tags
    (result,) = found.eval_results
    assert found.model_name == "small"
    assert (result.metric_type, result.dataset_name) == ("accuracy", "rows.csv")
    assert result.metric_value == pytest.approx(report["after"]["value"], abs=1e-4)
    assert "n = 20" in result.metric_name
    name, results = model_index_to_eval_results(found.to_dict()["model-index"])
    assert name == "small" and results == [result]
    load, pipe = executed(tmp_path / "small")
    assert "tokenizer" in load and "pipeline(" in pipe
    assert ("acn_compress" in load + pipe) is not plain


@pytest.mark.long
def test_pictures_and_sentences_have_snippets_of_their_own(tmp_path: Path) -> None:
    assert len(executed(saved(tiny("vit"), tmp_path / "bare"))) == 1  # no processor lies there
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes = {"intermediate_size": 16, "image_size": 16, "patch_size": 8}
    hf.ViTForImageClassification(hf.ViTConfig(**shape, **sizes)).save_pretrained(tmp_path / "vit")
    hf.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "vit")
    acn_compress.truncate(tmp_path / "vit", tmp_path / "seen", depth=1)
    load, pipe = executed(tmp_path / "seen")
    assert "AutoImageProcessor" in load and "pipeline(" in pipe
    encoder = brought.encoder(tmp_path / "encoder", {"pooling_mode_mean_tokens": True})
    brought.tokenizer(encoder)
    (encoder / "README.md").write_text(THEIRS)
    acn_compress.truncate(encoder, tmp_path / "short", depth=1)
    acn_compress.export(tmp_path / "short", tmp_path / "onnx")
    assert 'SentenceTransformer("short")' in executed(tmp_path / "short")[-1]
    session, sentences = executed(tmp_path / "onnx")
    assert "InferenceSession" in session and 'backend="onnx"' in sentences
    assert card(tmp_path / "onnx").data.license == "apache-2.0"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("---\nlicense: mit\ndatasets: a/b\n---\n", {"license": "mit", "datasets": "a/b"}),
        ("---\nlicense: mit\ndatasets: {a: [\n---\n", {"license": "mit"}),
        ("---\n- a\n---\n", {}),
        ("---\nlanguage: no\nbase_model: [1, 2]\ndatasets: []\n---\n", {}),
        ("# none\n", {}),
    ],
)
def test_what_is_handed_on(text: str, found: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(text)
    assert inherited(Source("model", tmp_path, ())) == found


def test_what_came_from_the_hub_is_the_base(tmp_path: Path) -> None:
    place = tmp_path / "models--someone--big" / "snapshots" / "0123"
    place.mkdir(parents=True)
    (place / "README.md").write_text(THEIRS)
    assert inherited(Source("someone/big@main", place, ()))["base_model"] == "someone/big"
    assert os.fspath(place) not in str(inherited(Source("someone/big", place, ())))
