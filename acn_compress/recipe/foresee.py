"""What a recipe would do, before anything is done: what every step takes and makes, what its
training costs, and all that is missing."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from acn_compress import surface
from acn_compress.checkpoint.config import config_source, describe
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import from_config, load_source
from acn_compress.checkpoint.source import Source
from acn_compress.data.load import Columns, Data, label_names
from acn_compress.data.places import fingerprint
from acn_compress.data.splits import eval_split, training_split
from acn_compress.errors import AcnError, ConfigError
from acn_compress.measure.budget import forward_flops, training_flops
from acn_compress.network.device import find_device
from acn_compress.network.network import Network
from acn_compress.network.plain import plain_class
from acn_compress.network.threads import threads_for
from acn_compress.options import (
    EXTRAS,
    Compress,
    Export,
    Finetune,
    Profile,
    Prune,
    Route,
    Run,
    Trained,
    Verb,
)
from acn_compress.recipe import baseline
from acn_compress.recipe.run import check_eval_data, directory_of, recorded
from acn_compress.recipe.schema import Recipe
from acn_compress.reports.compressed import amount
from acn_compress.reports.planned import Planned, PlannedStep
from acn_compress.steps.compress.choose import TRIES
from acn_compress.tasks import task_called, task_named
from acn_compress.tasks.base import features
from acn_compress.training.fitted import steps_of

ENOUGH = 0.5  # seconds of a forward pass that is timed
BITS = {"fp16": 16, "int8": 8, "int8-static": 8, "int4": 4}  # of a parameter
MORE_DATA = ("refit_data", "vocabulary")  # options that name data beside what is trained on


@dataclass
class _Chain:
    """The network as far as the options say what becomes of it.

    Args:
        depth: blocks; None where a step will find it.
        width: the share of a block's matrices that is left; None likewise.
        examples: to train on.
        most: blocks, at most.
        rate: operations per second here.
    """

    net: Network | None
    examples: int | None
    depth: int | None = None
    width: float | None = 1.0
    most: int | None = None
    rate: float | None = None
    missing: list[str] = field(default_factory=list)

    @contextmanager
    def noting(self, where: str = "") -> Iterator[None]:
        """What is wrong in here is missing."""
        try:
            yield
        except AcnError as error:
            if not any(told.endswith(str(error)) for told in self.missing):
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
        before, parameters, asked = self.most, self.parameters, None
        if (depth := getattr(how, "depth", None)) is not None:
            self.depth = self.most = depth
        elif how.cuts or isinstance(how, Compress):
            self.depth = None
        if isinstance(how, Prune) and how.method == "structured" and self.width is not None:
            self.width *= 1 - (how.target_sparsity or 0.0)
        if isinstance(how, Compress):
            self.width, asked = None, _asked(how, parameters)
        steps, flops = self._training(how, self.depth or before)
        left = asked or self.parameters
        tells = how.writes or isinstance(how, Export)
        return PlannedStep(
            folder=folder,
            makes=_makes(how),
            blocks=self.depth if how.writes else None,
            parameters=left if tells else None,
            bytes=self._bytes(how, left) if tells else None,
            steps=steps,
            flops=flops,
            seconds=None if flops is None or self.rate is None else flops / self.rate,
            at_most=asked is not None,
            trains_at_most=flops is not None and (self.depth is None or isinstance(how, Compress)),
            limits=_limits(how),
        )

    def _bytes(self, how: Verb, parameters: int | None) -> int | None:
        """Of the weights that are written, in the precision of the network and those asked for."""
        if parameters is None or self.net is None:
            return None
        own: int = next(self.net.model.parameters()).element_size()
        more = [BITS[q] / 8 for q in how.quantize] if isinstance(how, Export) else []
        return round(parameters * (own + sum(more)))

    def _training(self, how: Verb, depth: int | None) -> tuple[int | None, float | None]:
        """Optimizer steps and operations; of a network that is pruned, those of the unpruned."""
        if not how.trains or self.examples is None or not isinstance(how, Trained):
            return None, None
        steps = steps_of(how, self.examples) * _trainings(how)
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
        chain.depth = chain.most = chain.net.depth
    shared = recipe.part(Trained)
    with chain.noting():
        device = find_device(how.device)
        if chain.net is not None:
            chain.net.model.to(device)
    with chain.noting("data: "):
        check_eval_data(recipe)
        if chain.net is None:
            fingerprint(recipe.data)
        else:
            data = training_split(shared, chain.net, source)
            chain.examples = len(data)
            chain.rate = _rate(chain.net, data, shared.batch_size)
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
    """The plain baseline, and every route: each may spend what the chain spends from the original
    up to its last conversion or cut."""
    plan = baseline.plan(recipe)
    if not plan and recipe.compare is None:
        return
    last, made = recipe.cutting[-1], [recipe.options(step) for step in recipe.steps]
    begin = next(i for i, how in enumerate(made) if not how.prepares and (i or not how.scratch))
    spending = [s for s in steps[begin : last + 1] if s.flops is not None]
    spent = {
        "flops": sum(s.flops or 0.0 for s in spending) or None,
        "seconds": sum(s.seconds or 0.0 for s in spending) or None,
        "trains_at_most": any(s.trains_at_most for s in spending),
    }
    first = steps[last].model_copy(update={**spent, "steps": None})
    if (routes := recipe.compare) is not None:
        count = len(routes.routes or get_args(Route)) * routes.seeds
        all_ = {name: count * value for name, value in spent.items() if value is not None}
        all_["trains_at_most"] = bool(spent["trains_at_most"])
        yield PlannedStep(folder="compare", makes=f"a table of {count} runs").model_copy(
            update=all_
        )
    if not plan:
        return
    rest = [s for s, given in zip(steps, recipe.steps, strict=True) if given.options.writes]
    same = [first, *rest[len(rest) - len(plan) + 1 :]]
    for number, (step, like) in enumerate(zip(plan, same, strict=True), 1):
        yield like.model_copy(update={"folder": f"baseline-{number}-{step.verb}"})


def _trainings(how: Trained) -> int:
    """How often a step trains: compress its candidates, at most, and its baseline."""
    if not isinstance(how, Compress):
        return 1
    candidates = 1 if how.timed or how.sized else TRIES
    return candidates * (2 if how.convert else 1) + 1


def _asked(how: Compress, before: int | None) -> int | None:
    """The most parameters that the options allow, of so many."""
    most = how.target_params
    if most is None or most > 1:
        return None if most is None else int(most)
    return None if before is None else int(most * before)


def _limits(how: Verb) -> tuple[str, ...]:
    """What a step of compress was asked for."""
    names = ("speedup", "max_latency_ms", "max_drop", "target_params", "target_size")
    given = [(name, getattr(how, name)) for name in names if isinstance(how, Compress)]
    return tuple(f"{name} {amount(name, value)}" for name, value in given if value is not None)


def _rate(net: Network, data: Data, batch_size: int) -> float:
    """Operations per second of a forward pass of some of the data, in batches as large as in
    training, or as take half a second."""
    outside, block = forward_flops(net)
    forward = outside + net.depth * block
    size = 1
    while True:
        rows = range(0, len(data), -(-len(data) // size))
        batch = data.examples.collate([data.examples[i] for i in rows])
        inputs = features({k: v.to(net.device) for k, v in batch.items()})
        with torch.inference_mode(), net.evaluating(), threads_for(net):
            took = min(_seconds(net, inputs) for _ in range(2))
        if took > ENOUGH or size >= min(batch_size, len(data)):
            return len(rows) * forward / took
        size = min(4 * size, batch_size, len(data))


def _seconds(net: Network, inputs: dict[str, Tensor]) -> float:
    began = time.perf_counter()
    float(net.answer(**inputs).flatten()[0])  # an accelerator answers before it has computed
    return time.perf_counter() - began


def _makes(how: Verb) -> str:
    """What a step leaves in its folder."""
    if isinstance(how, Profile):
        return "profile.json"
    if isinstance(how, Export):
        return f"{how.format}, verified"
    if isinstance(how, Compress):
        return "model, ONNX, report.html"
    return "model" if how.writes else "report"
