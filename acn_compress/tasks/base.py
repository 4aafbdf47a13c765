"""What this package must know about a task: how a model's output is scored, what an example of it
is made of, and which head of transformers it belongs to. One frozen object per task, in a file of
its own; importing it imports no torch.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from transformers import PreTrainedConfig

    from acn_compress.architectures.base import Modality
    from acn_compress.network.network import Network

    Array = np.ndarray[Any, np.dtype[Any]]

Batch = dict[str, "Tensor"]
Row = dict[str, Any]  # of one text: input_ids and token_type_ids, int32 arrays of [length]

AT_ONCE = 1000  # texts that are tokenised together, as in `datasets.map`
IGNORED = -100  # the label of a token that does not count, as in transformers
NOT_INPUT = {"labels", "windows"}  # of a batch, what the model is not called with


@dataclass(frozen=True)
class Scored:
    """One batch, scored.

    Args:
        loss: [batch], the task loss of each example.
        score: [batch], the main metric of each example.
        weight: [batch], what the example counts for in the mean.
        logits: [rows, classes], what agreement and distillation compare; a row is an example or a
            token that counts.
        target: [rows], the label of each row, or None.
        held: what was said and what is right, [n] each, that a task's further figures compare,
            where they are not the class and the target of each row.
        numbers: `logits` are numbers (a regression, an embedding), not scores of classes.
    """

    loss: Tensor
    score: Tensor
    weight: Tensor
    logits: Tensor
    target: Tensor | None
    numbers: bool = False
    held: tuple[Tensor, Tensor] | None = None

    @property
    def prediction(self) -> Tensor:
        """[rows], the class (or the first number)."""
        return self.logits[:, 0] if self.numbers else self.logits.argmax(-1)


@dataclass(frozen=True)
class Rows:
    """The examples a task makes of a table.

    Args:
        inputs: one per text ({"windows": rows} of a text that is read in parts), in memory or not;
            empty where the input is no text.
        labels: one per example, in any shape the task's `collate` can join; None if there are none.
        names: of the classes, as the model has them.
        sizes: characters of each text (the same whatever the tokenizer); None if all are alike.
    """

    inputs: Sequence[Row]
    labels: Tensor | Sequence[Tensor] | None = None
    names: list[str] | None = None
    sizes: Sequence[int] | None = None


Lines = Literal["read", "taken"]


class Table(Protocol):
    """What a task may ask of the data. A column is the one the user named, or the first of
    `guesses` that is there; each method raises a DataError that lists the columns present."""

    @property
    def name(self) -> str:
        """What the user called it, with the split."""

    @property
    def notes(self) -> list[str]:
        """What the user should know about what was read."""

    def row(self, number: int) -> int:
        """The number that a row has in the data as they lie, where the user looks for it."""

    def texts(self) -> Iterator[list[list[str]]]:
        """Some rows at a time: one list of texts, or two of the same length for pairs; none is
        empty."""

    @property
    def lines(self) -> Lines | None:
        """Whether a text goes on in the next row, as a line of a text does: "read" from a .txt
        file, or "taken" for one."""

    def loose_texts(self) -> Iterator[list[str]]:
        """All texts, some at a time, empty ones too; of two columns one after the other."""

    def question_columns(self) -> tuple[list[str], list[str]]:
        """Questions and contexts."""

    def classes(self, guesses: Sequence[str]) -> tuple[Tensor, list[str]]:
        """A class per row as the model numbers them ([rows]), and the model's names of them."""

    def numbers(self, guesses: Sequence[str]) -> Tensor:
        """A number per row: [rows]."""

    def words(self, guesses: Sequence[str]) -> tuple[list[list[str]], list[Tensor], list[str]]:
        """A list of words per row, as many classes, and the model's names of them."""

    def class_lists(self, guesses: Sequence[str]) -> tuple[list[Tensor], list[str]]:
        """The classes of every row, as the model numbers them, and the model's names of them."""

    def values(self, guesses: Sequence[str], what: str) -> list[Any]:
        """A column of labels as it is."""


