"""Reading a checkpoint into a transformers model whose stack runs the equation, and writing one
back.

Every load proves, on the checkpoint itself, that alpha = 1 gives the family's own forward bit for
bit, before anything else.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from acn_compress.architectures import Architecture, architecture_of, base_type, timm
from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import weights
from acn_compress.checkpoint.directory import Source, find_source
from acn_compress.errors import CheckpointError, ConfigError, UnsupportedError, VerificationError
from acn_compress.network import stack
from acn_compress.network.registration import config_class, model_class, plain_class
from acn_compress.network.structure import Structure

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARD = "5GB"  # largest weight file
TASKS = {
    "image-classification": "AutoModelForImageClassification",
    "text-classification": "AutoModelForSequenceClassification",
    "text-regression": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "masked-lm": "AutoModelForMaskedLM",
    "causal-lm": "AutoModelForCausalLM",
    "features": "AutoModel",
}


def load(
    src: str | Path,
    *,
    config: str | Path | None = None,
    task: str | None = None,
    num_labels: int | None = None,
    labels: list[str] | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    verify: bool = True,
) -> PreTrainedModel:
    """Load a checkpoint in whatever form it is, ready to be called as in transformers.

    Args:
        src: model directory, Hub id, or weight file.
        config: for a weight file: config.json (or its directory), or the name of a timm model.
        task: one of TASKS, to read the network under another head than the checkpoint names. What
            the checkpoint lacks of it, or has in another size, is random; `fresh_of` says what.
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
    return load_source(
        find_source(src, config=config, revision=revision),
        task=task,
        num_labels=num_labels,
        labels=labels,
        device=device,
        verify=verify,
    )


def load_source(
    source: Source,
    *,
    task: str | None = None,
    num_labels: int | None = None,
    labels: list[str] | None = None,
    device: str | torch.device = "cpu",
    verify: bool = True,
) -> PreTrainedModel:
    """`load` for a source that has been found already."""
    _, cls, hf_config = describe(source, task)
    _set_head(
        hf_config,
        cls,
        task,
        labels or (None if num_labels is None else [f"LABEL_{i}" for i in range(num_labels)]),
    )
    with _quiet():
        model, info = weights.read(source, cls, hf_config, new_head=task is not None)
    fresh = weights.check_keys(source, model, info, new_head=task is not None)
    adopt_(model)
    model.acn_fresh = fresh
    if verify:
        verify_alpha_one(model, source.name)
    model.eval()
    return cast("PreTrainedModel", model.to(device))


def fresh_of(model: Any) -> str | None:
    """One sentence about the tensors of a head that were not in the checkpoint, or None if it had
    them all."""
    names: tuple[str, ...] = getattr(model, "acn_fresh", ())
    if not names:
        return None
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"The checkpoint has no such head: {len(names)} tensors began at random ({shown})."


def _set_head(hf_config: Any, cls: Any, task: str | None, labels: list[str] | None) -> None:
    """Give a config what its head is built for: its classes, and the token by which a decoder finds
    the end of a padded text."""
    if labels is not None:
        hf_config.id2label, hf_config.label2id = (
            dict(enumerate(labels)),
            {n: i for i, n in enumerate(labels)},
        )
    elif task == "text-regression":
        hf_config.num_labels, hf_config.problem_type = 1, "regression"
    elif task == "question-answering":
        hf_config.num_labels = 2  # start and end
    if (
        cls.__name__.endswith("ForSequenceClassification")
        and getattr(hf_config, "pad_token_id", None) is None
    ):
        end = getattr(
            hf_config, "eos_token_id", None
        )  # GPT-2 has no other; texts do not end with it
        hf_config.pad_token_id = end[0] if isinstance(end, list) else end


def from_config(
    path: str | Path, *, labels: list[str] | None = None, task: str | None = None
) -> PreTrainedModel:
    """A model with random weights from a transformers config file (or its directory), wrapped in
    residual form."""
    source, file = config_source(path)
    architecture, cls, hf_config = describe(source, task, file)
    _set_head(hf_config, cls, task, labels)
    try:
        model = cls(hf_config)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        AssertionError,
    ) as error:  # sizes that do not fit each other
        raise ConfigError(
            f"{path}: no {cls.__name__} can be made of this config: {(str(error).splitlines() or [repr(error)])[0]}"
        ) from None
    adopt_(model)
    verify_alpha_one(model, str(path))
    stack.unwrap_(model, architecture)
    architecture.init_(
        model
    )  # only now: a head that starts at zero would have made the proof say nothing
    stack.wrap_(model, architecture)
    return cast("PreTrainedModel", model)


