"""run: the steps of a recipe, one folder each; finished ones are reused only if what they depend on
is the same.

Beside the chain runs the plain baseline (`baseline.py`). The final table has both.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from acn_compress import surface
from acn_compress.checkpoint.config import config_source
from acn_compress.checkpoint.directory import check_folder, writing
from acn_compress.checkpoint.files import read_json, write_json, write_text
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.original import at_hand
from acn_compress.checkpoint.processors import content_sha256
from acn_compress.checkpoint.provenance import packages
from acn_compress.checkpoint.published import published
from acn_compress.checkpoint.swap import target
from acn_compress.checkpoint.write import PAGE
from acn_compress.compression.notes import notes_file
from acn_compress.data.load import has_eval_split
from acn_compress.data.places import fingerprint, name_of
from acn_compress.errors import ConfigError, DataError, Interrupted, ModelDirError
from acn_compress.events import ChainStep, Progress, Result
from acn_compress.found import Found
from acn_compress.network.structure import Structure
from acn_compress.onnx.layout import find_onnx
from acn_compress.options import Compress, Run, Trained, Truncate, Verb
from acn_compress.recipe import baseline, table
from acn_compress.recipe.schema import Recipe, Step
from acn_compress.reports.base import Report
from acn_compress.reports.compared import Compared
from acn_compress.reports.compressed import Compressed
from acn_compress.reports.html import uses
from acn_compress.reports.made import Truncated
from acn_compress.reports.measured import Profiled
from acn_compress.reports.ran import BASELINE, Done, Ran, Table
from acn_compress.training.state import resumable

if TYPE_CHECKING:
    from acn_compress.data.places import Spec

DATA = ("data", "eval_data", "refit_data")  # options that name data
KEPT = "Finished steps are kept: the same command goes on with them."


class Entry(Found):
    """What is known of a step."""

    fingerprint: str
    finished: bool
    seconds: float = 0.0
    files: list[str] = Field(default_factory=list)
    """That it wrote; where one is missing it is run again."""
    result: str = ""
    """What came of it."""


class Record(Found):
    """run.json: the steps by their folders."""

    version: Literal[1] = 1
    steps: dict[str, Entry] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """What a file says, or None if there is none.

        Raises:
            ModelDirError: if this version does not write such a thing.
        """
        found = read_json(path)
        try:
            return None if found is None else cls.model_validate(found)
        except ValidationError:
            raise ModelDirError(
                f"{path} is not one that this version writes (version 1). Choose another OUT."
            ) from None


@dataclass(frozen=True)
class Made:
    """A finished step: what it is called in the table, where it lies, its options, and what it was
    made from."""

    name: str
    path: str
    how: Verb | None = None
    source: str | None = None


@dataclass
class Chain:
    """What a run carries from step to step."""

    recipe: Recipe
    out: Path
    device: str
    progress: Progress | None
    total: int
    record: dict[str, Any]
    original: str | None = None
    done: list[Done] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)

    def content(self, data: Spec | None) -> str | None:
        """Fingerprint of the content of data, as it was when a step first asked."""
        if data is None:
            return None
        if (name := name_of(data)) not in self.contents:
            self.contents[name] = fingerprint(data)
        return self.contents[name]

    def tell(self, number: int, name: str, reused: bool = False) -> None:
        """Say which step begins."""
        if self.progress is not None:
            step = ChainStep(number=number, total=self.total, name=name, reused=reused)
            self.progress(step)

    def options(self, step: Step, **more: object) -> Verb:
        """All options of a step as it is run here."""
        if step.given.get("teacher") == "original":
            more = {"teacher": self._original(), **more}
        if "device" in step.options.model_fields:
            more["device"] = self.device
        return self.recipe.options(step, **more)

    def _original(self) -> str:
        if self.original is None:
            raise ConfigError(
                "teacher is 'original', but nothing was compressed before this step: "
                "it would be its own teacher."
            )
        return self.original

    def remember(self, folder: str, entry: dict[str, Any]) -> None:
        """Write what is known of a step into run.json."""
        self.record["steps"][folder] = entry
        with writing(f"OUT {self.out}", KEPT):
            write_json(self.out / "run.json", self.record)


def run(
    recipe: Recipe,
    how: Run,
    *,
    device: str,
    progress: Progress | None = None,
    named: str | None = None,
) -> Ran:
    """Run a recipe; running it again goes on where it stopped.

    Args:
        recipe: from `recipe.read`.
        how: where to, and what to use instead of the recipe's own source, data and seed; with a
            source, a first step that trains one from scratch is left out.
        named: how the recipe was asked for; default: its own name.
    Raises:
        AcnError: in one line; finished steps stay.
    """
    recipe = recipe.starting_at(how.source, how.data, how.seed)
    check_eval_data(recipe)
    directory = directory_of(recipe, how)
    scratch = recipe.options(recipe.steps[0]).scratch
    if not scratch:
        check_folder(directory, find_source(recipe.source or ""))
    plan = baseline.plan(recipe)
    total = len(recipe.steps) + len(plan) + 1 + (recipe.compare is not None)
    chain = Chain(recipe, directory, device, progress, total, _open(directory, how.overwrite))
    began = time.perf_counter()
    made = [] if scratch else [Made("original", str(recipe.source))]
    exports: list[Made] = []
    searched: list[Made] = []
    for number, step in enumerate(recipe.steps, 1):
        options = chain.options(step)
        if chain.original is None and made and not options.prepares:
            chain.original = made[-1].path
        source = made[-1].path if made else None
        found = run_step(chain, f"{number}-{step.verb}", step, source)
        if options.writes or _is_model(found.path):
            made.append(found)
            if isinstance(found.how, Compress):
                searched.append(found)
                exports += _in_int8(found)
        elif find_onnx(found.path) is not None:
            exports.append(found)
    original = chain.original or made[-1].path
    budget = baseline.equal_budget(recipe, made, original) if plan or recipe.compare else None
    plain = _baseline(chain, plan, original, budget) if budget else []
    compared = (
        _compared(chain, original, budget, how.overwrite) if recipe.compare and budget else None
    )
    chain.tell(total, "table")
    rows, final = [*made, *plain], made[-1].path
    measured = table.table(
        [("original" if m.path == original else m.name, m.path) for m in rows],
        [(m.name, m.path, m.source) for m in exports],
        original=original,
        final=final,
        baseline=plain[-1].path if plain else None,
        how=recipe.part(Trained),
        noise=recipe.noise,
        device=device,
        held=bool(searched),
        beside=None if plain else _beside(searched, original),
    )
    budgets = [_compressed(step) for step in searched]
    report = Ran(
        step=how.verb,
        recipe=recipe.name,
        named=named,
        out=str(directory),
        data=str(recipe.plain()["data"]),
        noise=recipe.noise,
        steps=tuple(chain.done),
        final=final,
        delivered=next((m.path for m in exports if m.source == final and m.how is None), None),
        baseline=plain[-1].path if plain else None,
        exports=tuple(m.path for m in exports),
        verdicts=tuple(report.verdict() for report in budgets),
        complaints=tuple(told for report in budgets if (told := report.complaint()) is not None),
        notes=tuple(_decided(made, searched, measured)),
        compare=compared,
        seconds=round(time.perf_counter() - began, 1),
        **dict(measured),
    )
    with writing(f"OUT {directory}", KEPT):
        write_json(directory / "table.json", report.plain())
        write_text(directory / "README.md", report.markdown())
        command = "" if named is None else published(surface.typed(Run, [named], how))
        write_text(directory / PAGE, _page(report, command))
    return report


def check_eval_data(recipe: Recipe) -> None:
    """Refuse data that there is nothing of to measure on."""
    if recipe.eval_data is None and not has_eval_split(recipe.data):
        raise DataError(
            f"data {recipe.data} has one split only, and the final table must be measured on "
            "another: set eval_data."
        )


def directory_of(recipe: Recipe, how: Run) -> Path:
    """Where a run lies."""
    return Path(how.out if how.out is not None else Path("runs") / recipe.name).expanduser()


def _page(report: Ran, command: str) -> str:
    """report.html: with the last model's structure, the last profile, and what loads the result."""
    made = read_json(Path(report.final) / "report.json") or {}
    structure = made.get("structure")
    profiles = (read_json(Path(step.folder) / "profile.json") for step in reversed(report.steps))
    profile = next((found for found in profiles if found is not None), None)
    results = (report.final, *(path for path in report.exports[-1:] if Path(path).is_dir()))
    return report.page(
        None if structure is None else Structure.model_validate(structure),
        None if profile is None else Profiled.model_validate(profile),
        [code for result in results for code in uses(Path(result) / "README.md")],
        command,
    )


