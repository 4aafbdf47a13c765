"""What a recipe would do, before anything is done: what every step takes and makes, what its
training costs, and all that is missing."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from acn_compress import surface
from acn_compress.checkpoint.config import config_source, describe
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import from_config, load_source
from acn_compress.checkpoint.source import Source
from acn_compress.data.load import Columns, label_names
from acn_compress.data.places import fingerprint
from acn_compress.data.splits import eval_split, training_split
from acn_compress.errors import AcnError, ConfigError
from acn_compress.measure.budget import training_flops
from acn_compress.network.network import Network
from acn_compress.network.plain import plain_class
from acn_compress.options import (
    EXTRAS,
    Compress,
    Export,
    Finetune,
    Profile,
    Prune,
    Run,
    Trained,
    Verb,
)
from acn_compress.recipe import baseline
from acn_compress.recipe.run import check_eval_data, directory_of, recorded
from acn_compress.recipe.schema import Recipe
from acn_compress.reports.planned import Planned, PlannedStep
from acn_compress.tasks import task_called, task_named
from acn_compress.training.fitted import steps_of

MORE_DATA = ("refit_data", "vocabulary")  # options that name data beside what is trained on


@dataclass
class _Chain:
    """The network as far as the options say what becomes of it.

    Args:
        depth: blocks; None where a step will find it.
        width: the share of a block's matrices that is left; None likewise.
        examples: to train on.
    """

    net: Network | None
    examples: int | None
    depth: int | None = None
    width: float | None = 1.0
    missing: list[str] = field(default_factory=list)

    @contextmanager
    def noting(self, where: str = "") -> Iterator[None]:
        """What is wrong in here is missing."""
        try:
            yield
        except AcnError as error:
            self.missing.append(f"{where}{error}")

    @property
    def parameters(self) -> int | None:
        """About so many."""
        if self.net is None or self.depth is None or self.width is None:
            return None
        blocks = self.net.blocks
        whole = sum(p.numel() for block in blocks for p in block.parameters()) / len(blocks)
        matrices = sum(p.numel() for b in blocks for p in b.parameters() if p.dim() > 1)
        left = whole - (1 - self.width) * matrices / len(blocks)
        return round(self.net.parameters - len(blocks) * whole + self.depth * left)

    def after(self, folder: str, how: Verb) -> PlannedStep:
        """What a step makes of it."""
        with self.noting(f"{folder}: "):
            self._check(how, folder)
        before = self.depth
        if (depth := getattr(how, "depth", None)) is not None:
            self.depth = depth
        elif how.cuts or isinstance(how, Compress):
            self.depth = None
        if isinstance(how, Prune) and how.method == "structured" and self.width is not None:
            self.width *= 1 - (how.target_sparsity or 0.0)
        if isinstance(how, Compress):
            self.width = None
        steps, flops = self._training(how, self.depth or before)
        return PlannedStep(
            folder=folder,
            makes=_makes(how),
            blocks=self.depth if how.writes else None,
            parameters=self.parameters if how.writes else None,
            steps=steps,
            flops=flops,
        )

    def _training(self, how: Verb, depth: int | None) -> tuple[int | None, float | None]:
        """Optimizer steps and operations; of a network that is pruned, those of the unpruned."""
        if not how.trains or self.examples is None or not isinstance(how, Trained):
            return None, None
        steps = steps_of(how, self.examples)
        if self.net is None or depth is None:
            return steps, None
        teacher = self.net.depth if how.distils else None
        each = training_flops(self.net, depth=depth, teacher_depth=teacher, prefixes=how.prefixes)
        return steps, each * steps * how.batch_size * how.accumulate

    def _check(self, how: Verb, folder: str) -> None:
        """What a step reads beside its source, and what it must find."""
        for name in MORE_DATA:
            if (data := getattr(how, name, None)) is not None:
                fingerprint(data)
        teacher = getattr(how, "teacher", None)
        if teacher not in (None, "original"):
            find_source(teacher)
        depth = getattr(how, "depth", None)
        if depth is not None and self.depth is not None and depth > self.depth:
            raise ConfigError(f"depth is {depth}, but the model has {self.depth} blocks by then.")
        if isinstance(how, Export) and how.format in EXTRAS and find_spec(how.format) is None:
            raise ConfigError(
                f"format {how.format} needs an extra: pip install 'acn-compress[{how.format}]'."
            )


def foresee(recipe: Recipe, how: Run, named: str | None = None) -> Planned:
    """What running a recipe would do. Nothing is written; source and data are read.

    Args:
        named: how the recipe was asked for; default: its own name.
    """
    recipe = recipe.starting_at(how.source, how.data, how.seed)
    first, chain = recipe.options(recipe.steps[0]), _Chain(None, None)
    source = measured = None
    with chain.noting("source: "):
        if (isinstance(first, Finetune) and first.scratch) or not isinstance(recipe.source, str):
            source, chain.net = _new(recipe, first)
        else:
            source = find_source(recipe.source)
            chain.net = load_source(source)
        chain.depth = chain.net.depth
    shared = recipe.part(Trained)
    with chain.noting("data: "):
        check_eval_data(recipe)
        if chain.net is None:
            fingerprint(recipe.data)
        else:
            chain.examples = len(training_split(shared, chain.net, source))
            found = eval_split(shared, chain.net, source)
            measured = None if found is None else len(found)
    out = directory_of(recipe, how)
    finished: tuple[str, ...] = ()
    with chain.noting():
        record = recorded(out)
        known = {} if record is None or how.overwrite else record.steps
        finished = tuple(name for name, entry in known.items() if entry.finished)
    steps = [
        chain.after(f"{n}-{step.verb}", recipe.options(step))
        for n, step in enumerate(recipe.steps, 1)
    ]
    return Planned(
        step=how.verb,
        recipe=recipe.name,
        out=str(out),
        source="a new network" if isinstance(recipe.source, dict) else str(recipe.source),
        data=str(recipe.plain()["data"]),
        examples=chain.examples,
        eval_examples=measured,
        steps=(*steps, *_baseline(recipe, steps)),
        finished=finished,
        missing=tuple(dict.fromkeys(chain.missing)),
        command=surface.typed(Run, [named or recipe.name], how.changed(dry_run=False)),
    )


def _new(recipe: Recipe, how: Verb) -> tuple[Source | None, Network]:
    """The network that the first step would make of a config, with weights that mean nothing."""
    with tempfile.TemporaryDirectory() as place:
        config = recipe.source
        if isinstance(config, dict):
            path = Path(place) / "config.json"
            path.write_text(json.dumps(config), encoding="utf-8")
        else:
            path = Path(str(config))
        beside, file = config_source(path)
        named = getattr(how, "task", None)
        family, cls, found = describe(beside, named, file)
        task = task_called(named) if named else task_named(plain_class(cls).__name__, found)
        labels = label_names(recipe.data, Columns.of(recipe), task)
        net = from_config(path, labels=labels, task=named)
    return (None if family.modality == "image" else beside), net


def _baseline(recipe: Recipe, steps: list[PlannedStep]) -> Iterator[PlannedStep]:
    """The plain baseline: it may spend what the chain spends up to its last conversion or cut."""
    plan = baseline.plan(recipe)
    if not plan:
        return
    last = recipe.cutting[-1]
    spent = sum(s.flops for s in steps[: last + 1] if s.flops is not None) or None
    first = steps[last].model_copy(update={"flops": spent, "steps": None})
    rest = [s for s, given in zip(steps, recipe.steps, strict=True) if given.options.writes]
    same = [first, *rest[len(rest) - len(plan) + 1 :]]
    for number, (step, like) in enumerate(zip(plan, same, strict=True), 1):
        yield like.model_copy(update={"folder": f"baseline-{number}-{step.verb}"})


def _makes(how: Verb) -> str:
    """What a step leaves in its folder."""
    if isinstance(how, Profile):
        return "profile.json"
    if isinstance(how, Export):
        return f"{how.format}, verified"
    if isinstance(how, Compress):
        return "model, ONNX, report.html"
    return "model" if how.writes else "report"
