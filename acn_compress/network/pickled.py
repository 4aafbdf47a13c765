"""What stands between a network and pickle: layers whose weights are computed (the weight norm of
wav2vec 2.0's positions), which torch makes a class without a name and refuses to pickle, and the
hooks by which transformers collects hidden states."""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

Reduced = tuple[Callable[..., nn.Module], tuple[Any, ...], Any]


def let_pickle_(model: nn.Module) -> None:
    """Give the layers of a model that compute weights a way through pickle; copies have it too."""
    for layer in model.modules():
        if parametrize.is_parametrized(layer):
            copyreg.pickle(type(layer), _reduced)


def _reduced(layer: nn.Module) -> Reduced:
    computed = tuple(layer.get_submodule("parametrizations")._modules)
    state = dict(layer.__dict__)
    del state["_load_state_dict_pre_hooks"]  # torch's own, for weights of old files, has no name
    return _new_layer, (type(layer).__mro__[1], computed), state


def _new_layer(plain: type[nn.Module], computed: Iterable[str]) -> nn.Module:
    """A layer of torch's class, whose state is still to come."""
    layer = plain.__new__(plain)
    nn.Module.__init__(layer)
    for name in computed:
        layer.register_parameter(name, nn.Parameter(torch.empty(0)))
        parametrize.register_parametrization(layer, name, nn.Identity())
    let_pickle_(layer)
    return layer


def forget_collecting_(model: nn.Module) -> None:
    """Take transformers' hooks off, which have no name; it puts them on when it needs them."""
    for module in model.modules():
        if module.__dict__.pop("_output_capturing_hooks_installed", False):
            for part in module.modules():
                for key, hook in list(part._forward_hooks.items()):
                    if "output_capturing_hook" in getattr(hook, "__qualname__", ""):
                        del part._forward_hooks[key]