class Encoder(Protocol):
    """How a checkpoint wants its texts."""

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's own."""

    @property
    def length(self) -> int:
        """Most tokens of a text."""

    @property
    def vocabulary(self) -> int:
        """Tokens that the model can embed."""

    @property
    def frame(self) -> Tensor:
        """Tokens that stand around a text, sorted."""

    def encode(self, *texts: Any, **options: Any) -> Any:
        """transformers' encoding of a list of texts, or of two lists."""

    def rows(self, encoded: Iterable[Any]) -> Sequence[Row]:
        """One row per text of encodings that are made as they are needed."""


Labels = Callable[[Table], "tuple[Tensor, list[str] | None]"]


def of_texts(labels: Labels) -> Callable[[Table, Encoder], Rows]:
    """How a task makes its examples: a text or a pair per row, with the row's label.

    Args:
        labels: of a table: [rows, ...], and the model's names of them.
    """

    def rows(table: Table, encoder: Encoder) -> Rows:
        texts = table.texts()
        targets, names = labels(table)
        inputs, sizes = tokenised(texts, encoder)
        return Rows(inputs, targets, names, sizes)

    return rows


def of_loose_texts(table: Table, encoder: Encoder, shown: Callable[[str], str] = str) -> Rows:
    """An example per text; empty ones are left out.

    Args:
        shown: what the tokenizer is given for a text.
    """
    chunks = ([text for t in texts if (text := t.strip())] for texts in table.loose_texts())
    inputs, sizes = tokenised(([texts] for texts in chunks if texts), encoder, shown)
    return Rows(inputs, None, None, sizes)


def tokenised(
    texts: Iterable[list[list[str]]], encoder: Encoder, shown: Callable[[str], str] = str
) -> tuple[Sequence[Row], Sequence[int]]:
    """Rows of texts (or of pairs) that come some at a time, and the characters of each."""
    sizes = array("q")

    def encoded() -> Iterator[Any]:
        for some in texts:
            sizes.extend(sum(map(len, row)) for row in zip(*some, strict=True))
            yield encoder.encode(*([shown(text) for text in column] for column in some))

    return encoder.rows(encoded()), sizes


def stacked(
    ids: list[Tensor], labels: list[Tensor], seeds: list[int | None], encoder: Encoder
) -> tuple[list[Tensor], Tensor | None]:
    """Labels of one shape, as they are."""
    import torch

    return ids, torch.stack(labels) if labels else None


def padded(
    ids: list[Tensor], labels: list[Tensor], seeds: list[int | None], encoder: Encoder
) -> tuple[list[Tensor], Tensor | None]:
    """A label per token."""
    from torch.nn.utils.rnn import pad_sequence

    return ids, pad_sequence(labels, batch_first=True, padding_value=IGNORED)


Collate = Callable[
    ["list[Tensor]", "list[Tensor]", "list[int | None]", Encoder],
    "tuple[list[Tensor], Tensor | None]",
]


def _logits(output: Any, inputs: Batch) -> Tensor:
    """One decision per example."""
    logits: Tensor = output.logits
    return logits.float()


def _no_extras(prediction: Array, target: Array, loss: float) -> dict[str, float]:
    return {}


def _no_head(config: PreTrainedConfig) -> None:
    """Most heads are as wide as there are labels."""


def _any(config: PreTrainedConfig) -> bool:
    return True


def _refuse_none(config: PreTrainedConfig) -> str | None:
    return None


def _as_it_is(task: Task, net: Network) -> Task:
    return task


