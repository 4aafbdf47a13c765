"""acn-compress: trained transformer checkpoint in, smaller, faster, verified model out.

Every command is a function here: `load`, `inspect`, `convert`, `finetune`, `evaluate`, `profile`,
    `truncate`, `prune`, `export`,
`benchmark`, `compare`, `run`. Importing this package is light and teaches transformers the
compressed model types: afterwards `AutoModelFor...from_pretrained(directory)` and `pipeline` load
    what acn-compress wrote.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import acn_compress.compat
import acn_compress.network.registration  # noqa: F401  (both act on import)
from acn_compress.errors import AcnError

if TYPE_CHECKING:
    from acn_compress.checkpoint.load import load
    from acn_compress.recipe.run import run
    from acn_compress.steps.benchmark import benchmark
    from acn_compress.steps.compare import compare
    from acn_compress.steps.convert import convert
    from acn_compress.steps.evaluate import evaluate
    from acn_compress.steps.export import export
    from acn_compress.steps.finetune import finetune
    from acn_compress.steps.inspect import inspect
    from acn_compress.steps.profile import profile
    from acn_compress.steps.prune import prune
    from acn_compress.steps.truncate import truncate
    from acn_compress.training.job import Job
    from acn_compress.training.recipe import Recipe

__version__ = "0.1.0"
__all__ = [
    "AcnError",
    "Job",
    "Recipe",
    "benchmark",
    "compare",
    "convert",
    "evaluate",
    "export",
    "finetune",
    "inspect",
    "load",
    "profile",
    "prune",
    "run",
    "truncate",
]

_PLACES = {
    "load": "checkpoint.load",
    "run": "recipe.run",
    "Job": "training.job",
    "Recipe": "training.recipe",
}


def __getattr__(name: str) -> Any:
    """Import a verb when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'acn_compress' has no attribute {name!r}")
    return getattr(import_module(f"acn_compress.{_PLACES.get(name, f'steps.{name}')}"), name)
