"""run: the steps of a recipe, one folder each; finished ones are reused only if their source's
weights, options and versions match.

Beside the chain runs the plain baseline: the recipe with conversion and truncation replaced by what
    people do without us, dropping
the last blocks of the original and training them (distilled from it) for as many floating-point
operations as the chain spent. Every later training or pruning step is done to it in the same way.
The final table has both.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.data.load import Columns, has_eval_split
from acn_compress.errors import ConfigError, DataError, ModelDirError
from acn_compress.measure.budget import training_flops
from acn_compress.network.network import Network
from acn_compress.recipe import table as report
from acn_compress.recipe.schema import TRAINING, Recipe, Step
from acn_compress.steps.inspect import inspect
from acn_compress.training.hooks import Progress
from acn_compress.training.job import Job, as_job
from acn_compress.training.state import resumable

OnStep = Callable[[int, int, str, bool], None]


@dataclass(frozen=True)
class Made:
    """A finished step: its folder's name, what it is called in the table, and where it lies."""

    name: str
    path: str
    verb: str


@dataclass
class _Run:
    """What a run carries from step to step."""

    recipe: Recipe
    out: Path
    device: str
    progress: Progress | None
    on_step: OnStep
    total: int
    record: dict[str, Any]
    original: str | None = None
    reports: list[dict[str, Any]] = field(default_factory=list)


def run(
    recipe: Recipe,
    *,
    out: str | Path | None = None,
    source: str | None = None,
    data: str | None = None,
    seed: int | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Progress | None = None,
    on_step: OnStep = lambda number, total, name, reused: None,
) -> dict[str, Any]:
    """Run a recipe; running it again goes on where it stopped.

    Args:
        recipe: from `recipe.read`.
        out: directory of the steps; None is runs/NAME.
        source: checkpoint to use instead of the recipe's; a first step that trains one from scratch
            is then left out.
        data: to use instead of the recipe's.
        seed: to use instead of the recipe's.
        overwrite: run finished steps again.
        on_step: called with number, total, folder, reused before every step.
    Returns:
        out, steps (folder, seconds, reused), final (the last model directory), exports, and the
        final table (see `report.table`).
    Raises:
        AcnError: in one line; finished steps stay.
    """
    recipe = recipe.starting_at(source, data, seed)
    if recipe.eval_data is None and not has_eval_split(recipe.data):
        raise DataError(
            f"data {recipe.data} has one split only, and the final table must be measured on another: set eval_data."
        )
    directory = Path(out if out is not None else Path("runs") / recipe.name).expanduser()
    if recipe.source is not None:
        modeldir.check_out(directory / "1", source=modeldir.find_source(recipe.source))
    plan = _baseline_plan(recipe)
    total = len(recipe.steps) + len(plan) + 1 + (recipe.compare is not None)
    state = _Run(recipe, directory, device, progress, on_step, total, _open(directory, overwrite))
    began = time.perf_counter()
    chain = [] if recipe.source is None else [Made("original", recipe.source, "source")]
    exports: list[Made] = []
    for number, step in enumerate(recipe.steps, 1):
        if step.verb != "finetune" and state.original is None:
            state.original = chain[-1].path
        made = _step(state, f"{number}-{step.verb}", step, chain[-1].path if chain else None)
        if step.verb == "export" and (Path(made.path) / "model.onnx").is_file():
            exports.append(made)
        elif step.verb != "profile":
            chain.append(made)
    original = state.original or chain[-1].path
    budget = _equal_budget(recipe, chain, original) if plan or recipe.compare else None
    baseline = _baseline(state, plan, original, budget) if budget else []
    rows, final = [*chain, *baseline], chain[-1].path
    compared = _compared(state, original, budget, overwrite) if recipe.compare and budget else None
    on_step(state.total, state.total, "table", False)
    measured = report.table(
        [("original" if m.path == original else m.name, m.path) for m in rows],
        [(m.name, m.path) for m in exports],
        original=original,
        final=final,
        baseline=baseline[-1].path if baseline else None,
        job=_job(recipe, {}),
        noise=recipe.noise,
        device=device,
    )
    found = {
        "step": "run",
        "recipe": recipe.name,
        "out": str(directory),
        "data": recipe.data,
        "noise": recipe.noise,
        "steps": state.reports,
        "final": final,
        "baseline": baseline[-1].path if baseline else None,
        "exports": [m.path for m in exports],
        **measured,
        "compare": compared,
        "seconds": round(time.perf_counter() - began, 1),
    }
    modeldir.write_json(directory / "table.json", found)
    (directory / "README.md").write_text(report.markdown(found), encoding="utf-8")
    return found