def config_source(path: str | Path) -> tuple[Source, Path]:
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
        if task not in TASKS:
            raise ConfigError(f"task '{task}' is not known. Known: {', '.join(TASKS)}.")
        if task == "causal-lm" and base in transformers.AutoModelForMaskedLM._model_mapping:
            raise UnsupportedError(
                f"{source.name}: '{name}' reads both ways, so it cannot be a causal-lm. Choose masked-lm."
            )
        auto = getattr(transformers, TASKS[task])
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
    data = source.config if file is None else modeldir.read_json(file) or {}
    if source.architecture is not None:
        data = {
            "architecture": source.architecture,
            "num_classes": len(weights.plain_state(source).get("head.weight", ())),
        }
    return timm.complete(data, source.name)


def adopt_(model: Any) -> None:
    """Make a transformers model one of ours, in place: classes swapped, alpha 1 unless its config
    says otherwise."""
    architecture = architecture_of(model.config)
    check_blocks(model, architecture)
    current = getattr(model.config, "acn", None)
    depth = len(stack.blocks_of(model, architecture))
    structure = (
        Structure.residual(depth) if current is None else Structure.read(current, "config.json")
    )
    if plain_class(type(model)) is type(model):
        twin = config_class(cast(Any, type(model.config)))
        for module in model.modules():  # sub-models may hold a copy of the config
            if isinstance(getattr(module, "config", None), twin.__mro__[1]):
                module.config.__class__ = twin
        model.__class__ = model_class(cast(Any, type(model)))
    stack.wrap_(model, architecture)
    set_structure_(model, structure)


def check_blocks(model: Any, architecture: Architecture) -> None:
    """Refuse a model with other blocks than its adapter was written for.

    Raises:
        UnsupportedError: naming the block.
    """
    known = (architecture.block,) if isinstance(architecture.block, str) else architecture.block
    for i, block in enumerate(stack.blocks_of(model, architecture)):
        if (found := type(block).__name__.removeprefix("Acn")) not in known:
            raise UnsupportedError(
                f"block {i} is a {found}, expected {' or '.join(known)}: this adapter does not know it."
            )


def structure_of(model: Any) -> Structure:
    """The structure a model is in."""
    return Structure.model_validate(model.config.acn)


def set_structure_(model: Any, structure: Structure) -> None:
    """Give the model the alphas of `structure` and record it in its config; the depth must
    match."""
    architecture = architecture_of(model.config)
    assert len(stack.blocks_of(model, architecture)) == len(structure.blocks)
    stack.set_alphas_(model, architecture, structure.alpha, structure.layer)
    model.config.acn = structure.model_dump(mode="json")


@contextmanager
def alphas(model: Any, values: tuple[float, ...], layer: Any = None) -> Iterator[None]:
    """Inside, the model runs with other alphas; its structure comes back afterwards."""
    architecture, structure = architecture_of(model.config), structure_of(model)
    stack.set_alphas_(model, architecture, values, layer or structure.layer)
    try:
        yield
    finally:
        stack.set_alphas_(model, architecture, structure.alpha, structure.layer)


def verify_alpha_one(model: Any, where: str = "this model") -> None:
    """Prove that with alpha = 1 the swapped stack equals the family's own forward bit for bit.

    Raises:
        VerificationError: with the largest difference.
    """
    architecture, structure = architecture_of(model.config), structure_of(model)
    training, inputs = model.training, example_inputs(model)
    model.eval()
    with torch.inference_mode():
        with alphas(model, (1.0,) * len(structure.alpha)):
            ours = first_output(model(**inputs))
        stack.unwrap_(model, architecture)
        try:
            theirs = first_output(model(**inputs))
        finally:
            stack.wrap_(model, architecture)
    model.train(training)
    if not torch.allclose(ours, theirs, rtol=0.0, atol=0.0, equal_nan=True):
        raise VerificationError(
            f"{where}: alpha = 1 differs from the original by {(ours - theirs).abs().max():.1e}, expected 0. Please report this."
        )


def first_output(output: Any) -> Tensor:
    """The tensor a model is about: its logits, or start/end logits joined, or the last hidden
    state."""
    if getattr(output, "logits", None) is not None:
        return cast(Tensor, output.logits)
    if getattr(output, "start_logits", None) is not None:
        return torch.stack((output.start_logits, output.end_logits), -1)
    return cast(
        Tensor, output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0]
    )


def example_inputs(
    model: Any, batch: int = 2, length: int = 12, seed: int = 0
) -> dict[str, Tensor]:
    """Random inputs that the model accepts: [batch, channels, height, width] pixels, or [batch,
    length] tokens with a mask."""
    config, device = model.config, next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    if architecture_of(config).modality == "image":
        height, width = image_size(config)
        pixels = torch.randn(batch, channels(config), height, width, generator=generator)
        return {"pixel_values": pixels.to(device, next(model.parameters()).dtype)}
    shape = (batch, min(length, longest_text(config)))
    ids = torch.randint(
        5 if config.vocab_size > 16 else 0, config.vocab_size, shape, generator=generator
    )
    return {"input_ids": ids.to(device), "attention_mask": torch.ones_like(ids).to(device)}


