"""A recipe: an ordered list of steps as data (YAML). Unknown keys are faults, and all faults are
reported at once, with their lines.

The options of a step are those of the command of the same name; what is left out keeps the
command's default.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from acn_compress.errors import ConfigError, DataError

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Layer = Literal["block", "branch", "plain"]
Task = Literal[
    "image-classification",
    "text-classification",
    "text-regression",
    "token-classification",
    "question-answering",
    "masked-lm",
    "causal-lm",
    "features",
]
Loc = tuple[int | str, ...]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def given(self) -> dict[str, Any]:
        """Only what the recipe says; everything else is the command's own default."""
        return self.model_dump(exclude_unset=True)


class Training(_Closed):
    """How a step trains; in the recipe's `training` for every step."""

    epochs: Positive | None = Field(
        None, description="passes over the training data; a fraction is allowed"
    )
    batch_size: Count | None = Field(None, description="examples per batch")
    lr: Positive | None = Field(None, description="peak learning rate")
    warmup: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="share of the steps with rising learning rate"
    )
    weight_decay: NotNegative | None = Field(None, description="weight decay")
    label_smoothing: Share | None = Field(None, description="label smoothing of the task loss")
    distil_weight: NotNegative | None = Field(None, description="weight of the distillation loss")
    task_weight: NotNegative | None = Field(None, description="weight of the loss on the labels")
    temperature: Positive | None = Field(None, description="temperature of distillation")
    hidden_weight: NotNegative | None = Field(
        None, description="weight of matching the teacher's hidden states behind the blocks"
    )
    prefix_loss: NotNegative | None = Field(
        None, description="weight of the loss of prefix readouts; 0 = off"
    )
    prefix_depths: tuple[Count, ...] | None = Field(
        None, description="depths read out in every step; default one random depth"
    )
    accumulate: Count | None = Field(None, description="batches per optimizer step")
    precision: Literal["auto", "fp32", "bf16"] | None = Field(
        None, description="auto, fp32 or bf16"
    )
    checkpointing: bool | None = Field(None, description="gradient checkpointing")


TRAINING = frozenset(Training.model_fields)


class Finetune(Training):
    """Train in the form the model has; with `config` from random weights."""

    config: dict[str, Any] | str | None = Field(
        None, description="train from scratch: a transformers config, or the path of one"
    )
    teacher: str | None = Field(None, description="distil from this model: a path, or 'original'")
    alpha: Share | None = Field(None, description="with config: the form to train, 0 = ACN")
    layer: Layer | None = Field(None, description="with alpha: what one layer is")
    task: Task | None = Field(
        None, description="read the model under the head of this task; what it lacks of it is new"
    )

    @model_validator(mode="after")
    def _alpha_needs_config(self) -> Finetune:
        if self.alpha is not None and self.config is None:
            raise ValueError(
                "alpha can only be set with config (training from scratch); to change the form of a trained model use convert"
            )
        return self


class Convert(Training):
    """Walk alpha down while distilling."""

    alpha_end: Share | None = Field(None, description="alpha at the end of the walk")
    layer: Layer | None = Field(None, description="what one layer is")
    learned: bool | None = Field(None, description="train alpha per layer after the walk")
    pull: NotNegative | None = Field(
        None, description="let alpha find its own way down: pull * mean alpha is added to the loss"
    )
    anneal: Share | None = Field(None, description="share of the steps that the walk takes")
    depth: Count | None = Field(None, description="cut to so many blocks before training")
    keep: Literal["first", "even", "best", "auto"] | None = Field(
        None, description="with depth: which blocks"
    )
    refit: bool | None = Field(
        None, description="with depth: solve the kept blocks' output layers before training"
    )
    task: Task | None = Field(
        None, description="read the model under the head of this task, for example features"
    )
    teacher: str | None = Field(
        None, description="distil from this model instead of the step's own source"
    )


class Profile(_Closed):
    """Measure every depth."""

    max_drop: NotNegative | None = Field(
        None, description="tolerance of the cutoff, in the metric's own units"
    )
    bound: Literal["upper", "point"] | None = Field(None, description="what must pass it")
    measures: tuple[Literal["influence", "cka", "leave-one-out", "taylor"], ...] | None = Field(
        None, description="further measures"
    )


