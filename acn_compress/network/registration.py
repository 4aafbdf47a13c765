"""Teaches transformers the compressed model types, so that
`AutoModelFor...from_pretrained(directory)` and `pipeline` work.

A compressed ViT has the model type "acn_vit": plain transformers refuses it rather than load
something else. Classes are made from the family's own ("AcnViTForImageClassification" is a
ViTForImageClassification). Nothing is imported early: the config classes are registered when
transformers' auto module is first loaded, the model classes when a compressed config is made.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from acn_compress.architectures import ARCHITECTURES, PREFIX, architecture_of
from acn_compress.on_import import when_imported

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


@cache
def config_class(base: type[PreTrainedConfig]) -> type[PreTrainedConfig]:
    """The compressed twin of a transformers config class."""

    def __post_init__(self: PreTrainedConfig, **kwargs: object) -> None:
        super(cls, self).__post_init__(**kwargs)
        _register_models(cast(Any, cls), cast(Any, base))

    fields = {
        "model_type": PREFIX + base.model_type,
        "__annotations__": {"acn": "dict | None"},
        "acn": None,
    }
    cls: type[PreTrainedConfig] = type(
        f"Acn{base.__name__}",
        (base,),
        {**fields, "__post_init__": __post_init__, "__module__": __name__},
    )
    return cls


@cache
def model_class(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The compressed twin of a transformers model class; its constructor builds the structure its
    config describes."""
    from acn_compress.network import widths
    from acn_compress.network.network import Network
    from acn_compress.network.structure import Structure

    def __init__(
        self: PreTrainedModel, config: PreTrainedConfig, *args: object, **kwargs: object
    ) -> None:
        super(cls, self).__init__(config, *args, **kwargs)
        net = Network(self, architecture_of(config))
        structure = Structure.read(
            getattr(config, "acn", None), getattr(config, "name_or_path", "") or "config.json"
        )
        if structure.widths is not None:
            widths.resize_(net, structure.widths)
        net.wrap_()
        net.set_alphas_(structure.alpha, structure.layer)

    body = {
        "__init__": __init__,
        "config_class": config_class(base.config_class),
        "__module__": __name__,
    }
    cls: type[PreTrainedModel] = type(f"Acn{base.__name__}", (base,), body)
    return cls


@cache
def _register_models(config: Any, base: Any) -> None:
    from transformers.models.auto import modeling_auto

    for auto in vars(modeling_auto).values():
        mapping = getattr(auto, "_model_mapping", None) if isinstance(auto, type) else None
        if mapping is None or base not in mapping:
            continue
        models = mapping[base]
        twin = (
            tuple(model_class(m) for m in models)
            if isinstance(models, tuple)
            else model_class(models)
        )
        mapping.register(config, twin, exist_ok=True)


@when_imported("transformers.models.auto.configuration_auto")
def _register_configs(auto: Any) -> None:
    """Runs in the middle of transformers' own import, so it only leaves names; they are resolved by
    `__getattr__` below."""
    for name in ARCHITECTURES:
        auto.CONFIG_MAPPING._mapping[PREFIX + name] = "Acn" + auto.CONFIG_MAPPING_NAMES[name]
        auto.CONFIG_MAPPING._modules[auto.model_type_to_module_name(PREFIX + name)] = sys.modules[
            __name__
        ]


def __getattr__(name: str) -> type:
    """The compressed twin of any transformers class, by name; this is also how pickle finds it."""
    import transformers

    base = getattr(transformers, name.removeprefix("Acn"), None) if name.startswith("Acn") else None
    if not isinstance(base, type):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return (
        config_class(base) if issubclass(base, transformers.PreTrainedConfig) else model_class(base)
    )
