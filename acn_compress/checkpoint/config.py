"""config.json: what a checkpoint says it is, read with suspicion. Keys that make transformers load
something else (code, adapters, kernels, other weights) are dropped or refused."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from acn_compress.architectures import Architecture, architecture_of, base_type, timm
from acn_compress.checkpoint.files import read_json, unread
from acn_compress.checkpoint.source import Source
from acn_compress.errors import AcnError, CheckpointError, ConfigError, UnsupportedError
from acn_compress.memory import shortage
from acn_compress.network.registration import config_class, model_class
from acn_compress.network.structure import Structure
from acn_compress.tasks import task_called

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

# what names a class is read by `describe`; the rest would load code, kernels, patches or weights
DROPPED = frozenset(
    [
        "model_type",
        "architectures",
        "transformers_version",
        "auto_map",
        "custom_pipelines",
        "transformers_weights",
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "experts_implementation",
        "_experts_implementation",
        "_experts_implementation_internal",
        "kernel_config",
        "use_kernels",
        "fusion_config",
        "distributed_config",
        "name_or_path",
        "_name_or_path",
        "_commit_hash",
        "base_model_name_or_path",
    ]
)
QUANTIZED = ("quantization_config", "compression_config")
# of timm's create_model: everything that fetches or reads weights
DROPPED_ARGS = frozenset(
    [
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "pretrained_strict",
        "checkpoint_path",
        "cache_dir",
        "scriptable",
        "exportable",
        "no_jit",
    ]
)
# fields that something is made of: a number beyond any model would fill the memory before a tensor
# could be found not to fit
LIMITS = (
    (re.compile(r".*(layers?|depth|num_blocks)"), 1000),
    (re.compile(r"num_(classes|labels)"), 1 << 20),
    (re.compile(r".*(size|dim|positions|embeddings|embd|inner|heads?|channels)"), 1 << 24),
    (re.compile(r".*"), 1 << 62),
)


def config_file(path: str | PathLike[str]) -> Path:
    """A config file that is named itself or by its directory."""
    file = Path(path).expanduser()
    return file / "config.json" if file.is_dir() else file


def config_source(path: str | PathLike[str]) -> tuple[Source, Path]:
    """A config file (or its directory) as a source without weights, and the file."""
    file = config_file(path)
    if not file.is_file():
        raise ConfigError(f"{path}: no such config file. Expected a transformers config.json.")
    return Source(str(path), file.parent, ()), file


def describe(
    source: Source, task: str | None, file: Path | None = None
) -> tuple[Architecture, type[PreTrainedModel], PreTrainedConfig]:
    """Family, model class and config of a checkpoint.

    Raises:
        CheckpointError, ModelDirError, UnsupportedError: in one line, for what config.json says.
    """
    import transformers

    data = config_of(source, file)
    if not isinstance(data.get("model_type"), str):
        raise CheckpointError(
            f"{source.name}: config.json has no model_type. Expected a transformers config."
        )
    name = base_type(data["model_type"])
    with fitting(source.name):
        architecture = architecture_of(
            type("Config", (), {**data, "__getattr__": lambda self, key: None})(), source.name
        )
    _check_plain(data, source.name)
    base = transformers.AutoConfig.for_model(name).__class__
    compressed = data["model_type"] != name
    if compressed or data.get("acn") is not None:  # plain transformers keeps what it does not know
        structure = Structure.read(data.get("acn"), f"{source.name}: config.json")
        _check_depth(structure, architecture, data, source.name)
    fields = {k: v for k, v in data.items() if k not in DROPPED}
    with fitting(source.name):
        hf_config = (config_class(base) if compressed else base).from_dict(fields)
    cls = (
        _named_class(data, base, source.name)
        if task is None
        else head_class(base.model_type, task, source.name)
    )
    return architecture, (model_class(cast(Any, cls)) if compressed else cls), hf_config


def head_class(name: str, task: str, where: str) -> type[PreTrainedModel]:
    """The class that reads a network of a type under the head of a task.

    Raises:
        UnsupportedError: if there is none.
    """
    import transformers

    base = transformers.AutoConfig.for_model(name).__class__
    wanted = task_called(task)
    if wanted.one_way and base in transformers.AutoModelForMaskedLM._model_mapping:
        raise UnsupportedError(
            f"{where}: '{name}' reads both ways, so it cannot be a {task}. Choose masked-lm."
        )
    auto = getattr(transformers, wanted.auto_class)
    if base not in auto._model_mapping:
        raise UnsupportedError(f"{where}: transformers has no {task} head for '{name}'.")
    found = auto._model_mapping[base]
    cls: type[PreTrainedModel] = found[0] if isinstance(found, tuple) else found
    return cls


def _named_class(
    data: Mapping[str, Any], base: type[PreTrainedConfig], where: str
) -> type[PreTrainedModel]:
    """The class that config.json names, or the headless one."""
    import transformers

    names = data.get("architectures") or [transformers.AutoModel._model_mapping[base].__name__]
    if not isinstance(names, list) or not isinstance(names[0], str):
        raise CheckpointError(f"{where}: config.json: architectures must be a list of names.")
    wanted = names[0].removeprefix("Acn")
    cls: object = getattr(transformers, wanted, None)
    if not isinstance(cls, type) or not issubclass(cls, transformers.PreTrainedModel):
        raise UnsupportedError(
            f"{where}: architectures names '{wanted}', which this transformers does not have."
        )
    if getattr(cls, "config_class", None) is not base:
        raise CheckpointError(
            f"{where}: config.json says model_type '{base.model_type}' but architectures "
            f"'{wanted}'."
        )
    return cls


def _check_plain(data: Mapping[str, Any], where: str) -> None:
    """Refuse weights that are not plain numbers, and sizes that no model has."""
    for key in QUANTIZED:
        if (found := data.get(key)) is not None:
            method = found.get("quant_method") if isinstance(found, dict) else found
            raise UnsupportedError(
                f"{where}: config.json has {key} ({str(method)[:40]}): its weights are quantised. "
                "Expected floating-point weights: use the checkpoint it was made from."
            )
    for key, value in _numbers(data):
        limit = next(most for pattern, most in LIMITS if pattern.fullmatch(key))
        if not (math.isfinite(value) and abs(value) <= limit):
            raise CheckpointError(
                f"{where}: config.json says {key} {str(value)[:20]}, expected a number of at most "
                f"{limit:,}."
            )


def _numbers(data: object, key: str = "") -> Iterator[tuple[str, int | float]]:
    """Every number with the key it stands under."""
    if isinstance(data, dict):
        for name, value in data.items():
            if name not in ("id2label", "label2id"):
                yield from _numbers(value, str(name))
    elif isinstance(data, list):
        for value in data:
            yield from _numbers(value, key)
    elif isinstance(data, (int, float)):
        yield key, data


def _check_depth(
    structure: Structure, family: Architecture, data: Mapping[str, Any], where: str
) -> None:
    for field in family.depth_fields:
        stated = data.get(field)
        if isinstance(stated, int) and stated != len(structure.blocks):
            raise CheckpointError(
                f"{where}: config.json says {field} {stated}, but its structure (acn) has "
                f"{len(structure.blocks)} blocks."
            )


@contextmanager
def fitting(where: str) -> Iterator[None]:
    """Inside, transformers makes a model of what config.json says; whatever it raises then is said
    in one line. A file that the system does not give, or memory that it has not, is no fault of
    the config's.

    Raises:
        CheckpointError: with the reason.
    """
    try:
        yield
    except AcnError:
        raise
    except Exception as error:  # every library has classes of its own for this
        if shortage(error) is not None:
            raise
        if isinstance(error, OSError) and error.errno is not None:  # of the system
            raise CheckpointError(unread(error.filename or where, error)) from error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(
            f"{where}: config.json does not describe a model that can be built: {reason}"
        ) from error


def config_of(source: Source, file: Path | None = None) -> dict[str, Any]:
    """The config of a checkpoint (or of `file`), completed where timm leaves out what transformers
    needs."""
    data = source.config if file is None else read_json(file) or {}
    if source.architecture is not None:
        data = {"architecture": source.architecture, "num_classes": _classes(source)}
    if isinstance(args := data.get("model_args"), dict):
        data = {**data, "model_args": {k: v for k, v in args.items() if k not in DROPPED_ARGS}}
    with fitting(source.name):
        return timm.complete(data, source.name)


def _classes(source: Source) -> int:
    """Rows of the head in a loose file of timm's."""
    head = source.tensors().get("head.weight")
    return 0 if head is None else len(head[:])
