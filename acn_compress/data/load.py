"""Data a user names in one word (`places.py`), as the checkpoint's own processor or tokenizer
prepares it (`images.py`, `audio.py`, `text.py`); labels are matched to the model by name where both
have names (`labels.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from acn_compress.data.ahead import ahead
from acn_compress.data.audio import AudioExamples
from acn_compress.data.examples import Examples
from acn_compress.data.images import ImageExamples
from acn_compress.data.labels import check, some
from acn_compress.data.noise import Noise
from acn_compress.data.places import Split, has_eval_split, open_split
from acn_compress.data.read import Read
from acn_compress.data.split_names import Role
from acn_compress.data.table import Columns, Table
from acn_compress.data.text import TextExamples
from acn_compress.errors import DataError
from acn_compress.network.threads import threads_for
from acn_compress.tasks import task_called, task_of
from acn_compress.tasks.base import Batch, Task, features

if TYPE_CHECKING:
    from acn_compress.checkpoint.source import Source
    from acn_compress.data.places import Spec
    from acn_compress.network.network import Network

# tasks whose rows are of columns of their own, or cut in their own way
OF_TEXT_ALONE = ("masked-lm", "causal-lm", "question-answering", "token-classification")
WHOLE = {"image": "images", "audio": "clips"}  # modality -> what of it no length cuts
ANSWERED = "no labels: measured is how often a model answers as the original does"

__all__ = [
    "Columns",
    "Data",
    "Examples",
    "Noise",
    "Role",
    "has_eval_split",
    "label_names",
    "load_data",
    "token_counts",
    "open_split",
]


@dataclass
class Data:
    """A split, ready for the model.

    Args:
        name: what the user called it, with the split.
        task: the model's task.
        examples: the prepared examples.
        read: which split, columns, labels and rows they are.
        alike: [examples], when a model is measured only those of one number share a batch; None is
            any.
        workers: processes that read them ahead.
    """

    sent_once = True  # to other processes

    name: str
    task: Task
    examples: Examples
    read: Read | None = None
    alike: Tensor | None = None
    workers: int = 0

    def __len__(self) -> int:
        return len(self.examples)

    def batches(
        self,
        size: int,
        *,
        device: str | torch.device = "cpu",
        noise: Noise | None = None,
        part: slice = slice(None),
    ) -> Iterator[Batch]:
        """Every example once (or a part of the batches), those of similar size together. The order
        follows from the data alone (a text's size is its characters, whatever the tokenizer), so
        that models measured on the same data can be paired example by example."""
        batches = [at.tolist() for at in self.places(min(size, self.task.at_once or size))[part]]
        collate = partial(self.examples.collate, noise=noise)
        read = ahead(self.examples, batches, collate, self.workers, self.batch_bytes(size))
        for batch in read:
            yield {k: v.to(device) for k, v in batch.items()}

    def batch_bytes(self, size: int) -> int:
        """Of a batch of examples like the first, if others read them; 0 where nobody asks."""
        if self.workers == 0:
            return 0
        return size * sum(v.nbytes for v in self.examples.collate([self.examples[0]]).values())

    def places(self, size: int) -> list[Tensor]:
        """Which examples `batches` puts into one: at most `size`, and only such as may share it."""
        sizes = self.examples.sizes
        order = torch.arange(len(self)) if sizes is None else sizes.argsort(stable=True)
        if self.alike is None:
            return list(torch.split(order, size))
        runs = torch.unique_consecutive(self.alike[order], return_counts=True)[1].tolist()
        return [batch for run in torch.split(order, runs) for batch in torch.split(run, size)]

    def sample(
        self, count: int, *, device: str | torch.device = "cpu", noise: Noise | None = None
    ) -> Iterator[Batch]:
        """At most `count` examples, evenly spread over the data, each a batch of its own."""
        for i in range(0, len(self), -(-len(self) // count)):
            yield {
                k: v.to(device)
                for k, v in self.examples.collate([self.examples[i]], noise=noise).items()
            }


def load_data(
    spec: Spec,
    net: Network,
    source: Source | None,
    *,
    role: Role,
    columns: Columns = Columns(),  # noqa: B008  (frozen)
    limit: int | None = None,
    augment: str | None = None,
    max_length: int | None = None,
    reference: Network | None = None,
    seed: int = 0,
    answered: bool = False,
) -> Data:
    """Read the data `spec` names, for `net`.

    Args:
        spec: "digits", a path, or a Hub data set, with ":split" if wanted; or an object of
            `datasets`.
        net: decides the task, the labels and the input size.
        source: where its processor or tokenizer lies.
        role: "train" or "eval".
        columns: as the user named them.
        limit: at most this many rows, drawn from `seed`, with every class in its share.
        augment: "crop" or "flip-crop", for training on images.
        max_length: of a text, in tokens.
        reference: the network whose embeddings are the labels of the task features; None is `net`
            as it is now.
        seed: of the rows that are drawn.
        answered: where examples have one class each and the data has no labels, the answers of
            `net` stand for them: what is measured is how often a model answers as it does.
    Raises:
        DataError: saying what is there and what was expected.
    """
    task = task_of(net)
    if max_length is not None and (whole := WHOLE.get(task.modality)):
        raise DataError(f"max_length is of texts, in tokens; {whole} are read whole.")
    split = open_split(spec, role)
    if len(split.rows) == 0 or limit == 0:
        raise DataError(f"data {split.name} is empty.")
    table = Table.of(split, columns, net)
    classes = task.classes
    if answered and task.one_class and classes and not table.has_classes(classes):
        table.answered, classes = True, None
        table.notes.append(ANSWERED)
    table = table.sampled(limit, seed, classes)
    examples: ImageExamples | AudioExamples | TextExamples
    alike, workers = None, columns.workers or 0
    if task.modality == "image":
        examples = images = ImageExamples.prepare(table, net, source, task, augment)
        read, workers = _read(split, table, len(images), size=list(images.size)), images.workers
    elif task.modality == "audio":
        examples = clips = AudioExamples.prepare(table, net, source, task, augment=augment)
        read, alike = _read(split, table, len(clips), clips=clips.read()), clips.alike
    else:
        examples = texts = TextExamples.prepare(table, net, source, task, max_length)
        if task.taught:
            _check_reference(net, reference)
            texts.refer(reference or net)
        if max_length is None and (cost := texts.cost()):
            table.notes.append(cost)
        read = _read(split, table, len(texts), lengths=texts.lengths())
    data = Data(split.name, task, examples, read, alike, workers)
    if table.answered:
        examples.label(_answers(data, net))
    return data


def token_counts(
    spec: Spec, net: Network, source: Source | None, columns: Columns, max_length: int | None = None
) -> tuple[str, Tensor]:
    """How often each token occurs in data, as the network reads it; labels are not looked at where
    the texts can be read without.

    Returns:
        What was read, and [vocabulary].
    Raises:
        DataError: as `load_data`, and for a network that reads images.
    """
    own = task_of(net)
    if own.modality != "text":
        raise DataError(f"vocabulary is one of texts, and the model is for {own.name}.")
    split = open_split(spec, "train")
    table = Table.of(split, columns, net)
    task = own if own.name in OF_TEXT_ALONE or own.taught else task_called("features")
    texts = TextExamples.prepare(table, net, source, task, max_length)
    return split.name, texts.counts(net.config.vocab_size)


def _answers(data: Data, net: Network) -> Tensor:
    """The class that the network gives every example: [examples]."""
    found = torch.zeros(len(data), dtype=torch.long)
    with torch.inference_mode(), net.evaluating(), threads_for(net):
        for numbers in data.places(64):
            rows = [data.examples[i] for i in numbers.tolist()]
            batch = {k: v.to(net.device) for k, v in data.examples.collate(rows).items()}
            found[numbers] = net(**features(batch)).logits.argmax(-1).cpu()
    return found


def _read(split: Split, table: Table, examples: int, **of_a_modality: Any) -> Read:
    """The report of what was read."""
    matched, used = table.matched, len(table)
    notes = list(table.notes)
    missing = [] if matched is None else matched.missing
    if missing:
        notes.append(f"no row has the label {some(missing)}")
    return Read(
        data=split.name,
        split=split.split,
        rows=len(split.rows),
        used=used,
        examples=examples,
        columns=dict(table.picked),
        labels=None if matched is None else matched.mapping,
        matched=None if matched is None else matched.how,
        missing=missing or None,
        notes=notes,
        **of_a_modality,
    )


def _check_reference(net: Network, reference: Network | None) -> None:
    if reference is None:
        return
    for what, theirs, ours in (
        ("width", reference.width, net.width),
        ("embeddings of", _embedded(reference), _embedded(net)),
        ("vocabulary", reference.config.vocab_size, net.config.vocab_size),
    ):
        if theirs != ours:
            raise DataError(
                f"features: the reference has {what} {theirs}, but the model {ours}. "
                "They must be equal."
            )


def _embedded(net: Network) -> int:
    """Numbers of a text's embedding."""
    return net.width if net.sentence is None else net.sentence.width(net.width)


def label_names(spec: Spec, columns: Columns, task: Task) -> list[str] | None:
    """The label names of the training split, for a model that has none yet; None for a task without
    classes."""
    if task.classes is None:
        return None
    table = Table.of(open_split(spec, "train"), columns)
    column = table.class_column(task.classes)
    labels = table.labels(column)
    check(labels, table.name, column)
    if task.vectors:  # each class is there or not: one is enough
        places = table.places(column) if labels.names is None else None
        return labels.classes() if places is None else [f"LABEL_{i}" for i in range(places)]
    if len(occurring := set(labels.said())) < 2:
        found = f"only one class ({', '.join(occurring)})" if occurring else "no class"
        raise DataError(
            f"data {table.name}: {found} in column '{column}'; a classifier needs two. Add rows of "
            "another, or name another column with --label-column."
        )
    return labels.classes()
