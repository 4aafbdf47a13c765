"""A device that is not there: its tensors lie on the CPU, but say that they are on another device,
which has no float64 and does not compute with tensors of the CPU, as Apple's MPS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from acn_compress.network.network import Network

MIXES = ("copy", "aten.index")  # calls that take tensors of the CPU too
NAME = "meta"  # of the device: torch has no free one


class Elsewhere(Tensor):
    """A tensor on it."""

    held: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        if inner.dtype == torch.float64:
            raise TypeError("this device has no float64")
        made: Elsewhere = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            dtype=inner.dtype,
            device=torch.device(NAME),
            requires_grad=inner.requires_grad,
        )
        made.held = inner
        return made

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, call: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _computed(call, args, kwargs or {})


class Device(TorchDispatchMode):
    """Inside, tensors may be made on it."""

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(call, args, kwargs or {})


def _computed(call: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """A call on the CPU; what comes out lies where what went in did, or where it was asked for."""
    given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    here = [isinstance(t, Elsewhere) for t in given if t.dim() or isinstance(t, Elsewhere)]
    asked, mixes = kwargs.get("device"), any(word in str(call) for word in MIXES)
    if any(here) and not all(here) and not mixes:
        raise RuntimeError(f"{call}: tensors on two devices")
    there = any(here) if asked is None else torch.device(asked).type == NAME
    if str(call) == "aten.copy_.default":
        there = bool(here) and here[0]
    inner = tree_map(lambda t: t.held if isinstance(t, Elsewhere) else t, (args, kwargs))
    if asked is not None:
        inner[1]["device"] = "cpu"
    found = call(*inner[0], **inner[1])
    mine = {id(t.held): t for t in given if isinstance(t, Elsewhere)}  # changed in place

    def placed(t: Any) -> Any:
        if not isinstance(t, Tensor) or not there:
            return t
        return mine.get(id(t)) if id(t) in mine else Elsewhere(t)

    return tree_map(placed, found)


@contextmanager
def elsewhere(net: Network) -> Iterator[Network]:
    """Inside, the network lies there."""
    made = torch.tensor  # on such a device it would be empty

    def tensor(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
        found = made(data, **kwargs)
        return found if device is None else found.to(device)

    device = Device()  # type: ignore[no-untyped-call]
    with device, mock.patch("torch.tensor", tensor):
        for module in net.model.modules():
            for name, parameter in list(module._parameters.items()):
                if parameter is not None:
                    moved = nn.Parameter(Elsewhere(parameter.detach().clone()))
                    module._parameters[name] = moved
            for name, buffer in list(module._buffers.items()):
                if buffer is not None:
                    module._buffers[name] = Elsewhere(buffer.clone())
        yield net