class Truncate(_Closed):
    """Cut the deep blocks off."""

    depth: Count | None = Field(None, description="blocks to keep")
    max_drop: NotNegative | None = Field(
        None, description="or the largest drop of the metric, 0.01 = one point of accuracy"
    )
    bound: Literal["upper", "point"] | None = Field(None, description="what must pass max_drop")
    refit: str | None = Field(
        None, description="data to solve the last layers on afterwards, without training"
    )

    @model_validator(mode="after")
    def _one_of(self) -> Truncate:
        if (self.depth is None) == (self.max_drop is None):
            raise ValueError("needs either depth or max_drop, not both")
        return self


class Prune(Training):
    """Remove heads and MLP features, or set weights to zero."""

    target_sparsity: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="share of the prunable parameters"
    )
    method: Literal["structured", "magnitude", "movement"] | None = Field(
        None, description="structured, magnitude or movement"
    )
    scope: Literal["global", "layer"] | None = Field(
        None, description="one ranking, or the same share everywhere"
    )

    @model_validator(mode="after")
    def _movement_needs_epochs(self) -> Prune:
        if self.method == "movement" and self.epochs is None:
            raise ValueError(
                "with method movement prunes while it trains, and needs epochs of its own"
            )
        return self


class Export(_Closed):
    """ONNX or safetensors."""

    format: Literal["onnx", "safetensors"] | None = Field(None, description="onnx or safetensors")
    opset: Annotated[int, Field(ge=18, le=24)] | None = Field(None, description="ONNX operator set")
    tolerance: Positive | None = Field(None, description="largest difference to torch")
    quantize: Literal["int8"] | None = Field(None, description="int8")


