"""What torch's exporter knows of ONNX, made once. It makes the table of its operators anew for
every export: for a small network a fifth of the time, and `compress` exports a dozen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_tables: dict[object, Any] = {}  # by what they were asked for with


@contextmanager
def kept_operators() -> Iterator[None]:
    """Inside, the exporter takes the table that was made before; outside it is torch's own affair,
    as others may add to theirs. Without effect where torch keeps it elsewhere: that is private."""
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        before, make = vars(ONNXRegistry)["from_torchlib"], ONNXRegistry.from_torchlib
    except (ImportError, KeyError):
        yield
        return

    def kept(*given: Any, **named: Any) -> Any:
        key = (given, tuple(named.items()))
        if key not in _tables:
            _tables[key] = make(*given, **named)
        return _tables[key]

    setattr(ONNXRegistry, "from_torchlib", staticmethod(kept))  # noqa: B010
    try:
        yield
    finally:
        setattr(ONNXRegistry, "from_torchlib", before)  # noqa: B010
