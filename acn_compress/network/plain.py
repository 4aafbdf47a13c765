"""The class of the family behind a compressed one."""

from __future__ import annotations

from typing import TypeVar, cast

T = TypeVar("T")
MADE = "acn_compress.network.registration"  # where compressed classes say that they are from


def plain_class(cls: type[T]) -> type[T]:
    """The transformers class behind a compressed one; any other class is returned as it is."""
    return cast("type[T]", cls.__mro__[1]) if cls.__module__ == MADE else cls