class Compare(_Closed):
    """A second table: every route of the command compare, to the chain's depth with the chain's
    budget."""

    routes: tuple[str, ...] | None = Field(None, description="which; default all")
    seeds: Count = Field(1, description="runs of every route")

    @field_validator("routes")
    @classmethod
    def _known_to_compare(cls, routes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        from acn_compress.steps.compare import ROUTES

        if unknown := [r for r in routes or () if r not in ROUTES]:
            raise ValueError(f"has '{unknown[0]}', which is not known. Known: {', '.join(ROUTES)}")
        return routes


class Step(_Closed):
    """One step: exactly one of the verbs, with its options."""

    finetune: Finetune | None = None
    convert: Convert | None = None
    profile: Profile | None = None
    truncate: Truncate | None = None
    prune: Prune | None = None
    export: Export | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        """`- profile` and `- profile:` mean a step without options."""
        if isinstance(data, str):
            return {data: {}}
        return (
            {k: {} if v is None else v for k, v in data.items()} if isinstance(data, dict) else data
        )

    @model_validator(mode="after")
    def _one_verb(self) -> Step:
        if len(self.model_fields_set) != 1:
            raise ValueError(
                f"a step is one verb with its options; found {', '.join(sorted(self.model_fields_set)) or 'none'}"
            )
        return self

    @property
    def verb(self) -> str:
        """Its verb."""
        return next(iter(self.model_fields_set))

    @property
    def options(self) -> Any:
        """The options of its verb."""
        return getattr(self, self.verb)


class Recipe(_Closed):
    """A whole recipe."""

    name: str = Field("recipe", pattern=r"^[\w.-]+$", description="of the run's directory")
    description: str = Field("", description="one sentence for people")
    source: str | None = Field(
        None, description="the checkpoint: model directory, Hub id or weight file"
    )
    data: str = Field(description="to train on: digits, a folder, files, or a Hub data set")
    eval_data: str | None = Field(
        None, description="to measure on; default: the validation or test split of data"
    )
    label_column: str | None = Field(None, description="column of the labels")
    image_column: str | None = Field(None, description="column of the images")
    text_column: str | None = Field(
        None, description="column of the text; two with a comma between for pairs"
    )
    limit: Count | None = Field(None, description="at most this many training examples")
    eval_limit: Count | None = Field(None, description="at most this many examples to measure on")
    max_length: Annotated[int, Field(ge=2)] | None = Field(None, description="of a text, in tokens")
    augment: Literal["crop", "flip-crop"] | None = Field(
        None, description="random crops (and flips) of training images"
    )
    noise: str | None = Field(
        None, description="measured besides clean data: gaussian:SD or salt-pepper:SHARE"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of everything random")
    training: Training = Field(
        default_factory=lambda: Training(), description="training options of every step"
    )
    baseline: bool = Field(
        True, description="also run what people do without us: drop the last blocks, train as much"
    )
    compare: Compare | None = Field(None, description="also every route of compare: a second table")
    steps: tuple[Step, ...] = Field(
        min_length=1, description="in order; each reads the model the one before wrote"
    )

    def training_of(self, step: Step) -> dict[str, Any]:
        """The training options of a step: the recipe's, then its own."""
        own = {k: v for k, v in step.options.given().items() if k in TRAINING}
        return self.training.given() | own if isinstance(step.options, Training) else {}

    def trains(self, step: Step) -> bool:
        """Whether a step trains; pruning only where it says `epochs` itself."""
        return step.verb in {"finetune", "convert"} or (
            step.verb == "prune" and "epochs" in step.options.model_fields_set
        )

    @property
    def shrinks(self) -> bool:
        """Whether it converts a network and cuts it: what there is a baseline for."""
        cut = any(
            s.verb == "truncate" or getattr(s.options, "depth", None) is not None
            for s in self.steps
        )
        return cut and any(s.verb == "convert" for s in self.steps)

    def starting_at(self, source: str | None, data: str | None, seed: int | None = None) -> Recipe:
        """The recipe on another checkpoint, other data, with another seed. With a checkpoint, a
        first step that trains one from scratch is left out."""
        changed = {
            k: v for k, v in (("source", source), ("data", data), ("seed", seed)) if v is not None
        }
        if (
            source is not None
            and self.steps[0].verb == "finetune"
            and self.steps[0].options.config is not None
        ):
            changed |= {"steps": self.steps[1:]}  # type: ignore[dict-item]
        return (
            Recipe.model_validate(self.model_dump(exclude_unset=True) | _plain(changed))
            if changed
            else self
        )


def _plain(changed: dict[str, Any]) -> dict[str, Any]:
    return {
        k: [s.model_dump(exclude_unset=True) for s in v] if k == "steps" else v
        for k, v in changed.items()
    }


def packaged() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    beside = (
        Path(__file__).parents[2] / "recipes"
    )  # a checkout; an installed package holds them inside
    inside = Path(str(resources.files("acn_compress"))) / "recipes"
    return {p.stem: p for p in sorted((inside if inside.is_dir() else beside).glob("*.yaml"))}


def read(where: str | Path) -> Recipe:
    """Read a recipe file, or a packaged recipe by its name.

    Raises:
        ConfigError: with every fault, its line and its place.
    """
    path = Path(where).expanduser()
    if not path.is_file():
        known = packaged()
        if str(where) not in known:
            near = difflib.get_close_matches(str(where), known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"{where}: no such recipe file, and no packaged recipe of that name.{hint} Packaged: {', '.join(known)}."
            )
        path = known[str(where)]
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path}{place}: not valid YAML ({getattr(error, 'problem', None) or error})."
        ) from None
    if not isinstance(data, dict):
        raise ConfigError(
            f"{path}: found {type(data).__name__}, expected a recipe: a mapping with data and steps."
        )
    lines = dict(_lines(node))
    faults = [(lines.get(loc, 0), loc, "is given twice") for loc in _twice(node)]
    try:
        recipe = Recipe.model_validate({"name": path.stem} | data)
    except ValidationError as error:
        # pydantic also calls a list too short for the items whose own faults it has told
        errors = [e for e in error.errors() if not (e["type"] == "too_short" and e["input"])]
        faults += [(_line(lines, _loc(e)), _loc(e), _say(e)) for e in errors]
    else:
        faults += [(_line(lines, loc), loc, text) for loc, text in _across(recipe)]
    if faults:
        told = [
            f"{path}:{line}: {'.'.join(map(str, loc)) or 'recipe'} {text}{'' if text.endswith('?') else '.'}"
            for line, loc, text in sorted(faults, key=lambda f: f[0])
        ]
        raise ConfigError(told[0] if len(told) == 1 else f"{len(told)} faults:\n" + "\n".join(told))
    return recipe


