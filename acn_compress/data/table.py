"""The rows of a split, read by column: which columns hold the texts, the images, the
clips and the labels.
What a task asks of its data (`tasks.base.Table`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from acn_compress.data.labels import EMPTY, Labels, Matched, by_place, check, match, names_of, some
from acn_compress.data.sample import drawn, place_of, stratified, stretch
from acn_compress.errors import DataError
from acn_compress.tasks.base import AT_ONCE, Lines

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedConfig

    from acn_compress import options
    from acn_compress.data.places import Split
    from acn_compress.data.sample import Rows
    from acn_compress.network.network import Network

PAIRS = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
    ("query", "passage"),
)
TEXTS = ("sentence", "text", "content", "review", "document", "question", "comment", "tweet")
AUDIO = ("audio", "speech", "sound", "recording", "clip")
IMAGES = ("image", "img", "pixel_values", "picture", "photo")
LABELS = ("label", "labels", "class", "target", "category", "fine_label")  # never taken for texts
NUMERIC = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8")
Kind = Literal["label", "image", "text", "audio"]


@dataclass(frozen=True)
class Columns:
    """Columns the user named; None means guess. Two text columns are written with a comma
    between. And how many processes read them ahead; None means as many as pay."""

    label: str | None = None
    image: str | None = None
    text: str | None = None
    audio: str | None = None
    workers: int | None = None

    @classmethod
    def of(cls, how: options.Columns) -> Columns:
        """Those of a verb's options."""
        columns = how.label_column, how.image_column, how.text_column, how.audio_column
        return cls(*columns, how.workers)


