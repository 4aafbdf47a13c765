"""acn-compress: trained transformer checkpoint in, smaller, faster, verified model out.

    import acn_compress as acn

    acn.run("quickstart")
    acn.convert("my-vit", "acn", "digits", epochs=8)
    model = acn.load("acn")

Every command is a function here. Importing this package is light and teaches transformers the
compressed model types: afterwards `AutoModelFor...from_pretrained(directory)` and `pipeline` load
what acn-compress wrote.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import acn_compress.compat
import acn_compress.network.registration  # noqa: F401  (both act on import)
from acn_compress.errors import AcnError

if TYPE_CHECKING:
    from acn_compress.checkpoint.load import load
    from acn_compress.deprecated import Job
    from acn_compress.recipe.schema import Recipe
    from acn_compress.verbs import (
        benchmark,
        compare,
        compress,
        convert,
        doctor,
        evaluate,
        export,
        finetune,
        init,
        inspect,
        profile,
        prune,
        push,
        run,
        truncate,
        validate,
    )

__version__ = "0.1.0"
__all__ = [
    "AcnError",
    "Job",
    "Recipe",
    "benchmark",
    "compare",
    "compress",
    "convert",
    "doctor",
    "evaluate",
    "export",
    "finetune",
    "init",
    "inspect",
    "load",
    "profile",
    "prune",
    "push",
    "run",
    "truncate",
    "validate",
]

_PLACES = {"load": "checkpoint.load", "Job": "deprecated", "Recipe": "recipe.schema"}


def __getattr__(name: str) -> object:
    """Import a name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'acn_compress' has no attribute {name!r}")
    return getattr(import_module(f"acn_compress.{_PLACES.get(name, 'verbs')}"), name)


def __dir__() -> list[str]:
    """What tab completion offers."""
    return [*__all__, "__version__"]
