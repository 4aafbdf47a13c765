"""A CUDA build of torchvision beside a CPU build of torch breaks `import transformers` as a whole
("operator torchvision::nms does not exist"). Declaring the two operators it looks for is enough;
calling them still fails with a clear message. A torchvision that loads is left alone; one that
breaks in another way is named, with what to install.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acn_compress.on_import import when_imported

if TYPE_CHECKING:
    from acn_compress.errors import MissingDependencyError

_libraries: list[Any] = []  # torch forgets a library that nothing refers to


@when_imported("torch")
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


def broken_torchvision(error: BaseException) -> MissingDependencyError | None:
    """What to tell the user if torchvision is behind an import error (transformers hides it in the
    cause), or None."""
    from acn_compress.errors import MissingDependencyError, causes

    cause = next((cause for cause in causes(error) if "torchvision" in str(cause)), None)
    if cause is None:
        return None
    return MissingDependencyError(
        f"torchvision cannot be imported ({str(cause).splitlines()[0][:120]}), and transformers "
        f"and timm need it where it is installed. {fitting_torchvision()}"
    )


def stands_in_for_torchvision() -> bool:
    """Whether the torchvision that is installed is another build than torch, so that plain
    transformers cannot be imported beside it."""
    return bool(_libraries)


def fitting_torchvision() -> str:
    """How to install the torchvision that belongs to the torch that is installed."""
    from importlib.metadata import version

    torch, _, build = version("torch").partition("+")
    # torch 2.x is released with torchvision 0.(x + 15)
    wanted = f"torchvision==0.{int(torch.split('.')[1]) + 15}.*"
    index = f" --index-url https://download.pytorch.org/whl/{build}" if build else ""
    return (
        f"Install the one that belongs to torch {torch}: pip install --force-reinstall --no-deps "
        f"'{wanted}'{index}"
    )
