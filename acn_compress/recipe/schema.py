"""A recipe as data: an ordered list of steps and what they share.

A step is a verb with its options (`options.py`); what is left out of it comes from the recipe
(data, columns, seed), then from the recipe's `training`, then from the verb's defaults. Unknown
keys are faults, and all faults are told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from acn_compress.deprecated import current, note
from acn_compress.errors import ConfigError
from acn_compress.options import (
    PRUNES_IN_TRAINING,
    STEPS,
    DataSet,
    Options,
    Prefixes,
    Prune,
    Route,
    Seeded,
    Trained,
    TrainingData,
    Verb,
    model_spec,
)
from acn_compress.surface import Place, faults, sentence, unknown

# what a step of a recipe cannot say itself: the recipe does, or running it does
GIVEN = {"data", "config", "device", "overwrite", "resume", "to", "profile"}


def own_fields(cls: type[Options]) -> list[str]:
    """The options that a step of a recipe may have."""
    shared = {*TrainingData.model_fields, *Seeded.model_fields, *GIVEN}
    return [name for name in cls.model_fields if name not in shared]


def _source(value: object) -> object:
    """A config, or what names a model."""
    return value if isinstance(value, dict) else model_spec(value)


Source = Annotated[Any, BeforeValidator(_source), WithJsonSchema({"type": ["string", "object"]})]


class Step(BaseModel, frozen=True, extra="forbid"):
    """One step: a verb and the options it was given."""

    verb: str
    given: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, data: object) -> object:
        """`- profile` and `- profile:` mean a step without options."""
        if isinstance(data, str):
            data = {data: {}}
        if not isinstance(data, dict) or set(data) == {"verb", "given"}:
            return data
        if len(data) != 1:
            found = ", ".join(sorted(map(str, data))) or "none"
            raise ValueError(f"a step is one verb with its options; found {found}")
        ((verb, given),) = data.items()
        return {"verb": verb, "given": {} if given is None else given}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """As it is written: a verb, or one verb with its options."""
        verbs = []
        for name, options in STEPS.items():
            full = options.model_json_schema()
            own = {k: full["properties"][k] for k in own_fields(options)}
            own = {k: v | {"description": sentence(options, k)} for k, v in own.items()}
            verb = {"type": ["object", "null"], "properties": own, "additionalProperties": False}
            verb["required"] = [k for k in full.get("required", ()) if k in own]
            verb["description"] = full["description"]
            verbs.append(
                {
                    "type": "object",
                    "properties": {name: verb},
                    "required": [name],
                    "additionalProperties": False,
                }
            )
        return {"anyOf": [{"enum": list(STEPS)}, *verbs]}

    @property
    def options(self) -> type[Verb]:
        """The class of its verb's options."""
        return STEPS[self.verb]


