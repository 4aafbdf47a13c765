"""A CUDA build of torchvision beside a CPU build of torch breaks `import transformers` as a whole
("operator torchvision::nms does not exist"). Declaring the two operators it looks for is enough; calling them still fails
with a clear message. A torchvision that loads is left alone.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import wrapt

_libraries: list[Any] = []  # torch forgets a library that nothing refers to


@wrapt.when_imported("torch")
def declare_torchvision_operators(torch: Any) -> None:
    """Runs when torch is first imported (or at once if it has been)."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    library = next(Path(spec.origin).parent.glob("_C*.so"), None)
    try:
        if library is not None:
            torch.ops.load_library(str(library))
            return
    except OSError:
        pass
    declared = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        declared.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(declared)