@dataclass
class Table:
    """The rows of a split, and what was read of them.

    Args:
        rows: as `datasets` reads them.
        name: what the user called it, with the split.
        columns: as the user named them.
        config: of the model, whose classes labels are matched with; None while there is none.
        named: these classes are those of the training data.
        picked: the columns that were read, by what they hold.
        matched: the labels as the model numbers them, once they were asked for.
        notes: what one should know about what was read.
        answered: there are no labels, and the model's own answers will stand for them.
        chosen: of rows that were drawn from the data, which they are there.
    """

    rows: datasets.Dataset
    name: str
    columns: Columns = Columns()
    config: PreTrainedConfig | None = None
    named: bool = False
    picked: dict[str, str] = field(default_factory=dict)
    matched: Matched | None = None
    notes: list[str] = field(default_factory=list)
    answered: bool = False
    chosen: Sequence[int] | Rows | None = None

    @classmethod
    def of(cls, split: Split, columns: Columns, net: Network | None = None) -> Table:
        """Of a split as it was found, for a network where there is one."""
        config, named = (None, False) if net is None else (net.config, net.named)
        return cls(split.rows, split.name, columns, config, named, notes=list(split.notes))

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, number: int) -> int:
        """The number that a row has in the data as they lie, where the user looks for it."""
        return place_of(number, self.chosen)

    def sampled(self, limit: int | None, seed: int, guesses: Sequence[str] | None) -> Table:
        """At most `limit` rows, drawn from `seed`; where there are classes (in the first of
        `guesses` that is there), every class in its share. Lines of a text file stay together."""
        count = len(self.rows)
        if limit is None or limit >= count:
            return self
        if guesses is not None and not self._has_lists(column := self.class_column(guesses)):
            labels = self.labels(column)
            check(labels, self.name, column)
            rows, how = stratified(labels.said(), limit, seed), "with every class in its share"
        elif self.lines:
            rows, how = stretch(count, limit, seed), "one after the other"
        else:
            rows, how = drawn(count, limit, seed), "each as likely"
        self.notes.insert(0, f"{limit} of {count} rows, drawn from seed {seed}, {how}")
        return replace(self, rows=self.rows.select(rows), chosen=rows)

    def _has_lists(self, column: str) -> bool:
        return getattr(self.rows.features[column], "feature", None) is not None

    @property
    def lines(self) -> Lines | None:
        """Whether a text goes on in the next row: those of a .txt file do; others are taken to
        where each is one line with its end and nothing else is there, as in WikiText."""
        if self.rows.info.builder_name == "text":
            return "read"
        if self.rows.column_names != ["text"]:
            return None
        some = [text for text in self.rows[:AT_ONCE]["text"] if text]
        alike = all(isinstance(t, str) and t.find("\n") == len(t) - 1 for t in some)
        return "taken" if some and alike else None

    def pick(self, kind: Kind, guesses: Sequence[str], what: str, typed: Sequence[str] = ()) -> str:
        """The column to read: the one the user named, or the first of `guesses` that is there, or
        the only one of `typed` (columns whose type says what they hold).

        Raises:
            DataError: listing the columns present.
        """
        if (wanted := getattr(self.columns, kind)) is not None:
            return self.present(wanted, kind)
        found = [guess for guess in guesses if guess in self.rows.column_names] or list(typed)
        if not found or (len(found) > 1 and found == list(typed)):
            here = ", ".join(self.rows.column_names)
            why = f"{', '.join(found)} could all hold" if found else "no column holds"
            alone = kind == "label" and len(self.rows.column_names) == 1  # none is left to be named
            unparted = self._unparted()
            raise DataError(
                f"data {self.name}: {why} the {what}. Present: {here}."
                + f" Name it with --{kind}-column." * (not alone or bool(unparted))
                + unparted
                + _told(self.notes)
            )
        return self.taken(found[0], kind)

    def taken(self, column: str, kind: Kind) -> str:
        """The column, noted as read."""
        before = self.picked.get(kind)
        self.picked[kind] = column if before in {None, column} else f"{before},{column}"
        return column

    def present(self, column: str, kind: Kind) -> str:
        """A column that the user named, if it is there."""
        if column in self.rows.column_names:
            return self.taken(column, kind)
        wrong: dict[str, str] = {column: kind}
        for other in get_args(Kind):  # all at once
            said = getattr(self.columns, other) or ""
            names = [c.strip() for c in said.split(",")] if other == "text" else [said]
            wrong |= {n: other for n in names if n and n not in self.rows.column_names}
        columns = " and no column ".join(f"'{name}'" for name in wrong)
        options = " and ".join(f"--{name}-column" for name in dict.fromkeys(wrong.values()))
        raise DataError(
            f"data {self.name} has no column {columns}. "
            f"Present: {', '.join(self.rows.column_names)}. Set {options}." + self._nested()
        )

    def _unparted(self) -> str:
        """What to do where one column bears the names of several."""
        names = self.rows.column_names
        sign = next((s for s in ";|\t" if len(names) == 1 and s in names[0]), None)
        if sign is None:
            return ""
        return f" Its fields are parted by {sign!r}: a .csv file has commas, a .tsv file tabs."

    def _nested(self) -> str:
        """What to do where a column holds rows of its own."""
        nested = [c for c, f in self.rows.features.items() if _holds_objects(f)]
        if not nested:
            return ""
        return f" Column '{nested[0]}' holds objects within a row: write one row per example."

    # texts

    def texts(self) -> Iterator[list[list[str]]]:
        """Some rows at a time: one list of texts, or two of the same length for pairs; none is
        empty."""
        columns = self._text_columns()
        return ([self._texts(c, rows) for c in columns] for rows in self._parts())

    def loose_texts(self) -> Iterator[list[str]]:
        """All texts, some at a time, empty ones too; of two columns one after the other."""
        columns = self._text_columns()
        return (
            [text for text in self.rows[c][rows] if isinstance(text, str)]
            for c in columns
            for rows in self._parts()
        )

    def _parts(self) -> Iterator[slice]:
        """The rows, some at a time: a table lies on the disk, what is taken of it in memory."""
        return (slice(i, i + AT_ONCE) for i in range(0, len(self), AT_ONCE))

    def question_columns(self) -> tuple[list[str], list[str]]:
        """Questions and contexts."""
        wanted = (self.columns.text or "question,context").split(",")
        if len(wanted) != 2:
            raise DataError(
                f"--text-column is '{self.columns.text}', expected the columns of question and "
                "context with a comma between."
            )
        question, context = (self.present(column.strip(), "text") for column in wanted)
        return self._texts(question), self._texts(context)

    def _text_columns(self) -> list[str]:
        """The columns of the text: one, or two for a pair."""
        present = list(self.rows.column_names)
        if self.columns.text is not None:
            found = [self.present(c.strip(), "text") for c in self.columns.text.split(",")]
            if len(found) > 2:
                raise DataError(
                    f"--text-column names {len(found)} columns. "
                    "Expected one, or two with a comma between for pairs."
                )
            return found
        for pair in PAIRS:
            if all(column in present for column in pair):
                return [self.taken(column, "text") for column in pair]
        texts = [c for c in self._typed("string", "large_string") if c not in LABELS]
        return [self.pick("text", TEXTS, "text", texts)]

    def _typed(self, *dtypes: str) -> list[str]:
        """Columns of these types, as `datasets` calls them."""
        features = self.rows.features.items()
        return [column for column, f in features if getattr(f, "dtype", None) in dtypes]

    def _texts(self, column: str, rows: slice = slice(None)) -> list[str]:
        values = list(self.rows[column][rows])
        for number, value in enumerate(values, rows.start or 0):
            if isinstance(value, str) and value.strip():
                continue
            empty = value is None or isinstance(value, str)
            nothing = f"is empty ({EMPTY})" if value is None else "is empty"
            what = nothing if empty else f"holds no text (found {str(value)[:40]})"
            raise DataError(
                f"data {self.name}: row {self.row(number)} of column '{column}' {what}. "
                "Remove the row, or name another column."
            )
        return values

    # labels

    def classes(self, guesses: Sequence[str]) -> tuple[Tensor, list[str]]:
        """A class per row as the model numbers them ([rows]), and the model's names of them."""
        if self.answered:
            assert self.config is not None
            return torch.zeros(len(self), dtype=torch.long), names_of(self.config)
        found = self._match(self.class_column(guesses))
        return found.numbers, found.names

    def class_column(self, guesses: Sequence[str]) -> str:
        """The column of the classes."""
        return self.pick("label", guesses, "labels", self._class_columns())

    def has_classes(self, guesses: Sequence[str]) -> bool:
        """Whether the user named the column of the classes, or one could hold them."""
        there = set(guesses) & set(self.rows.column_names)
        return bool(self.columns.label or there or self._class_columns())

    def _class_columns(self) -> list[str]:
        import datasets

        features = self.rows.features.items()
        return [column for column, f in features if isinstance(f, datasets.ClassLabel)]

    def labels(self, column: str) -> Labels:
        """A column of classes; of lists, every entry of every list."""
        feature, values = self.rows.features[column], self.rows[column][:]
        if (inner := getattr(feature, "feature", None)) is not None:
            feature, values = inner, [value for row in values for value in row or ()]
        return Labels(list(values), getattr(feature, "names", None))

    def numbers(self, guesses: Sequence[str]) -> Tensor:
        """A number per row: [rows]."""
        numeric = set(self._typed(*NUMERIC))
        guesses = [g for g in guesses if g in numeric] or guesses
        column = self.pick("label", guesses, "numbers")
        labels = self.labels(column)
        values = labels.values if labels.names is None else labels.said()
        try:
            found = torch.tensor([float(value) for value in values])  # type: ignore[arg-type]
        except (TypeError, ValueError):
            row = next(i for i, value in enumerate(values) if not _is_number(value))
            raise DataError(
                f"data {self.name}: column '{column}' does not hold a number in every row: row "
                f"{self.row(row)} is {str(values[row])[:40]!r}. Mend it, or name another column "
                "with --label-column."
            ) from None
        if not found.isfinite().all():
            row = int((~found.isfinite()).nonzero()[0])
            raise DataError(
                f"data {self.name}: row {self.row(row)} of column '{column}' is {found[row]}."
            )
        return found

    def values(self, guesses: Sequence[str], what: str) -> list[Any]:
        """A column of labels as it is."""
        return list(self.rows[self.pick("label", guesses, what)][:])

    def words(self, guesses: Sequence[str]) -> tuple[list[list[str]], list[Tensor], list[str]]:
        """A list of words per row, as many classes, and the model's names of them."""
        column = self.pick("text", ("tokens", "words"), "lists of words")
        label = self.pick("label", guesses, "lists of tags")
        for which in (column, label):
            if not self._has_lists(which):
                raise DataError(
                    f"data {self.name}: column '{which}' holds no lists. "
                    "Expected one word and one tag per list entry."
                )
        words = list(self.rows[column][:])
        for number, row in enumerate(words):
            if others := [word for word in row or () if not isinstance(word, str)]:
                raise DataError(
                    f"data {self.name}: row {self.row(number)} of column '{column}' holds "
                    f"{others[0]!r}. Expected lists of words, each a text."
                )
        counts = [len(tags or ()) for tags in self.rows[label][:]]
        for number, (row, n) in enumerate(zip(words, counts, strict=True)):
            if not row or len(row) != n:
                raise DataError(
                    f"data {self.name}: row {self.row(number)} has {len(row or ())} words and {n} "
                    "tags. "
                    "Expected as many of each, and at least one."
                )
        found = self._match(label)
        return words, list(torch.split(found.numbers, counts)), found.names

    def class_lists(self, guesses: Sequence[str]) -> tuple[list[Tensor], list[str]]:
        """The classes of every row, as the model numbers them, and the model's names of them: from
        lists of classes, or from vectors of zeros and ones, one for each class of the model."""
        column = self.pick("label", guesses, "lists of classes")
        if not self._has_lists(column):
            raise DataError(
                f"data {self.name}: column '{column}' holds no lists. Expected a list of classes "
                "in "
                "every row (an empty one where there is none), or a vector of zeros and ones."
            )
        assert self.config is not None
        lists, names = [list(row or ()) for row in self.rows[column][:]], names_of(self.config)
        places = self.places(column)
        if places == len(names):
            self.matched = by_place(lists, names)
            return [torch.tensor(row).nonzero().flatten() for row in lists], names
        if places is not None and any(len(set(row)) < len(row) for row in lists):
            raise DataError(
                f"data {self.name}: column '{column}' holds vectors of {places} zeros and ones, "
                f"but the model has {len(names)} classes ({some(names)}). Expected a place for "
                "each."
            )
        found = self._match(column)
        return list(torch.split(found.numbers, [len(row) for row in lists])), found.names

    def places(self, column: str) -> int | None:
        """How many classes the vectors of zeros and ones of a column have places for; None if they
        are none. One list of one class is no such vector, nor are lists of texts."""
        if not self._has_lists(column):
            return None
        lists = [row or () for row in self.rows[column][:]]
        lengths = {len(row) for row in lists}
        if len(lengths) != 1 or max(lengths) < 2 or not {v for r in lists for v in r} <= {0, 1}:
            return None
        return lengths.pop()

    def _match(self, column: str) -> Matched:
        assert self.config is not None
        self.matched = match(self.labels(column), self.config, self.name, column, self.named)
        return self.matched


def _told(notes: Sequence[str]) -> str:
    """As sentences behind an error."""
    return "".join(f" Note: {note}." for note in notes)


def _holds_objects(feature: Any) -> bool:
    """Whether a column holds lists of objects with fields of their own."""
    while (inner := getattr(feature, "feature", None)) is not None:
        feature = inner
        if isinstance(feature, dict):
            return True
    return False


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True
