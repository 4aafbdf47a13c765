"""An ONNX file as a model to be measured: run in ONNX Runtime, with the config and the tokenizer or
image processor that lie with it. It may be anybody's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import torch

from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint.config import config_file, fitting
from acn_compress.checkpoint.sentence import read_head
from acn_compress.checkpoint.source import Source
from acn_compress.errors import ModelDirError
from acn_compress.network.network import Network
from acn_compress.onnx.layout import beside, find_onnx
from acn_compress.tasks import task_of

CONFIG = "config.json"


@dataclass(frozen=True)
class Graph:
    """An ONNX file with what says how it is used.

    Args:
        file: where it lies.
        source: its config and processor files, without weights.
        net: what the config describes, without memory for weights: it tells the task, the labels
            and what the inputs are.
        remarks: what else lies beside the file.
    """

    file: Path
    source: Source
    net: Network
    remarks: tuple[str, ...]


def find_graph(src: object, config: str | PathLike[str] | None = None) -> Graph | None:
    """The ONNX file that `src` names, itself or its directory; None if it is none.

    Args:
        config: config.json of its original, or the directory of that; by default it lies with it.
    Raises:
        ModelDirError, CheckpointError, UnsupportedError: in one line, if what lies with it does not
            say how it is used.
    """
    file = find_onnx(src) if isinstance(src, (str, Path)) else None
    if file is None:
        return None
    described = _described_by(file, config)
    source = Source(str(src), described.parent, ())
    architecture, cls, hf_config = checkpoint.describe(source, None, described)
    with fitting(source.name), torch.device("meta"):
        net = Network(cls(hf_config), architecture)
    net = replace(net, told=checkpoint.told(net, source))
    if task_of(net).taught:
        net = replace(net, sentence=read_head(source))
    others = "" if file == Path(str(src)) else beside(file)
    return Graph(file, source, net, (others,) if others else ())


def _described_by(file: Path, config: str | PathLike[str] | None) -> Path:
    """Its config.json: the one that is named, or that beside it or around `onnx`."""
    if config is not None:
        if (named := config_file(config)).is_file():
            return named
        raise ModelDirError(f"{config}: no {CONFIG}. Expected that of the original of {file}.")
    for place in (file.parent, file.parent.parent):
        if (place / CONFIG).is_file():
            return place / CONFIG
    raise ModelDirError(
        f"{file}: no {CONFIG} beside it or one directory up, so labels and inputs are unknown. "
        "Pass --config with the directory of its original: config.json and tokenizer or processor."
    )