def _open(directory: Path, overwrite: bool) -> dict[str, Any]:
    """What this directory's earlier runs finished (to be forgotten with `overwrite`); refuses a
    directory that holds something else."""
    record = modeldir.read_json(directory / "run.json")
    if record is None and directory.is_dir() and any(directory.iterdir()):
        raise ModelDirError(
            f"OUT {directory} is not empty and holds no run. Choose another with --out."
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if record is None or overwrite:
            record = {"version": 1, "steps": {}}
        modeldir.write_json(directory / "run.json", record)
    except OSError as error:
        raise ModelDirError(
            f"OUT {directory}: cannot be written ({error.strerror or error})."
        ) from None
    if record.get("version") != 1:
        raise ModelDirError(
            f"{directory / 'run.json'} is not one that this version writes (version 1). Choose another OUT."
        )
    return record


def _job(recipe: Recipe, training: dict[str, Any]) -> Job:
    """A training job on the recipe's data."""
    common = {
        k: getattr(recipe, k)
        for k in ("eval_data", "limit", "eval_limit", "augment", "max_length", "seed")
    }
    return as_job(recipe.data, {**common, **training, "columns": _columns(recipe)})  # type: ignore[typeddict-item]


def _columns(recipe: Recipe) -> Columns:
    return Columns(label=recipe.label_column, image=recipe.image_column, text=recipe.text_column)


def _step(
    state: _Run,
    folder: str,
    step: Step,
    source: str | None,
    *,
    drop: tuple[int, float] | None = None,
    name: str | None = None,
) -> Made:
    """Run one step on `source`, or find it finished. `drop` is (blocks, epochs) of the baseline's
    first step."""
    place, number = state.out / folder, len(state.reports) + 1
    mark = _fingerprint(state, step, source, drop)
    known = state.record["steps"].get(folder, {})
    reused = known.get("fingerprint") == mark and known.get("finished", False) and place.is_dir()
    state.on_step(number, state.total, folder, reused)
    began = time.perf_counter()
    if not reused:
        # the same step, interrupted while it trained, goes on; one whose options changed starts
        # anew
        resume = known.get("fingerprint") == mark and resumable(place)
        _remember(state, folder, {"fingerprint": mark, "finished": False})
        _run_step(state, step, source, place, drop, resume)
        _remember(
            state,
            folder,
            {
                "fingerprint": mark,
                "finished": True,
                "seconds": round(time.perf_counter() - began, 1),
            },
        )
    seconds = state.record["steps"][folder]["seconds"]
    state.reports.append({"folder": str(place), "seconds": seconds, "reused": reused})
    return Made(name or folder, str(place), step.verb)


def _remember(state: _Run, folder: str, entry: dict[str, Any]) -> None:
    state.record["steps"][folder] = entry
    modeldir.write_json(state.out / "run.json", state.record)


def _fingerprint(
    state: _Run, step: Step, source: str | None, drop: tuple[int, float] | None
) -> str:
    """Of everything a step depends on: its source's weights, its options, the data's name,
    versions."""
    recipe = state.recipe
    common = recipe.model_dump(
        exclude={"name", "description", "source", "noise", "baseline", "steps", "training"}
    )
    teacher = getattr(step.options, "teacher", None)
    parts = {
        "verb": step.verb,
        "options": step.options.given(),
        "training": recipe.training_of(step),
        "common": common,
        "source": None if source is None else modeldir.find_source(source).sha256(),
        "teacher": None
        if teacher is None
        else modeldir.find_source(_teacher(state, teacher)).sha256(),
        "drop": drop,
        "device": state.device.split(":")[0],
        "packages": {
            k: v
            for k, v in modeldir.packages().items()
            if k in {"acn-compress", "torch", "transformers"}
        },
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _teacher(state: _Run, name: str) -> str:
    if name != "original":
        return name
    if state.original is None:
        raise ConfigError(
            "teacher is 'original', but nothing was compressed before this step: it would be its own teacher."
        )
    return state.original


def _run_step(
    state: _Run,
    step: Step,
    source: str | None,
    place: Path,
    drop: tuple[int, float] | None,
    resume: bool,
) -> None:
    """Call the function of the step's verb: what the command of that name does."""
    from acn_compress import convert, export, finetune, profile, prune, truncate

    recipe, device, progress = state.recipe, state.device, state.progress
    own = {
        k: v
        for k, v in step.options.given().items()
        if k not in recipe.training_of(step) and k not in {"config", "teacher"}
    }
    training = recipe.training_of(step)
    trained: dict[str, Any] = {
        "device": device,
        "resume": resume,
        "overwrite": True,
        "progress": progress,
    }
    if (teacher := getattr(step.options, "teacher", None)) is not None:
        own["teacher"] = _teacher(state, teacher)
    if step.verb == "finetune" and step.options.config is not None:
        finetune(
            _config_file(step.options.config, place),
            place,
            _job(recipe, training),
            init="random",
            **own,
            **trained,
        )
        return
    assert source is not None  # the recipe was checked: only training from scratch reads no model
    measured: dict[str, Any] = {
        "data": recipe.eval_data or recipe.data,
        "columns": _columns(recipe),
        "limit": recipe.eval_limit,
        "max_length": recipe.max_length,
        "seed": recipe.seed,
        "device": device,
    }
    match step.verb:
        case "finetune" if drop is not None:
            finetune(
                source,
                place,
                _job(
                    recipe, training | {"epochs": drop[1], "prefix_loss": 0.0, "prefix_depths": ()}
                ),
                depth=drop[0],
                **own,
                **trained,
            )
        case "finetune":
            finetune(source, place, _job(recipe, training), **own, **trained)
        case "convert":
            convert(source, place, _job(recipe, training), **own, **trained)
        case "profile":
            profile(source, to=place, **own, **measured)
        case "truncate":
            truncate(source, place, overwrite=True, **own, **measured)
        case "prune":
            prune(
                source,
                place,
                job=_job(recipe, training) if recipe.trains(step) else None,
                **own,
                **trained,
            )
        case "export":
            export(source, place, seed=recipe.seed, overwrite=True, **own)


def _config_file(config: dict[str, Any] | str, place: Path) -> Path:
    """A config given inline, as the file that `finetune` reads."""
    if isinstance(config, str):
        return Path(config)
    path = place.with_name(f"{place.name}.config.json")
    modeldir.write_json(path, config)
    return path


def _baseline_plan(recipe: Recipe) -> list[Step]:
    """The baseline's steps: one finetune in place of everything up to the last conversion or cut,
    then what is left of the recipe."""
    cuts = [i for i, s in enumerate(recipe.steps) if s.verb in {"convert", "truncate"}]
    if not recipe.baseline or not recipe.shrinks:
        return []
    converted = next(s for s in reversed(recipe.steps) if s.verb == "convert").options.given()
    same = {
        k: v
        for k, v in converted.items()
        if k in TRAINING - {"epochs", "prefix_loss", "prefix_depths"}
    }
    rest = [s for s in recipe.steps[cuts[-1] + 1 :] if s.verb in {"finetune", "prune"}]
    return [Step.model_validate({"finetune": {"teacher": "original", **same}}), *rest]


def _baseline(state: _Run, plan: list[Step], original: str, budget: _Budget) -> list[Made]:
    """Run the plain baseline beside the finished chain."""
    made: list[Made] = []
    for number, step in enumerate(plan, 1):
        name = report.BASELINE + (f"drop to {budget.depth}" if number == 1 else step.verb)
        source = made[-1].path if made else original
        drop = (budget.depth, budget.epochs) if number == 1 else None
        made.append(
            _step(state, f"baseline-{number}-{step.verb}", step, source, drop=drop, name=name)
        )
    return made


def _compared(state: _Run, original: str, budget: _Budget, overwrite: bool) -> dict[str, Any]:
    """Every route to the chain's depth, with the budget of the chain."""
    from acn_compress.steps.compare import compare

    recipe = state.recipe
    assert recipe.compare is not None
    state.on_step(state.total - 1, state.total, "compare", False)
    converted = next(s for s in reversed(recipe.steps) if s.verb == "convert")
    how = {k: v for k, v in recipe.training_of(converted).items() if not k.startswith("prefix")} | {
        "epochs": budget.of_whole
    }
    own = converted.options
    alpha = {"alpha_end": own.alpha_end or 0.0} if own.pull is None else {"pull": own.pull}
    return compare(
        original,
        _job(recipe, how),
        depths=(budget.depth,),
        out=state.out / "compare",
        seeds=recipe.compare.seeds,
        routes=recipe.compare.routes,
        noise=recipe.noise,
        device=state.device,
        overwrite=overwrite,
        progress=state.progress,
        **alpha,
    )


class _Budget(NamedTuple):
    """Depth of the chain at its last conversion or cut; epochs at that depth, and of the whole,
    that cost what the chain trained since the original."""

    depth: int
    epochs: float
    of_whole: float


def _equal_budget(recipe: Recipe, chain: list[Made], original: str) -> _Budget:
    whole = checkpoint.load_source(modeldir.find_source(original))
    blocks = depth = whole.depth
    start = next(i for i, m in enumerate(chain) if m.path == original)
    writers = [s for s in recipe.steps if s.verb not in {"profile", "export"}]
    writers = writers[len(writers) - len(chain) + 1 + start :]  # what came after the original
    last = max(i for i, s in enumerate(writers) if s.verb in {"convert", "truncate"})
    spent = 0.0
    for step, net in zip(writers[: last + 1], chain[start + 1 :], strict=False):
        depth = _depth(net.path)
        if recipe.trains(step):
            spent += _spent(recipe, step, whole, depth, blocks) + _chosen(net.path)
    return _Budget(
        depth,
        round(spent / training_flops(whole, depth=depth, teacher_depth=blocks), 4),
        round(spent / training_flops(whole, teacher_depth=blocks), 4),
    )


def _depth(path: str) -> int:
    found: list[int] = inspect(path)["blocks"]
    return len(found)


def _chosen(path: str) -> float:
    """Operations per training example that choosing the blocks to start from took."""
    found = modeldir.read_json(Path(path) / "report.json") or {}
    return float(found.get("choosing_flops", 0.0)) / int(found.get("examples", 1))


def _spent(recipe: Recipe, step: Step, whole: Network, depth: int, blocks: int) -> float:
    """Operations per training example of a step, times its epochs."""
    training = recipe.training_of(step)
    taught = step.verb != "finetune" or step.options.teacher is not None
    how = _job(recipe, training).recipe
    return how.epochs * training_flops(
        whole, depth=depth, teacher_depth=blocks if taught else None, prefixes=how.prefixes
    )