def _loc(error: Any) -> Loc:
    """The place of a fault, with steps counted from 1 as in the folders' names."""
    loc = tuple(
        p
        for p in error["loc"]
        if not (isinstance(p, str) and (p.startswith(("dict[", "function-")) or p == "str"))
    )
    return tuple(
        p + 1 if isinstance(p, int) and i and loc[i - 1] == "steps" else p
        for i, p in enumerate(loc)
    )


def _say(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        known = _known(error["loc"])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        return (
            f"is not known. Did you mean {near[0]}?"
            if near
            else f"is not known. Known: {', '.join(known)}"
        )
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"is {error['input']!r}, expected: {message.removeprefix('input should be ')}"


def _known(loc: Loc) -> list[str]:
    """The keys that may stand where the key at the end of `loc` stands."""
    model: Any = Recipe
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        found = [
            a
            for a in (annotation, *_flat(annotation))
            if isinstance(a, type) and issubclass(a, BaseModel)
        ]
        model = found[0]
    return list(model.model_fields)


def _flat(annotation: Any) -> Iterator[Any]:
    for part in get_args(annotation):
        yield part
        yield from _flat(part)


def _lines(node: Any, loc: Loc = ()) -> Iterator[tuple[Loc, int]]:
    """The line of every place in the file."""
    yield loc, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*loc, str(key.value)))
            yield (*loc, str(key.value)), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value, 1 if loc == ("steps",) else 0):
            yield from _lines(value, (*loc, number))


def _line(lines: dict[Loc, int], loc: Loc) -> int:
    """The line of a place, or of the nearest place around it."""
    while loc and loc not in lines:
        loc = loc[:-1]
    return lines.get(loc, 1)


def _twice(node: Any, loc: Loc = ()) -> Iterator[Loc]:
    """Keys given twice; YAML would silently take the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen:
                yield (*loc, str(key.value))
            seen.add(key.value)
            yield from _twice(value, (*loc, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value, 1 if loc == ("steps",) else 0):
            yield from _twice(value, (*loc, number))


def _across(recipe: Recipe) -> Iterator[tuple[Loc, str]]:
    """Faults between steps, as far as the file itself can tell."""
    first = recipe.steps[0]
    scratch = first.verb == "finetune" and first.options.config is not None
    if recipe.source is None and not scratch:
        yield (
            (),
            "has no source. Name a checkpoint (source: DIRECTORY), or let the first step be finetune with a config",
        )
    blocks = _blocks(first.options.config) if scratch else None
    for number, step in enumerate(recipe.steps, 1):
        place: Loc = ("steps", number, step.verb)
        if step.verb == "finetune" and step.options.config is not None and number > 1:
            yield (*place, "config"), "trains from scratch, which only the first step can do"
        if (
            step.verb == "finetune"
            and step.options.config is not None
            and recipe.source is not None
        ):
            yield (
                (*place, "config"),
                "trains from scratch, but the recipe has a source. Leave one out",
            )
        depth = getattr(step.options, "depth", None)
        if depth is not None and blocks is not None:
            if depth > blocks:
                yield (
                    (*place, "depth"),
                    f"is {depth}, but the model has {blocks} blocks by then. Choose 1 to {blocks}",
                )
            blocks = min(depth, blocks)
    if recipe.compare is not None and not recipe.shrinks:
        yield ("compare",), "needs a convert step and a depth: convert with depth, or truncate"
    if recipe.noise is not None and not _is_noise(recipe.noise):
        yield ("noise",), f"is {recipe.noise!r}, expected gaussian:SD or salt-pepper:SHARE"


def _is_noise(text: str) -> bool:
    from acn_compress.data.load import Noise

    try:
        Noise.parse(text)
    except DataError:
        return False
    return True


def _blocks(config: dict[str, Any] | str) -> int | None:
    found = config.get("num_hidden_layers") if isinstance(config, dict) else None
    return found if isinstance(found, int) else None