def _compressed(made: Made) -> Compressed:
    """What a step of compress reported."""
    found = Compressed.model_validate(read_json(Path(made.path) / "report.json"))
    return found.model_copy(
        update={"out": made.path}
    )  # published, it is where it would be moved to


def _in_int8(made: Made) -> Iterator[Made]:
    """The int8 file of a step of compress, if that is what keeps its limits."""
    found = _compressed(made)
    if found.chosen.int8:
        path = str(Path(made.path) / found.delivered)
        yield Made(f"{made.name}, int8", path, source=made.path)


def _beside(searched: list[Made], original: str) -> Compressed | None:
    """The step of compress whose own baseline is that of the chain, as both began with the
    original."""
    return next((_compressed(step) for step in searched if step.source == original), None)


def _decided(made: list[Made], searched: list[Made], measured: Table) -> Iterator[str]:
    """Which steps decided something on the rows of the table, and which on others."""
    names = " and ".join(Path(step.path).name for step in searched)
    if names:
        yield f"These are rows that {names} did not decide on."
    for step in made:
        if not isinstance(step.how, Truncate) or step.how.max_drop is None:
            continue
        read = Truncated.model_validate(read_json(Path(step.path) / "report.json")).read
        on = measured.eval_read
        if read is not None and on is not None and read.data == on.data:
            yield f"{step.name} chose its depth on these rows, too, which flatters it a little."


