"""The plain baseline of a recipe: what people do without us, for what the chain cost.

Conversion and truncation are replaced by dropping the last blocks of the original and training what
is left (distilled from it) for as many floating-point operations as the chain spent. Every later
training or pruning step is done to it in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from acn_compress.checkpoint.files import read_json
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.measure.budget import training_flops
from acn_compress.network.network import Network
from acn_compress.options import Compare, Convert, Prefixes, Training, Verb
from acn_compress.recipe.schema import Recipe, Step

if TYPE_CHECKING:
    from acn_compress.recipe.run import Made


class Budget(NamedTuple):
    """What the chain spent up to its last conversion or cut.

    Args:
        depth: of the chain there.
        epochs: at that depth that cost as much.
        of_whole: epochs of the whole network that do.
    """

    depth: int
    epochs: float
    of_whole: float


def plan(recipe: Recipe) -> list[Step]:
    """The baseline's steps: one finetune in place of everything up to the last conversion or cut,
    then what is left of the recipe."""
    if not recipe.baseline or not recipe.shrinks:
        return []
    given = _conversion(recipe)[0].given
    left_out = {"epochs", "prefix_loss", "prefix_depths"}
    same = {k: v for k, v in given.items() if k in Prefixes.model_fields.keys() - left_out}
    first = Step(verb="finetune", given={"teacher": "original", **same})
    rest = recipe.steps[recipe.cutting[-1] + 1 :]
    return [first, *(s for s in rest if s.options.writes)]


def comparison(recipe: Recipe, budget: Budget) -> Compare:
    """Every route to the chain's depth with its budget."""
    assert recipe.compare is not None
    _, how = _conversion(recipe)
    alpha = {"pull": how.pull} if how.pull else {"alpha_end": how.alpha_end}
    return how.part(
        Compare,
        **how.part(Training).model_dump() | {"epochs": budget.of_whole},
        depths=(budget.depth,),
        seeds=recipe.compare.seeds,
        routes=recipe.compare.routes,
        noise=recipe.noise,
        **{"alpha_end": None, **alpha},
    )


def _conversion(recipe: Recipe) -> tuple[Step, Convert]:
    """The last step that converts, and its options."""
    steps = [(step, recipe.options(step)) for step in recipe.steps]
    return next((s, how) for s, how in reversed(steps) if isinstance(how, Convert))


def equal_budget(recipe: Recipe, made: Sequence[Made], original: str) -> Budget:
    """What the chain spent since the original."""
    whole = load_source(find_source(original))
    depth = whole.depth
    start = next(i for i, m in enumerate(made) if m.path == original)
    later = [m for m in made[start + 1 :] if m.how is not None]
    last = max(i for i, m in enumerate(later) if m.how and (m.how.converts or m.how.cuts))
    spent = 0.0
    for m in later[: last + 1]:
        depth = _depth(m.path)
        assert m.how is not None
        if m.how.trains:
            spent += _spent(m.how, whole, depth) + _chosen(m.path)
    return Budget(
        depth,
        round(spent / training_flops(whole, depth=depth, teacher_depth=whole.depth), 4),
        round(spent / training_flops(whole, teacher_depth=whole.depth), 4),
    )


def _depth(path: str) -> int:
    """Blocks of the network a step wrote."""
    report = read_json(Path(path) / "report.json") or {}
    return len(report["structure"]["blocks"])


def _chosen(path: str) -> float:
    """Operations per training example that choosing the blocks to start from took."""
    found = read_json(Path(path) / "report.json") or {}
    return float(found.get("choosing_flops", 0.0)) / int(found.get("examples", 1))


def _spent(how: Verb, whole: Network, depth: int) -> float:
    """Operations per training example of a step, times its epochs."""
    training = how.part(Prefixes)
    flops = training_flops(
        whole,
        depth=depth,
        teacher_depth=whole.depth if how.distils else None,
        prefixes=training.prefixes,
    )
    return training.epochs * flops
