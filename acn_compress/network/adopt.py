"""A plain transformers model becomes one of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from acn_compress.architectures import architecture_of
from acn_compress.network.network import Network
from acn_compress.network.plain import plain_class
from acn_compress.network.registration import config_class, model_class
from acn_compress.network.structure import Structure

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def adopt(model: PreTrainedModel) -> Network:
    """Make a transformers model one of ours, in place: classes swapped, alpha 1 unless its config
    says otherwise.

    Raises:
        UnsupportedError: if its blocks are not those its adapter was written for.
    """
    net = Network(model, architecture_of(model.config))
    net.check_blocks()
    _keep_whole_(net)
    stored = getattr(model.config, "acn", None)
    structure = (
        Structure.residual(net.depth) if stored is None else Structure.read(stored, "config.json")
    )
    if plain_class(type(model)) is type(model):
        twin = config_class(cast(Any, type(model.config)))
        for module in model.modules():  # sub-models may hold a copy of the config
            if isinstance(getattr(module, "config", None), twin.__mro__[1]):
                module.config.__class__ = twin
        model.__class__ = model_class(cast(Any, type(model)))
    net.wrap_()
    net.set_structure_(structure)
    return net


def _keep_whole_(net: Network) -> None:
    """No LayerDrop, wherever a library keeps its rate: it leaves blocks out at random while it
    trains, and with the last one the sum of the stack."""
    for holder in [*net.configs, *net.model.modules()]:
        if getattr(holder, "layerdrop", 0.0):
            holder.layerdrop = 0.0
