"""The graph of a language model goes on behind what it has read: in ONNX Runtime alone it generates
what torch does, with a cache and without; and every command that reads whole texts takes it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from brought import tokenizer
from tiny import saved, tiny

import acn_compress
from acn_compress.compression.depth import truncate_checked_
from acn_compress.compression.prune import prune_
from acn_compress.onnx.layout import FILES, FOLDER, onnx_file
from acn_compress.onnx.session import Array

TOKENS = 10
IDS = np.asarray([[0, 0, 0, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15], [0, 0, 0, 0, 0, 0, 20]])
MASK = (IDS > 0).astype("int64")


def greedy(file: Path) -> Array:
    """The tokens [batch, TOKENS] that follow, each from one token and what is kept of the rest."""
    session = onnxruntime.InferenceSession(str(file))
    names = [o.name for o in session.get_outputs()]
    kept = {name.replace("present", "past_key_values"): name for name in names[1:]}
    past: dict[str, Array] = {name: np.zeros((len(IDS), 1, 0, 1), "float32") for name in kept}
    ids, mask, found = IDS, MASK, []
    for _ in range(TOKENS):
        positions = np.maximum(mask.cumsum(1) - 1, 0)[:, -ids.shape[1] :]
        text = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        said = dict(zip(names, session.run(names, text | past), strict=True))
        past = {name: said[present] for name, present in kept.items()}
        ids = said["logits"][:, -1:].argmax(-1)
        mask = np.concatenate((mask, np.ones_like(ids)), 1)
        found.append(ids)
    return np.concatenate(found, 1)


def in_torch(source: Path, use_cache: bool) -> Array:
    found = acn_compress.load(source).generate(
        input_ids=torch.from_numpy(IDS),
        attention_mask=torch.from_numpy(MASK),
        max_new_tokens=TOKENS,
        min_new_tokens=TOKENS,
        do_sample=False,
        use_cache=use_cache,
        pad_token_id=0,
    )
    return np.asarray(found[:, IDS.shape[1] :])


@pytest.mark.parametrize(
    ("name", "alpha", "depth", "heads"), [("gpt2", 0.3, 3, [4, 4, 2]), ("qwen3", 0.0, 2, [2, 2])]
)
@pytest.mark.long
def test_it_generates_and_is_measured_as_torch(
    name: str, alpha: float, depth: int, heads: list[int], tmp_path: Path
) -> None:
    net, source, out = tiny(name, alpha), tmp_path / "m", tmp_path / "onnx"
    prune_(net, 0.4, refit=False)
    truncate_checked_(net, depth)
    saved(net, source)
    tokenizer(source, frame=False, eos_token=None)
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"w{i % 30} w{i * i % 29} w{i // 20}" for i in range(600)) + "\n")
    options: dict[str, Any] = {"data": str(text), "max_length": 16}
    report = acn_compress.export(
        source, out, quantize=("int8", "int8-static"), max_drop=1.0, **options
    )
    assert report["inputs"][2] == "position_ids" and len(report["outputs"]) == 1 + 2 * depth
    session = onnxruntime.InferenceSession(str(out / onnx_file()))
    assert [o.shape[1] for o in session.get_outputs()[1::2]] == heads

    found = greedy(out / onnx_file())
    np.testing.assert_array_equal(found, in_torch(source, use_cache=True))
    np.testing.assert_array_equal(found, in_torch(source, use_cache=False))
    assert greedy(out / FOLDER / FILES["int8"]).shape == found.shape

    (snippet,) = re.findall(r"```python\n(.+?)```", (out / "README.md").read_text(), re.DOTALL)
    with contextlib.chdir(tmp_path):
        exec(snippet, {})
    whole = report["files"][0]["measured"]
    assert whole["quality"]["value"] == report["quality"]["value"]
    ours, theirs = (acn_compress.evaluate(each, **options)["result"] for each in (out, source))
    assert ours["value"] == theirs["value"]
    assert acn_compress.benchmark([out])["rows"]
