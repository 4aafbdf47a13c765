"""run: the steps of a recipe and the plain baseline beside them."""

from __future__ import annotations

from acn_compress.events import Progress
from acn_compress.network.device import find_device
from acn_compress.options import Run
from acn_compress.recipe import run as chain
from acn_compress.recipe.foresee import foresee
from acn_compress.recipe.read import read
from acn_compress.recipe.schema import Recipe
from acn_compress.reports.planned import Planned
from acn_compress.reports.ran import Ran


def run(recipe: str | Recipe, how: Run, progress: Progress | None = None) -> Ran | Planned:
    """Run a recipe: a file, a packaged one by its name, or one made in Python; or say what it would
    do."""
    named = None if isinstance(recipe, Recipe) else str(recipe)
    found = recipe if isinstance(recipe, Recipe) else read(recipe)
    if how.dry_run:
        return foresee(found, how, named)
    return chain.run(found, how, device=find_device(how.device), progress=progress, named=named)
