"""Out of memory, in the words of whatever library ran out of it, said as what it is: a fault of the
size that was asked for and not of the file or of this package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from acn_compress.errors import OutOfMemoryError, causes

if TYPE_CHECKING:
    from acn_compress.options import Verb

SAID = re.compile(
    r"out of memory|(can't|cannot|could not|failed to|unable to) allocate|bad.?alloc|ALLOC_FAILED",
    re.IGNORECASE,
)
"""torch's allocators (CPU, CUDA, MPS), cuBLAS, mmap, numpy, C++ and onnxruntime."""


def shortage(error: BaseException) -> str | None:
    """What the first line of an error, or of one that led to it, says of memory that could not be
    had; None if it is another error."""
    for cause in causes(error):
        first = (str(cause).splitlines() or [""])[0]
        if isinstance(cause, MemoryError):
            return first
        if isinstance(cause, RuntimeError | OSError) and (said := SAID.search(first)):
            return first[first.rfind(":", 0, said.start()) + 1 :].strip()
    return None


@contextmanager
def telling(how: Verb) -> Iterator[None]:
    """Inside, out of memory is an `OutOfMemoryError` that says which options ask for less."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemoryError) or (said := shortage(error)) is None:
            raise
        why = f" ({said[:160]})" if said else ""
        raise OutOfMemoryError(f"out of memory{why}. {advice(how)}") from error


@contextmanager
def doing_without() -> Iterator[None]:
    """Inside is something that may be left out where there is no memory for it."""
    try:
        yield
    except Exception as error:
        if shortage(error) is None:
            raise


def advice(how: Verb) -> str:
    """What to do about it: whatever the options of a verb have that needs less."""
    has = how.plain()
    lower = [f"--batch-size (now {has['batch_size']})"] if has.get("batch_size", 1) > 1 else []
    lower += ["--max-length"] if "max_length" in has else []
    ways = [f"lower {' or '.join(lower)}"] if lower else []
    ways += ["pass --checkpointing"] if has.get("checkpointing") is False else []
    told = ", or ".join([*ways, "take a machine with more"])
    return f"{told[0].upper()}{told[1:]}."
