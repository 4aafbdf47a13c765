"""What the config of a family can say of a network: whether plain transformers makes the very same
network of it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import torch

from acn_compress.network import widths
from acn_compress.network.plain import plain_class

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from acn_compress.network.network import Network


def can_say(net: Network, name: str, units: int) -> bool:
    """Whether a config of the family can say that every block has so many units of a width."""
    try:
        net.family.says[name](copy.deepcopy(net.config), units)
    except (KeyError, ValueError):
        return False
    return True


def say_widths_(net: Network) -> None:
    """Let the config say the widths of blocks that are all alike, where it can. Of others it says
    what they were cut from."""
    first, *rest = widths.counts(net)
    for name, units in first.items():
        if all(block == first for block in rest) and can_say(net, name, units):
            for config in net.configs:
                net.family.says[name](config, units)


def is_plain(net: Network) -> bool:
    """Whether plain transformers makes the very same network of the config: residual, and of full
    widths or of widths that its config says; then it is built, and answers bit for bit the same."""
    structure = net.structure
    if structure.form != "residual" or structure.widths is None:
        return structure.form == "residual"
    if any(block != structure.widths[0] for block in structure.widths):
        return False
    twin = _built(net)
    if twin is None:
        return False
    inputs = net.example_inputs()
    with torch.inference_mode(), net.evaluating():
        return torch.equal(net.answer(**inputs), type(net)(twin, net.family).answer(**inputs))


def _built(net: Network) -> PreTrainedModel | None:
    """What plain transformers builds from the config, with the network's own parameters in it; None
    if they do not fit."""
    from accelerate import init_empty_weights

    fields = {k: v for k, v in net.config.to_dict().items() if k not in ("model_type", "acn")}
    config = plain_class(type(net.config)).from_dict(fields)
    with init_empty_weights(include_buffers=False):
        model: Any = plain_class(type(net.model))(config)
    state = net.model.state_dict()
    if {k: v.shape for k, v in model.state_dict().items()} != {
        k: v.shape for k, v in state.items()
    }:
        return None
    model.load_state_dict(state, assign=True)
    return cast("PreTrainedModel", model.to(net.device).eval())
