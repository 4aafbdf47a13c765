"""timm's models, through transformers' own `TimmWrapper` (model type "timm_wrapper"): MLP-Mixer
(arXiv 2105.01601), ViT, DeiT3 (arXiv 2204.07118), BEiT (arXiv 2106.08254) and those that timm
builds as EVA (arXiv 2211.07636): EVA-02, its own DINOv3. All are pre-norm; a Mixer block mixes
tokens where a ViT block attends, and LayerScale belongs to the branch. The wrapper's config names
the timm model (`architecture`) and how it departs from its defaults (`model_args`).

timm's own Mixers fix their size (`mixer_b16_224` takes no number of blocks), so a cut one, or one
of your own size, is registered
with timm as `mlp_mixer`: its model_args are patch_size, num_blocks, embed_dim and the rest, or
    `base` and num_blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from acn_compress.architectures.base import Architecture, Cut, Width
from acn_compress.compat import broken_torchvision
from acn_compress.errors import CheckpointError, ConfigError, MissingDependencyError
from acn_compress.form import Branch
from acn_compress.on_import import when_imported

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

MODEL_TYPE = "timm_wrapper"
OWN_MIXER = "mlp_mixer"
FIXED = ("patch_size", "num_blocks", "embed_dim")  # of timm's own Mixers
MODULES = (
    "mlp_mixer",
    "vision_transformer",
    "deit",
    "beit",
    "eva",
)  # of timm.models: where the blocks below are used


@when_imported("timm.models.mlp_mixer")
def _register(module: ModuleType) -> None:
    from timm.models._builder import build_model_with_cfg
    from timm.models._registry import register_model

    def mlp_mixer(
        pretrained: bool = False, base: str | None = None, num_blocks: int = 8, **kwargs: Any
    ) -> Any:
        if base is None:
            cfg = kwargs.pop("pretrained_cfg", None) or {
                "input_size": (3, 224, 224),
                "mean": (0.5,) * 3,
                "std": (0.5,) * 3,
            }
            return build_model_with_cfg(
                module.MlpMixer,
                OWN_MIXER,
                False,
                pretrained_cfg=cfg,
                num_blocks=num_blocks,
                **kwargs,
            )
        model = getattr(module, base)(**kwargs)
        model.blocks = model.blocks[:num_blocks]
        return model

    register_model(mlp_mixer)


def library() -> ModuleType:
    """The timm package.

    Raises:
        MissingDependencyError: saying what to install, for timm as for the torchvision it needs.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"timm models need the timm extra ({str(error.name).partition('.')[0]} is not "
            "installed): pip install 'acn-compress[timm]'"
        ) from None
    except (ImportError, RuntimeError, OSError) as error:
        raise (
            broken_torchvision(error)
            or MissingDependencyError(f"timm cannot be imported: {str(error)[:120]}")
        ) from None
    module: ModuleType = timm
    return module


def is_name(text: str) -> bool:
    """Whether `text` could be the name of a timm model rather than a path."""
    return text.replace("_", "").replace(".", "").replace("-", "").isalnum() and not text.endswith(
        ".json"
    )