def longest_text(config: Any) -> int:
    """Tokens every family can take, whatever it counts its positions from; 2^31 where positions do
    not end."""
    return int(getattr(config, "max_position_embeddings", None) or 1 << 31) - 2


def image_size(config: Any) -> tuple[int, int]:
    """Height and width the model expects."""
    size = (
        getattr(config, "image_size", None)
        or (getattr(config, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))[1:]
    )
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def channels(config: Any) -> int:
    """Colour channels the model expects."""
    return int(
        getattr(config, "num_channels", None)
        or (getattr(config, "pretrained_cfg", None) or {}).get("input_size", (3,))[0]
    )


def twin(model: Any) -> Any:
    """A copy that shares the model's parameters; blocks, alphas and probes are its own."""
    return copy.deepcopy(model, {id(p): p for p in model.parameters()})


def truncate_(model: Any, depth: int) -> None:
    """Cut the model to its first `depth` blocks, physically, and fix every config field that counts
    blocks."""
    architecture, structure = architecture_of(model.config), structure_of(model)
    keep_blocks_(model, tuple(range(depth)), architecture, structure)


def keep_blocks_(
    model: Any, positions: tuple[int, ...], architecture: Architecture, structure: Structure
) -> None:
    """Keep the blocks at `positions`; only a prefix is exact, anything else makes another model
    (the plain baseline)."""
    stack.keep_blocks_(model, architecture, positions)
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    for config in configs.values():
        for field in architecture.depth_fields:
            value = getattr(config, field, None)
            if isinstance(value, (list, tuple)):
                setattr(config, field, [value[i] for i in positions])
            elif value is not None:
                setattr(config, field, len(positions))
        architecture.record_depth_(config, len(positions))
    set_structure_(model, structure.kept(positions))


def check_depth(model: Any, depth: int, where: str) -> None:
    """Refuse a depth the model does not have.

    Raises:
        ConfigError: naming the range.
    """
    blocks = len(structure_of(model).blocks)
    if not 1 <= depth <= blocks:
        raise ConfigError(
            f"depth is {depth}, but {where} has {blocks} blocks. Choose 1 to {blocks}."
        )


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch."""
    from transformers import set_seed

    set_seed(seed)


def new_processor(model: Any, source: Source) -> Any:
    """What prepares the input of a model that was made from a config: a plain image processor, or
    the tokenizer beside the config; None for timm, whose config holds the settings of its
    processor."""
    if architecture_of(model.config).modality == "text":
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(source.directory, local_files_only=True)
    if hasattr(model.config, "pretrained_cfg"):
        return None
    from transformers import ViTImageProcessor

    (height, width), n = image_size(model.config), channels(model.config)
    return ViTImageProcessor(
        size={"height": height, "width": width}, image_mean=[0.5] * n, image_std=[0.5] * n
    )


def parameters(model: nn.Module) -> int:
    """Number of parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())


def save(model: Any, out: Path) -> None:
    """Write config.json and safetensors into an existing directory, and compare what was written
    with the model.

    A residual model of full widths is a plain transformers checkpoint and is written as one; any
    other gets a model type that plain transformers refuses.

    Raises:
        VerificationError: if the file does not hold the model's tensors.
    """
    structure = structure_of(model)
    with _quiet():
        model.save_pretrained(out, save_original_format=False, max_shard_size=SHARD)
    if structure.form == "residual" and structure.widths is None:
        data = modeldir.read_json(out / "config.json") or {}
        data |= {
            "model_type": base_type(data["model_type"]),
            "architectures": [plain_class(type(model)).__name__],
        }
        modeldir.write_json(out / "config.json", data)
    _verify_saved(model, out)


def _verify_saved(model: nn.Module, out: Path) -> None:
    from safetensors import safe_open

    state = model.state_dict()
    seen: set[int] = set()
    for file in sorted(out.glob("*.safetensors")):
        # read, not mapped: a mapped file's pages would count as a second copy of the model
        with safe_open(file, framework="pt", backend="pread") as tensors:
            for key in tensors.keys():  # noqa: SIM118  (not a dict)
                if key not in state or not torch.equal(
                    tensors.get_tensor(key), state[key].detach().cpu()
                ):
                    raise VerificationError(
                        f"{file.name}: '{key}' is not what the model holds. The disk or the file system is at fault."
                    )
                seen.add(state[key].data_ptr())
    lost = [k for k, v in state.items() if v.data_ptr() not in seen and v.numel()]
    if lost:
        raise VerificationError(f"{len(lost)} tensors were not written: {', '.join(lost[:3])}.")


@contextmanager
def _quiet() -> Iterator[None]:
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