def _is_model(path: str) -> bool:
    """Whether a step that need not write a model has done so (export to safetensors)."""
    return (Path(path) / "config.json").is_file() and any(Path(path).glob("*.safetensors"))


def recorded(directory: Path) -> Record | None:
    """What an earlier run left in a directory.

    Raises:
        ModelDirError: if the directory holds something else.
    """
    record = Record.read(directory / "run.json")
    if record is None and directory.is_dir() and any(directory.iterdir()):
        raise ModelDirError(
            f"OUT {directory} is not empty and holds no run. Choose another with --out."
        )
    return record


def _open(directory: Path, overwrite: bool) -> dict[str, Any]:
    """What this directory's earlier runs finished (to be forgotten with `overwrite`)."""
    record = recorded(directory)
    known = (Record() if record is None or overwrite else record).model_dump()
    with writing(f"OUT {directory}", "Choose another with --out."):
        target(directory).mkdir(parents=True, exist_ok=True)
        write_json(directory / "run.json", known)
    return known


def run_step(
    chain: Chain,
    folder: str,
    step: Step,
    source: str | None,
    *,
    name: str | None = None,
    **more: object,
) -> Made:
    """Run one step on `source` (None: on the recipe's config), or find it finished.

    Args:
        name: in the table; default: the folder's.
        more: options in place of the step's own.
    """
    place, number = chain.out / folder, len(chain.done) + 1
    how = chain.options(step, **more)
    mark = _fingerprint(chain, how, source)
    known = chain.record["steps"].get(folder, {})
    whole = place.is_dir() and all((place / file).is_file() for file in known.get("files", []))
    reused = known.get("fingerprint") == mark and known.get("finished", False) and whole
    chain.tell(number, folder, reused)
    began = time.perf_counter()
    if not reused:
        # the same step, interrupted while it trained, goes on; one whose options changed starts
        # anew
        begun = resumable(place) or notes_file(place).is_file()
        resume = known.get("fingerprint") == mark and begun
        chain.remember(folder, {"fingerprint": mark, "finished": False})
        with at_hand(*([chain.original] if chain.original else [])):
            result = _do(chain, how, source, place, resume).brief()
        seconds = round(time.perf_counter() - began, 1)
        files = [p.relative_to(place).as_posix() for p in sorted(place.rglob("*")) if p.is_file()]
        done = {"fingerprint": mark, "finished": True, "seconds": seconds, "files": files}
        chain.remember(folder, done | {"result": result})
    entry = chain.record["steps"][folder]
    seconds, result = entry["seconds"], entry.get("result", "")
    chain.done.append(Done(folder=str(place), seconds=seconds, reused=reused, result=result))
    if result and chain.progress is not None:
        chain.progress(Result(text=result))
    return Made(name or folder, str(place), how, source)