def check_name(name: object, where: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        ConfigError: with the nearest names.
    """
    timm = library()
    if not isinstance(name, str) or not timm.is_model(name):
        import difflib

        near = difflib.get_close_matches(str(name), timm.list_models(), n=3)
        raise ConfigError(
            f"{where}: timm {timm.__version__} has no model '{name}'."
            + (f" Did you mean {', '.join(near)}?" if near else "")
        )


def complete(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A config as the wrapper needs it, from any that means a timm model; every other config is
    returned as it is.

    timm's own directories name neither model type nor class, and a config written by hand need not
    repeat what timm knows: the size of the input, the normalisation, the classes. `model_args` wins
        over timm's defaults.

    Raises:
        CheckpointError, ConfigError, MissingDependencyError: if there is no such model.
    """
    full = dict(data)
    if "model_type" not in full and "architecture" in full:
        full["model_type"] = MODEL_TYPE
    if not str(full.get("model_type")).endswith(MODEL_TYPE):
        return full
    check_name(full.get("architecture"), f"{where}: architecture")
    args, stored = full.get("model_args") or {}, full.get("pretrained_cfg")
    if not isinstance(args, dict) or not isinstance(stored or {}, dict):
        raise CheckpointError(f"{where}: model_args and pretrained_cfg must be objects.")
    cfg = dict(stored) if stored else _default_cfg(full["architecture"])
    channels, *size = cfg.get("input_size", (3, 224, 224))
    channels, size = args.get("in_chans", channels), args.get("img_size", size)
    cfg["input_size"] = [channels, *(size if isinstance(size, (list, tuple)) else (size, size))]
    if (
        (fixed := [k for k in FIXED if k in args])
        and full["architecture"] != OWN_MIXER
        and _is_mixer(full["architecture"])
    ):
        raise ConfigError(
            f"{where}: timm's {full['architecture']} does not take {fixed[0]} in model_args. Set "
            f"architecture to {OWN_MIXER}."
        )
    if not stored:
        cfg |= {"mean": list(cfg["mean"])[:channels], "std": list(cfg["std"])[:channels]}
        if (
            "img_size" in args
        ):  # images come at this size; a border was cropped from those timm was trained on
            cfg["crop_pct"] = 1.0
    full["pretrained_cfg"] = cfg
    classes = full.get("num_classes", args.get("num_classes", cfg.get("num_classes", 1000)))
    full["model_args"] = {k: v for k, v in args.items() if k != "num_classes"}
    if "id2label" not in full:
        full["num_classes"] = classes
    full.setdefault(
        "architectures",
        ["TimmWrapperModel" if classes == 0 else "TimmWrapperForImageClassification"],
    )
    full["image_processor_type"] = "TimmWrapperImageProcessor"
    return full


def _default_cfg(name: str) -> dict[str, Any]:
    """What timm knows about the input of a model without a checkpoint."""
    cfg = library().get_pretrained_cfg("mixer_b16_224" if name == OWN_MIXER else name)
    keys = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")
    return {
        k: list(v) if isinstance(v, tuple) else v for k, v in cfg.to_dict().items() if k in keys
    }


def fit(cfg: Mapping[str, Any]) -> list[Any]:
    """timm's own resizing and cropping for evaluation, steps from PIL image to PIL image; what
    follows them makes tensors and normalises."""
    data = library().data
    steps = data.create_transform(
        **data.resolve_data_config(dict(cfg), verbose=False), is_training=False
    ).transforms
    return [
        step
        for step in steps
        if type(step).__name__ not in {"ToTensor", "MaybeToTensor", "Normalize"}
    ]


def refuse(config: PreTrainedConfig) -> str | None:
    name = config.architecture
    check_name(name, "config.json: architecture")
    if "_rope_mixed_" in name:
        return f"timm's '{name}' rotates every block by angles of its own, one set for each depth."
    if name == OWN_MIXER or library().models.is_model_in_modules(name, MODULES):
        return None
    return (
        f"timm's '{name}' is none of the families with an adapter. "
        "Known: MLP-Mixer (mixer_*), ViT (vit_*), DeiT3 (deit3_*), BEiT (beit*), EVA (eva*)."
    )


def init_(model: PreTrainedModel) -> None:
    """timm's own random weights, in place of the normal distribution that the wrapper draws all
    linear layers from. In a short trial on CIFAR-10 (6,000 images, 3 epochs, one seed) Mixer and
    ViT ended 1.6 points higher on average, in 5 of 6 runs. They start with a head of zeros."""
    model.timm_model.init_weights()


def record_depth_(config: PreTrainedConfig, depth: int) -> None:
    args = config.model_args or {}
    if not _is_mixer(config.architecture):
        config.model_args = {**args, "depth": depth}
        return
    if config.architecture != OWN_MIXER:
        args = {**args, "base": config.architecture.split(".")[0]}
        config.architecture = OWN_MIXER
    config.model_args = {**args, "num_blocks": depth}


def _is_mixer(name: str) -> bool:
    return name == OWN_MIXER or bool(library().models.is_model_in_modules(name, "mlp_mixer"))


def branches(block: Any, *args: Any, **kwargs: Any) -> tuple[Branch, ...]:
    if hasattr(block, "mlp_tokens"):
        return (
            Branch(
                lambda h: block.drop_path(
                    block.mlp_tokens(block.norm1(h).transpose(1, 2)).transpose(1, 2)
                )
            ),
            Branch(lambda h: block.drop_path(block.mlp_channels(block.norm2(h)))),
        )
    return (
        Branch(
            lambda h: block.drop_path1(
                _scaled(block, 1, block.attn(block.norm1(h), *args, **kwargs))
            )
        ),
        Branch(lambda h: block.drop_path2(_scaled(block, 2, block.mlp(block.norm2(h))))),
    )


def _scaled(block: Any, number: int, x: Any) -> Any:
    """LayerScale behind the first or second branch: a module (ViT), or a parameter or None."""
    if hasattr(block, f"ls{number}"):
        return getattr(block, f"ls{number}")(x)
    gamma = getattr(block, f"gamma_{number}")
    return x if gamma is None else gamma * x


def widths(block: Any) -> dict[str, Width]:
    if hasattr(block, "mlp_tokens"):
        return {**_mlp(block, "mlp_tokens", "tokens"), **_mlp(block, "mlp_channels", "mlp")}
    return {
        **_heads(block.attn, _scale(block, 1)),
        **_mlp(block, "mlp", "mlp", _scale(block, 2)),
    }


def _scale(block: Any, number: int) -> str | None:
    """The parameter of LayerScale, where the model has it."""
    if hasattr(block, f"ls{number}"):
        return f"ls{number}.gamma" if hasattr(getattr(block, f"ls{number}"), "gamma") else None
    return None if getattr(block, f"gamma_{number}") is None else f"gamma_{number}"


def _heads(attn: Any, scale: str | None) -> dict[str, Width]:
    """Attention heads; none where something normalises across them, or where they have to be as
    wide as the stream together (BEiT's and EVA's own attention)."""
    fused = getattr(attn, "qkv", None) is not None and hasattr(attn, "attn_dim")
    if not fused or not _is_identity(attn.norm):
        return {}
    gate = () if attn.gate is None else (Cut("attn.gate", attn.head_dim),)
    qkv = Cut("attn.qkv", attn.head_dim, parts=3)
    units = attn.proj.in_features // attn.head_dim
    return {
        "heads": Width(
            units, outputs=(qkv, *gate), inputs=(Cut("attn.proj", attn.head_dim, scale=scale),)
        )
    }


def _mlp(block: Any, path: str, name: str, scale: str | None = None) -> dict[str, Width]:
    """Features between the two layers of an MLP, plain or gated; none where something normalises
    across them."""
    mlp = block.get_submodule(path)
    first = {
        "Mlp": (Cut(f"{path}.fc1"),),
        "GluMlp": (Cut(f"{path}.fc1", parts=2),),
        "SwiGLU": (Cut(f"{path}.fc1_g"), Cut(f"{path}.fc1_x")),
    }
    outputs = first.get(type(mlp).__name__)
    if outputs is None or not _is_identity(mlp.norm):
        return {}
    return {
        name: Width(
            mlp.fc2.in_features,
            outputs=outputs,
            inputs=(Cut(f"{path}.fc2", scale=scale, along_tokens=name == "tokens"),),
        )
    }


def _is_identity(module: object) -> bool:
    return type(module).__name__ == "Identity"


def fix_widths_(block: Any) -> None:
    """timm's attention does not read its widths from the weights."""
    if hasattr(getattr(block, "attn", None), "attn_dim"):
        block.attn.attn_dim = block.attn.proj.in_features
        block.attn.num_heads = block.attn.attn_dim // block.attn.head_dim


ARCHITECTURE = Architecture(
    model_type=MODEL_TYPE,
    block=("MixerBlock", "Block", "EvaBlock"),
    blocks="blocks",
    branches=branches,
    widths=widths,
    modality="image",
    fix_widths_=fix_widths_,
    depth_fields=(),
    record_depth_=record_depth_,
    init_=init_,
    checkpointing=False,
    refuse=refuse,
)
