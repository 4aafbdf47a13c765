"""validate: check a recipe, every fault at once."""

from __future__ import annotations

from acn_compress.events import Progress
from acn_compress.options import Validate
from acn_compress.recipe.read import read
from acn_compress.reports.ran import Validated


def run(recipe: str, how: Validate, progress: Progress | None = None) -> Validated:
    """Check a recipe file, or a packaged recipe."""
    found = read(recipe)
    return Validated(step=how.verb, recipe=str(recipe), name=found.name, steps=len(found.steps))
