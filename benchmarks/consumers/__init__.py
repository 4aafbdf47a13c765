"""Who runs what export writes: transformers.js, optimum and sentence-transformers, each in a
process that knows nothing of this package (`make consumers` installs them)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import Any
from unittest import SkipTest

import numpy as np
import torch

from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.onnx.compare import of_tokens
from acn_compress.onnx.inputs import inputs_for
from acn_compress.onnx.session import Array

HERE = Path(__file__).parent
PYTHON = HERE / ".venv" / "bin" / "python"
LONGEST = 240  # seconds of a call

Rows = dict[str, Any]  # {"texts": [...]} or {"images": [...]}; "tokens" asks to generate so many
Said = dict[str, dict[str, Array]]  # {"inputs": ..., "outputs": ...}, numbers by name


class MissingConsumer(SkipTest):
    """A consumer is not installed; a test that needs it is skipped."""


def images(pixels: Array) -> Rows:
    """Bytes [count, height, width, channels] as rows."""
    _, height, width, channels = pixels.shape
    shape = {"height": height, "width": width, "channels": channels}
    return {"images": [shape | {"data": picture.ravel().tolist()} for picture in pixels]}


def picture(row: dict[str, Any]) -> Array:
    """The bytes [height, width, channels] of a row of `images`."""
    return np.asarray(row["data"], "uint8").reshape(row["height"], row["width"], row["channels"])


def transformers_js(directory: Path, task: str, rows: Rows, dtype: str = "fp32") -> Said:
    """What the pipeline of a task says in node.

    Args:
        directory: with the ONNX file.
        task: by its name in transformers.js.
        rows: what it is given.
        dtype: the file, by the name transformers.js has for it: fp32, or q8 for int8.
    Raises:
        MissingConsumer: if it is not there.
    """
    if which("node") is None or not (HERE / "node_modules").is_dir():
        raise MissingConsumer("transformers.js (node, npm and `make consumers` bring it)")
    given = {"directory": str(directory), "task": task, "dtype": dtype, **rows}
    return _arrays(_told(["node", "pipeline.mjs"], given))


def optimum(directory: Path, name: str, rows: Rows, file: str | None = None) -> Said:
    """What an ORTModel class of optimum says.

    Args:
        directory: with the ONNX file.
        name: of the class.
        rows: what it is given.
        file: the name of the graph, where it is not model.onnx.
    Raises:
        MissingConsumer: if it is not there.
    """
    given = {"directory": str(directory), "class": name, "file": file, **rows}
    return _arrays(_told([_python(), "optimum_runs.py"], given))


def sentence_transformers(directory: Path, backend: str, texts: Sequence[str]) -> Array:
    """The embeddings [texts, width] of sentence-transformers, in torch or ONNX Runtime.

    Raises:
        MissingConsumer: if it is not there.
    """
    given = {"directory": str(directory), "backend": backend, "texts": list(texts)}
    return np.asarray(_told([_python(), "sentences_run.py"], given), "float32")


def _python() -> Path:
    if not PYTHON.is_file():
        raise MissingConsumer("optimum and sentence-transformers (`make consumers` brings them)")
    return PYTHON


def _told(command: Sequence[str | Path], given: dict[str, Any]) -> Any:
    """What a script answers to `given`."""
    done = subprocess.run(
        command,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        cwd=HERE,
        env={"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        timeout=LONGEST,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout)


def _arrays(found: dict[str, Any]) -> Said:
    return {
        side: {k: np.asarray(v["data"]).reshape(v["shape"]) for k, v in given.items()}
        for side, given in found.items()
    }


def paired(source: Path, found: Said) -> dict[str, tuple[Array, ...]]:
    """By output: what torch says to those of their inputs that the graph has, and what they say,
    padding left out."""
    net = load_source(find_source(source))
    taken = inputs_for(net, 1, 4, 0)
    given = {k: torch.from_numpy(v) for k, v in found["inputs"].items() if k in taken}
    given |= {k: v.float() for k, v in given.items() if v.is_floating_point()}
    with torch.inference_mode():
        said = dict(net(**given))
        if net.sentence is not None and "last_hidden_state" in said:
            mask = given["attention_mask"]
            said["sentence_embedding"] = net.sentence(said["last_hidden_state"], mask)
    names = [name for name in found["outputs"] if name in said]
    sides = [said[n].numpy() for n in names], [found["outputs"][n] for n in names]
    return dict(zip(names, of_tokens(found["inputs"], names, *sides), strict=True))


def difference(source: Path, found: Said) -> float:
    """The largest between their outputs and torch's for their inputs.

    Raises:
        ValueError: if they gave no output of the network's.
    """
    return max(
        float(np.abs(ours - theirs).max()) for ours, theirs in paired(source, found).values()
    )
