"""A training job as every step runs it: data by name, a recipe, the quality before and after,
paired on the same examples."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypedDict

from acn_compress.checkpoint.directory import Source
from acn_compress.data.load import Columns, Data, Examples, has_eval_split, load_data
from acn_compress.errors import ConfigError
from acn_compress.measure.quality import change, measure
from acn_compress.network.network import Network
from acn_compress.reports.base import Found
from acn_compress.tasks import task_of
from acn_compress.training.fit import Fit, fit
from acn_compress.training.hooks import Hook, Progress
from acn_compress.training.recipe import Recipe
from acn_compress.training.state import Kept
from acn_compress.training.walk import Walk

GLANCE = 1000  # examples measured once per epoch for the progress display


@dataclass(frozen=True)
class Job:
    """What to train on and how.

    Args:
        data: to train on.
        recipe: how.
        eval_data: to measure on; None takes another split of `data` if it has one.
        columns: as the user named them.
        limit: at most this many training examples.
        eval_limit: at most this many examples to measure on.
        augment: "crop" or "flip-crop" (images).
        max_length: of a text, in tokens.
    """

    data: str
    recipe: Recipe = Recipe()  # noqa: RUF009  (frozen)
    eval_data: str | None = None
    columns: Columns = Columns()  # noqa: RUF009  (frozen)
    limit: int | None = None
    eval_limit: int | None = None
    augment: str | None = None
    max_length: int | None = None

    def train_split(
        self, net: Network, source: Source | None, reference: Network | None = None
    ) -> Data:
        """The prepared training examples; `reference` as in `load_data`."""
        return load_data(
            self.data,
            net,
            source,
            role="train",
            columns=self.columns,
            limit=self.limit,
            augment=self.augment,
            max_length=self.max_length,
            reference=reference,
        )

    def eval_split(
        self, net: Network, source: Source | None, reference: Network | None = None
    ) -> Data | None:
        """The prepared examples to measure on, or None if there are none."""
        spec = self.eval_data or (self.data if has_eval_split(self.data) else None)
        if spec is None:
            return None
        return load_data(
            spec,
            net,
            source,
            role="eval",
            columns=self.columns,
            limit=self.eval_limit,
            max_length=self.max_length,
            reference=reference,
        )


class Training(TypedDict, total=False):
    """The fields of `Job` and `Recipe` as flat keyword arguments, named as the command-line
    options."""

    epochs: float
    batch_size: int
    lr: float | None
    warmup: float
    weight_decay: float
    label_smoothing: float
    distil_weight: float
    task_weight: float
    temperature: float
    hidden_weight: float
    prefix_loss: float
    prefix_depths: tuple[int, ...]
    accumulate: int
    precision: str
    checkpointing: bool
    seed: int
    eval_data: str | None
    columns: Columns
    limit: int | None
    eval_limit: int | None
    augment: str | None
    max_length: int | None


def as_job(data: str | Job, options: Training) -> Job:
    """A job from a data spec and flat options, or the job itself."""
    if isinstance(data, Job):
        if options:
            raise TypeError(f"options belong into the Job: {', '.join(options)}")
        return data
    unknown = sorted(set(options) - set(Training.__annotations__))
    if unknown:
        raise TypeError(f"unknown options: {', '.join(unknown)}")
    names = {f.name for f in fields(Recipe)}
    recipe = {k: v for k, v in options.items() if k in names}
    rest = {k: v for k, v in options.items() if k not in names}
    return Job(data, Recipe(**recipe), **rest)  # type: ignore[arg-type]


class Trained(Found):
    """What a training job found."""

    data: str
    """Trained on."""
    examples: int
    """Of them."""
    eval_data: str | None = None
    """Measured on; None if there was nothing to measure on, and then the rest is None as well."""
    training: Fit
    before: dict[str, Any] | None = None
    """Quality of the reference."""
    after: dict[str, Any] | None = None
    """Quality of the trained network."""
    drop: dict[str, Any] | None = None
    """Paired on the same examples, with a 95 % interval."""


class Compared(Found):
    """Quality of a network and of what it was made from."""

    data: str
    """Measured on."""
    before: dict[str, Any]
    after: dict[str, Any]
    drop: dict[str, Any]


def run_job(
    net: Network,
    source: Source | None,
    job: Job,
    *,
    teacher: Network | None = None,
    reference: Network | None = None,
    walk: Walk | None = None,
    hook: Hook | None = None,
    state: Kept | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train `net` in place and measure it.

    Args:
        reference: the network that "before" means and that the drop is paired with; None measures
            `net` itself before training.
        (the others as in `training.fit`)
    """
    if teacher is None and task_of(net) == "features":
        raise ConfigError(
            "features has no labels: it needs a teacher, whose embeddings are learned. "
            "Pass --teacher, or --task for another head."
        )
    data = job.train_split(net, source, teacher)
    eval_data = job.eval_split(net, source, teacher)
    before = None if eval_data is None else measure(reference or net, eval_data)
    result = fit(
        net,
        data,
        job.recipe,
        walk=walk,
        hook=hook,
        teacher=teacher,
        eval_data=eval_data and _glance(eval_data),
        state=state,
        progress=progress,
    )
    found: dict[str, Any] = {}
    if eval_data is not None and before is not None:
        found = change(before, measure(net, eval_data), data.task)
    name = None if eval_data is None else eval_data.name
    return Trained(data=data.name, examples=len(data), eval_data=name, training=result, **found)


def measure_job(net: Network, source: Source | None, job: Job, reference: Network) -> Compared:
    """Measure `net` against `reference` on what a job measures on (its data itself, if that has
    one split), without training."""
    eval_data = job.eval_split(net, source, reference) or replace(
        job, eval_data=job.data
    ).eval_split(net, source, reference)
    assert eval_data is not None
    found = change(measure(reference, eval_data), measure(net, eval_data), eval_data.task)
    return Compared(data=eval_data.name, **found)


def _glance(data: Data) -> Data:
    """The examples measured once per epoch."""
    return Data(data.name, data.task, _First(data.examples, GLANCE))


class _First:
    """The first `n` of other examples."""

    def __init__(self, examples: Examples, n: int) -> None:
        self.labels, self.collate = examples.labels, examples.collate
        self.sizes = None if examples.sizes is None else examples.sizes[:n]
        self._examples, self._n = examples, n

    def __len__(self) -> int:
        return min(self._n, len(self._examples))

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._examples[index]
