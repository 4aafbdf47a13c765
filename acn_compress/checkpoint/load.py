"""Reading a checkpoint into a transformers model whose stack runs the equation.

Every load proves, on the checkpoint itself, that alpha = 1 gives the family's own forward bit for
bit, before anything else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from acn_compress.architectures import Architecture, architecture_of, base_type, timm
from acn_compress.checkpoint import weights
from acn_compress.checkpoint.files import read_json
from acn_compress.checkpoint.padding import set_padding_
from acn_compress.checkpoint.sentence import read_head
from acn_compress.checkpoint.source import Source, find_source
from acn_compress.errors import CheckpointError, ConfigError, UnsupportedError
from acn_compress.network.network import Network
from acn_compress.network.registration import config_class, model_class, plain_class
from acn_compress.network.structure import Structure
from acn_compress.tasks import head_named, task_called

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load(
    src: str | PathLike[str] | PreTrainedModel,
    *,
    config: str | PathLike[str] | None = None,
    task: str | None = None,
    num_labels: int | None = None,
    labels: list[str] | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    verify: bool = True,
) -> PreTrainedModel:
    """Load a checkpoint in whatever form it is, ready to be called as in transformers.

    Args:
        src: model directory, Hub id, weight file, or a transformers model (of which this is a copy).
        config: for a weight file: config.json (or its directory), or the name of a timm model.
        task: one of TASKS, to read the network under another head than the checkpoint names. What
            the checkpoint lacks of it, or has in another size, is random.
        num_labels: labels of that head.
        labels: their names.
        revision: of a Hub id.
        device: where the model goes.
        verify: prove alpha = 1 bit-equal to the family's own forward.
    Returns:
        The transformers model (a subclass of its class), in evaluation mode.
    Raises:
        CheckpointError, ModelDirError, UnsupportedError, VerificationError: in one line each.
    """
    names = labels or (None if num_labels is None else [f"LABEL_{i}" for i in range(num_labels)])
    source = find_source(src, config=config, revision=revision)
    return load_source(source, task=task, labels=names, device=device, verify=verify).model


def load_source(
    source: Source,
    *,
    task: str | None = None,
    labels: list[str] | None = None,
    device: str | torch.device = "cpu",
    verify: bool = True,
) -> Network:
    """The network of a source that has been found already; the options are those of `load`.
    `fresh_head` of it says what of its head is random."""
    _, cls, hf_config = describe(source, task)
    _set_head(hf_config, cls, task, labels, source)
    with quiet():
        model, info = weights.read(source, cls, hf_config, new_head=task is not None)
    fresh = weights.check_keys(source, model, info, new_head=task is not None)
    task_here = head_named(plain_class(cls).__name__)
    sentence = read_head(source) if task_here is not None and task_here.taught else None
    net = replace(Network.adopt(model), fresh=fresh, sentence=sentence)
    if verify:
        net.verify_alpha_one(source.name)
    model.eval().to(device)
    return net


def _set_head(
    hf_config: Any, cls: Any, task: str | None, labels: list[str] | None, source: Source
) -> None:
    """Give a config what its head is built for: its classes, and the token by which a decoder finds
    the end of a padded text."""
    made_up = labels is not None and labels == [f"LABEL_{i}" for i in range(hf_config.num_labels)]
    if labels is not None and not made_up:  # names of its own say more
        hf_config.id2label, hf_config.label2id = (
            dict(enumerate(labels)),
            {n: i for i, n in enumerate(labels)},
        )
    if task is not None:
        task_called(task).set_head_(hf_config)
    if cls.__name__.endswith("ForSequenceClassification"):
        set_padding_(hf_config, source)


def from_config(
    path: str | PathLike[str], *, labels: list[str] | None = None, task: str | None = None
) -> Network:
    """A network with random weights from a transformers config file (or its directory), in residual
    form."""
    source, file = config_source(path)
    architecture, cls, hf_config = describe(source, task, file)
    _set_head(hf_config, cls, task, labels, source)
    try:
        model = cls(hf_config)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:  # sizes that do not fit
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise ConfigError(
            f"{path}: no {cls.__name__} can be made of this config: {reason}"
        ) from None
    net = Network.adopt(model)
    net.verify_alpha_one(str(path))
    net.unwrap_()
    architecture.init_(model)  # only now: a head of zeros would have made the proof say nothing
    net.wrap_()
    return net


def config_source(path: str | PathLike[str]) -> tuple[Source, Path]:
    """A config file (or its directory) as a source without weights, and the file."""
    file = Path(path).expanduser()
    file = file / "config.json" if file.is_dir() else file
    if not file.is_file():
        raise ConfigError(f"{path}: no such config file. Expected a transformers config.json.")
    return Source(str(path), file.parent, ()), file


def describe(
    source: Source, task: str | None, file: Path | None = None
) -> tuple[Architecture, Any, Any]:
    """Family, model class and config of a checkpoint."""
    import transformers

    data = config_of(source, file)
    if not isinstance(data.get("model_type"), str):
        raise CheckpointError(
            f"{source.name}: config.json has no model_type. Expected a transformers config."
        )
    name = base_type(data["model_type"])
    architecture = architecture_of(
        type("Config", (), {**data, "__getattr__": lambda self, key: None})(), source.name
    )
    base = transformers.AutoConfig.for_model(name).__class__
    compressed = data["model_type"] != name
    fields = {
        k: v
        for k, v in data.items()
        if k not in {"model_type", "architectures", "transformers_version"}
    }
    if compressed:
        Structure.read(data.get("acn"), f"{source.name}: config.json")
    try:
        hf_config = (config_class(base) if compressed else base).from_dict(fields)
    except Exception as error:  # transformers' own validation raises its own classes
        raise CheckpointError(
            f"{source.name}: config.json is not a valid {name} config: {str(error).splitlines()[0]}"
        ) from None
    if task is not None:
        wanted_task = task_called(task)
        if wanted_task.one_way and base in transformers.AutoModelForMaskedLM._model_mapping:
            raise UnsupportedError(
                f"{source.name}: '{name}' reads both ways, so it cannot be a {task}. Choose masked-lm."
            )
        auto = getattr(transformers, wanted_task.auto_class)
        if base not in auto._model_mapping:
            raise UnsupportedError(f"{source.name}: transformers has no {task} head for '{name}'.")
        found = auto._model_mapping[base]
        cls = found[0] if isinstance(found, tuple) else found
    else:
        names = data.get("architectures") or []
        wanted = (
            names[0].removeprefix("Acn")
            if names
            else transformers.AutoModel._model_mapping[base].__name__
        )
        cls = getattr(transformers, wanted, None)
        if cls is None or not hasattr(cls, "from_pretrained"):
            raise UnsupportedError(
                f"{source.name}: architectures names '{wanted}', which this transformers does not have."
            )
        if cls.config_class is not base:
            raise CheckpointError(
                f"{source.name}: config.json says model_type '{name}' but architectures '{wanted}'."
            )
    return architecture, (model_class(cls) if compressed else cls), hf_config


def config_of(source: Source, file: Path | None = None) -> dict[str, Any]:
    """The config of a checkpoint (or of `file`), completed where timm leaves out what transformers
    needs."""
    data = source.config if file is None else read_json(file) or {}
    if source.architecture is not None:
        data = {
            "architecture": source.architecture,
            "num_classes": _classes(source),
        }
    return timm.complete(data, source.name)


def _classes(source: Source) -> int:
    """Rows of the head in a loose file of timm's."""
    head = source.tensors().get("head.weight")
    return 0 if head is None else len(head[:])


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch."""
    from transformers import set_seed

    set_seed(seed)


def new_processor(net: Network, source: Source) -> Any:
    """What prepares the input of a network that was made from a config: a plain image processor, or
    the tokenizer beside the config; None for timm, whose config holds the settings of its
    processor."""
    if net.modality == "text":
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(source.directory, local_files_only=True)
    if hasattr(net.config, "pretrained_cfg"):
        return None
    from transformers import ViTImageProcessor

    (height, width), n = net.image_size, net.channels
    return ViTImageProcessor(
        size={"height": height, "width": width}, image_mean=[0.5] * n, image_std=[0.5] * n
    )


@contextmanager
def quiet() -> Iterator[None]:
    """transformers' loading bars and reports are replaced by our own checks."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(logging.CRITICAL)
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()