@dataclass(frozen=True, eq=False)
class Task:
    """One task. Its main metric is a weighted mean over examples and larger is better, so that
    intervals, pairing and tolerances work the same for all.

    Args:
        name: as users write it.
        metric: the main one.
        modality: of its input.
        heads: ends of the names of transformers' classes that are for it.
        auto_class: of transformers, which finds the class for a config.
        pipeline_tag: the Hub's name of it.
        score: (output, batch) -> the batch, scored; `output` has the names of transformers' own.
        answers: (output, inputs) -> [rows, classes], every decision that the model makes, whether a
            label asks for it or not; padding makes none. Numbers where the task gives numbers.
        rows: (table, encoder) -> its examples; for images and clips the labels alone.
        extras: (prediction, target, loss) of a whole data set -> further metrics by name.
        collate: (ids, labels, seeds, encoder) of a batch -> ids, labels; a seed may be None,
            for torch's own generator.
        fits: config -> whether a head of this class is for this task.
        refuse: config -> why such a head cannot be trained or evaluated here, or None.
        set_head_: gives a config what its head is built for.
        bound: (task, net) -> the task as this network does it.
        classes: columns that hold the classes, most likely first; None for a task without.
        one_class: it gives every example one class, so it can stop early.
        vectors: its labels may be vectors of zeros and ones, a place for each class.
        taught: its labels are the answers of a teacher, and it reads no head.
        one_way: only a network in which a token sees none behind it can do it.
        aligned: its labels belong to the words of a list.
        longest: most tokens of a text, unless the user says otherwise; None is the model's own
            limit.
        at_once: most texts to measure at once; None leaves that to the user.
        over_vocabulary: its answers are tokens.
        numbers: its answers are numbers, not scores of classes.
        counted: each example is right or wrong, and the metric counts the right ones.
        reach: the lowest and the highest score that an example can have.
    """

    name: str
    metric: str
    modality: Modality
    heads: tuple[str, ...]
    auto_class: str
    pipeline_tag: str
    score: Callable[[Any, Batch], Scored]
    rows: Callable[[Table, Any], Rows]
    answers: Callable[[Any, Batch], Tensor] = _logits
    extras: Callable[[Array, Array, float], dict[str, float]] = _no_extras
    collate: Collate = stacked
    fits: Callable[[PreTrainedConfig], bool] = _any
    refuse: Callable[[PreTrainedConfig], str | None] = _refuse_none
    set_head_: Callable[[PreTrainedConfig], None] = _no_head
    bound: Callable[[Task, Network], Task] = _as_it_is
    classes: tuple[str, ...] | None = None
    one_class: bool = False
    vectors: bool = False
    taught: bool = False
    one_way: bool = False
    aligned: bool = False
    longest: int | None = None
    at_once: int | None = None
    over_vocabulary: bool = False
    numbers: bool = False
    counted: bool = False
    reach: tuple[float, float] = (0.0, 1.0)

    def __repr__(self) -> str:
        return f"Task({self.name})"

    def of(self, net: Network) -> Task:
        """The task as this network does it."""
        return self.bound(self, net)


def features(batch: Batch) -> Batch:
    """What the model is called with: the batch without its labels and the count of windows."""
    return {k: v for k, v in batch.items() if k not in NOT_INPUT}


def divergence(student: Scored, teacher: Scored, temperature: float = 1.0) -> Tensor:
    """[rows], how far the student's answer is from the teacher's: KL(teacher || student), or for
    numbers the squared error."""
    import torch.nn.functional as F

    if student.numbers:
        return (student.logits - teacher.logits).square().mean(-1)
    return F.kl_div(
        F.log_softmax(student.logits / temperature, -1),
        F.log_softmax(teacher.logits / temperature, -1),
        log_target=True,
        reduction="none",
    ).sum(-1)


def distillation(student: Scored, teacher: Scored, temperature: float) -> Tensor:
    """[rows], Hinton's loss: T^2 * KL(teacher_T || student_T); for numbers the squared error."""
    apart = divergence(student, teacher, temperature)
    return apart if student.numbers else apart * temperature**2