class Routes(Options, use_attribute_docstrings=True):
    """A second table: every route of compare, to the chain's depth with the chain's budget."""

    routes: tuple[Route, ...] | None = None
    """Which; default all."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """Runs of every route."""


class Recipe(TrainingData, Seeded, use_attribute_docstrings=True):
    """A whole recipe.

    Raises:
        ConfigError: on making one, with every fault.
    """

    name: str = Field("recipe", pattern=r"^[\w.-]+$")
    """Of the run's directory."""
    description: str = ""
    """One sentence for people."""
    source: Source | None = None
    """The checkpoint: model directory, Hub id or weight file; or, for a first step with init
    random, a transformers config."""
    data: DataSet
    """To train on: digits, a folder, files, or a Hub data set."""
    noise: str | None = None
    """Measured besides clean data: gaussian:SD or salt-pepper:SHARE."""
    training: Prefixes = Prefixes()
    """Training options of every step."""
    baseline: bool = True
    """Also run what people do without us: drop the last blocks, train as much."""
    compare: Routes | None = None
    """Also every route of compare: a second table."""
    steps: tuple[Step, ...] = Field(min_length=1)
    """In order; each reads the model the one before wrote."""

    def __new__(cls, **given: object) -> Any:
        """Until the next release Recipe(epochs=3) still makes training options, as in 0.1.0."""
        if given and given.keys() <= {*Prefixes.model_fields, "seed"}:
            note("Recipe is a whole recipe now: give training options to the function by name.")
            return Trained.model_validate(given)
        return super().__new__(cls)

    @model_validator(mode="wrap")
    @classmethod
    def _every_fault_at_once(
        cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        tell = (info.context or {}).get("tell", tell_plainly)
        data = of_today(data)
        found = list(step_faults(data))
        try:
            recipe: Self = handler(data)
        except ValidationError as error:
            own = [
                (at, text) for at, text in faults(error, cls) if at[:1] != ("steps",) or not found
            ]
            raise tell([*own, *found]) from None
        if found := found or list(_across(recipe)):
            raise tell(found)
        return recipe

    def options(self, step: Step, **more: object) -> Verb:
        """All options of a step: its own, the recipe's training, what the recipe shares."""
        return step.options.model_validate(shared(step.options, self._said(), step.given) | more)

    def _said(self) -> dict[str, Any]:
        """What the recipe itself says, for its steps."""
        said = {name: getattr(self, name) for name in (*TrainingData.model_fields, "seed", "data")}
        return {**said, "training": self.training.given()}

    @property
    def cutting(self) -> list[int]:
        """Positions of the steps that convert or cut."""
        made = [self.options(step) for step in self.steps]
        return [i for i, how in enumerate(made) if how.converts or how.cuts]

    @property
    def shrinks(self) -> bool:
        """Whether it converts a network and cuts it: what there is a baseline for."""
        made = [self.options(step) for step in self.steps]
        return any(how.converts for how in made) and any(how.cuts for how in made)

    def starting_at(
        self, source: object = None, data: object = None, seed: int | None = None
    ) -> Recipe:
        """The recipe on another checkpoint, other data, with another seed. With a checkpoint, a
        first step that trains one from scratch is left out."""
        changed: dict[str, object] = {"source": source, "data": data, "seed": seed}
        changed = {name: value for name, value in changed.items() if value is not None}
        if source is not None and self.options(self.steps[0]).scratch:
            changed["steps"] = self.steps[1:]
        if not changed:
            return self
        said = {name: getattr(self, name) for name in self.model_fields_set} | changed
        said["steps"] = [{s.verb: s.given} for s in (changed.get("steps") or self.steps)]  # type: ignore[attr-defined]
        said["training"] = self.training.given()
        return Recipe.model_validate(said)


def shared(
    cls: type[Verb], recipe: Mapping[str, Any], own: Mapping[str, object]
) -> dict[str, object]:
    """The options of a step with what the recipe gives to it. A step that only measures does so on
    what the recipe measures on."""
    given = {**recipe, **recipe.get("training", {})}
    if "eval_data" not in cls.model_fields:
        given["data"] = recipe.get("eval_data") or recipe.get("data")
        given["limit"] = recipe.get("eval_limit")
    if "epochs" in cls.model_fields and cls.model_fields["epochs"].get_default() == 0:
        given.pop("epochs", None)  # it trains only where the step says so itself
    taken = {name: v for name, v in given.items() if name in cls.model_fields and v is not None}
    if "batch_size" in taken and "epochs" not in cls.model_fields:
        del taken["batch_size"]  # of training
    return taken | current(cls, own)


def of_today(data: Any) -> Any:
    """A recipe as it is written today: `config` of a first step that trains from scratch is the
    source of the recipe."""
    steps = data.get("steps") if isinstance(data, dict) else None
    first = steps[0] if isinstance(steps, (list, tuple)) and steps else None
    inner = first.get("finetune") if isinstance(first, dict) else None
    if not isinstance(inner, dict) or "config" not in inner or data.get("source") is not None:
        return data
    note("a recipe's config of finetune is its source now, with init: random in the step.")
    rest = {k: v for k, v in inner.items() if k != "config"} | {"init": "random"}
    return data | {"source": inner["config"], "steps": [{"finetune": rest}, *(steps or ())[1:]]}


def step_faults(data: Any) -> Iterator[tuple[Place, str]]:
    """What is wrong inside the steps."""
    steps = data.get("steps") if isinstance(data, dict) else None
    for number, written in enumerate(steps if isinstance(steps, (list, tuple)) else (), 1):
        try:
            step = written if isinstance(written, Step) else Step.model_validate(written)
        except ValidationError as error:
            yield ("steps", number), faults(error, Options)[0][1]
            continue
        yield from _faults_of(step, ("steps", number, step.verb), data)


def _faults_of(
    step: Step, place: Place, recipe: Mapping[str, object]
) -> Iterator[tuple[Place, str]]:
    if step.verb not in STEPS:
        yield place, unknown(step.verb, STEPS)
        return
    cls, own = step.options, own_fields(step.options)
    renamed = current(cls, step.given)
    inside = {k: v for k, v in renamed.items() if k in own}
    training = recipe.get("training")
    said = {**recipe, "training": training if isinstance(training, Mapping) else {}}
    try:
        cls.model_validate(shared(cls, said, inside))
    except ValidationError as error:
        for at, text in faults(error, cls):
            if not at or at[0] in inside or at[0] in own:
                yield (*place, *at), text
    for name in renamed:  # in the order of the file, whatever the order of a set is
        if name not in own:
            yield (*place, name), unknown(str(name), own)


def tell_plainly(found: list[tuple[Place, str]]) -> ConfigError:
    """One error for all faults."""
    told = [f"{'.'.join(map(str, at)) or 'recipe'} {text}" for at, text in found]
    return ConfigError(". ".join(told) + ("" if told[-1].endswith("?") else "."))


def _across(recipe: Recipe) -> Iterator[tuple[Place, str]]:
    """Faults between steps, as far as the recipe itself can tell."""
    made = [recipe.options(step) for step in recipe.steps]
    if recipe.source is None:
        yield (
            (),
            (
                "has no source. Name a checkpoint (source: DIRECTORY), or give a transformers "
                "config as "
                "source and let the first step be finetune with init: random"
            ),
        )
    if isinstance(recipe.source, dict) and not made[0].scratch:
        yield (
            ("source",),
            "is a config, so the first step must train it: finetune with init: random",
        )
    for number, how in enumerate(made[1:], 2):
        if how.scratch:
            place = ("steps", number, how.verb, "init")
            yield place, "trains from scratch, which only the first step can do"
    yield from _depths(recipe, made)
    yield from _untrained(made)
    if recipe.compare is not None and not recipe.shrinks:
        yield ("compare",), "needs a convert step and a depth: convert with depth, or truncate"
    if recipe.noise is not None and not _is_noise(recipe.noise):
        expected = "expected gaussian:SD or salt-pepper:SHARE"
        yield ("noise",), f"is {recipe.noise!r}, {expected}"


def _untrained(made: list[Verb]) -> Iterator[tuple[Place, str]]:
    """Methods that prune while they train, in steps that do not."""
    for number, how in enumerate(made, 1):
        if isinstance(how, Prune) and how.method in PRUNES_IN_TRAINING and not how.trains:
            advice = "prunes while it trains, and needs epochs of its own"
            yield ("steps", number, how.verb), f"with method {how.method} {advice}"


def _depths(recipe: Recipe, made: list[Verb]) -> Iterator[tuple[Place, str]]:
    """Depths that a network of this config will not have."""
    config = recipe.source if isinstance(recipe.source, dict) else {}
    blocks = config.get("num_hidden_layers")
    for number, how in enumerate(made, 1):
        depth = getattr(how, "depth", None)
        if depth is None or not isinstance(blocks, int):
            continue
        if depth > blocks:
            place = ("steps", number, how.verb, "depth")
            text = f"is {depth}, but the model has {blocks} blocks by then"
            yield place, f"{text}. Choose 1 to {blocks}"
        blocks = min(depth, blocks)


def _is_noise(text: str) -> bool:
    kind, _, amount = text.partition(":")
    try:
        value = float(amount)
    except ValueError:
        return False
    return (
        kind in {"gaussian", "salt-pepper"}
        and value >= 0
        and not (kind == "salt-pepper" and value > 1)
    )