def _do(chain: Chain, how: Verb, source: str | None, place: Path, resume: bool) -> Report:
    """Call the verb: what the command of that name does."""
    cls = type(how)
    here = {"overwrite": True, "resume": resume, "to": str(place)}
    changed = {name: value for name, value in here.items() if name in cls.model_fields}
    start = _config_file(chain.recipe, place) if source is None else source
    where: list[str | PathLike[str]] = [start, place]
    options = how.model_copy(update=changed)
    try:
        found = surface.call(cls, where[: len(cls.arguments)], options, progress=chain.progress)
    except Interrupted as stopped:  # a run has no --resume: it always goes on
        said = f"interrupted in step {place.name}. Run the same command again to go on."
        raise Interrupted(said, stopped.exit_code) from None
    assert isinstance(found, Report)
    return found


def _config_file(recipe: Recipe, place: Path) -> Path:
    """The config a network is trained from, as the file that a verb reads."""
    if not isinstance(recipe.source, dict):
        return Path(str(recipe.source))
    path = place.with_name(f"{place.name}.config.json")
    with writing(f"OUT {place.parent}", KEPT):
        write_json(path, recipe.source)
    return path


def _fingerprint(chain: Chain, how: Verb, source: str | None) -> str:
    """Of everything a step depends on: its options, versions, and the content of its source, its
    teacher and its data."""
    teacher = getattr(how, "teacher", None)
    versions = packages()
    parts = {
        "verb": how.verb,
        "options": how.plain(),
        "config": _config(chain.recipe) if source is None else None,
        "source": None if source is None else content_sha256(find_source(source)),
        "teacher": None if teacher is None else content_sha256(find_source(teacher)),
        "data": {name: chain.content(getattr(how, name, None)) for name in DATA},
        "device": chain.device.split(":")[0],
        "packages": {k: versions.get(k) for k in ("acn-compress", "torch", "transformers")},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _config(recipe: Recipe) -> object:
    """The config a network is trained from, and the files beside it."""
    if not isinstance(recipe.source, str):
        return recipe.source
    beside, file = config_source(recipe.source)
    return [content_sha256(beside), hashlib.sha256(file.read_bytes()).hexdigest()]


def _baseline(chain: Chain, plan: list[Step], original: str, budget: baseline.Budget) -> list[Made]:
    """Run the plain baseline beside the finished chain."""
    made: list[Made] = []
    for number, step in enumerate(plan, 1):
        first = number == 1
        name = BASELINE + (f"drop to {budget.depth}" if first else step.verb)
        more: dict[str, object] = {}
        if first:
            more = {"depth": budget.depth, "epochs": budget.epochs}
            more |= {"prefix_loss": 0.0, "prefix_depths": ()}
        source = made[-1].path if made else original
        folder = f"baseline-{number}-{step.verb}"
        made.append(run_step(chain, folder, step, source, name=name, **more))
    return made


def _compared(chain: Chain, original: str, budget: baseline.Budget, overwrite: bool) -> Compared:
    """Every route to the chain's depth, with the budget of the chain."""
    chain.tell(chain.total - 1, "compare")
    how = baseline.comparison(chain.recipe, budget).model_copy(
        update={"out": str(chain.out / "compare"), "device": chain.device, "overwrite": overwrite}
    )
    found = surface.call(type(how), [original], how, progress=chain.progress)
    assert isinstance(found, Compared)
    return found
