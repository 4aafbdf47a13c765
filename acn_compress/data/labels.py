"""Labels of data as a model numbers them: by exact name, then by a name that differs in case alone
and cannot be mistaken, then by number if the model's names say nothing. Anything else is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from acn_compress.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

NEW_HEAD = "To train a head for these labels: acn-compress finetune with --task."
# pandas takes these words for nothing, which a class or a text may be called
EMPTY = "in a csv file so is what says NA, N/A, None, null or NaN; json lines can say these words"


@dataclass(frozen=True)
class Labels:
    """A column of labels.

    Args:
        values: as the data has them, one per row.
        names: of the classes, where the data gives its numbers names (a ClassLabel).
    """

    values: Sequence[object]
    names: list[str] | None = None

    def said(self) -> list[str]:
        """What every row says, as text: the name of its class, or its number."""
        if self.names is None:
            return [text_of(value) for value in self.values]
        return [self.names[int(str(value))] for value in self.values]

    @property
    def numbered(self) -> bool:
        """Whether all classes are called by numbers. These are meant then, and not the places at
        which the names stand: folders are sorted as texts, 10 before 2."""
        return all(map(is_number, set(self.said()) if self.names is None else self.names))

    def classes(self) -> list[str]:
        """The classes that the data names, or that occur in it, in their order."""
        if self.names is not None:
            return in_order(self.names) if self.numbered else list(self.names)
        return in_order(set(self.said()))


@dataclass(frozen=True)
class Matched:
    """Labels as a model numbers them.

    Args:
        numbers: [rows].
        names: the model's, by number.
        mapping: of every class of the data that occurs, the model's name.
        how: "name", "case" or "number".
    """

    numbers: Tensor
    names: list[str]
    mapping: dict[str, str]
    how: str

    @property
    def missing(self) -> list[str]:
        """The model's classes that no row has."""
        present = set(self.mapping.values())
        return [name for name in self.names if name not in present]


def text_of(value: object) -> str:
    """A label as text: 3 and 3.0 are both 3."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def is_number(text: str) -> bool:
    """Whether a label is a whole number."""
    return text.removeprefix("-").isdecimal()


def in_order(names: Iterable[str]) -> list[str]:
    """Names that are sorted: numbers by what they are."""
    found = list(names)
    return sorted(found, key=int) if all(map(is_number, found)) else sorted(found)


def match(
    labels: Labels, config: PreTrainedConfig, name: str, column: str, named: bool = False
) -> Matched:
    """Labels as the model numbers them.

    Args:
        named: the model's classes are those of the training data.
    Raises:
        DataError: if they cannot be matched beyond doubt.
    """
    check(labels, name, column)
    names = names_of(config)
    said = labels.said()
    occurring = sorted(set(said))
    table = (
        by_name(occurring, names)
        or by_case(occurring, names)
        or by_number(labels, occurring, names)
    )
    if table is None and named:
        _check_learned(labels, occurring, names, f"data {name}")
    numbers, how = table or refuse(labels, occurring, names, f"data {name}")
    mapping = {text: names[numbers[text]] for text in sorted(occurring, key=numbers.__getitem__)}
    return Matched(torch.tensor([numbers[text] for text in said]), names, mapping, how)


def by_place(rows: Sequence[Sequence[object]], names: list[str]) -> Matched:
    """Vectors of zeros and ones, one place for each class of the model."""
    there = [i for i in range(len(names)) if any(row[i] for row in rows)]
    numbers = torch.tensor([i for row in rows for i, flag in enumerate(row) if flag])
    return Matched(numbers, names, {str(i): names[i] for i in there}, "number")


def names_of(config: PreTrainedConfig) -> list[str]:
    """The model's classes, by number."""
    own = {int(k): str(v) for k, v in config.id2label.items()}
    return [own[i] for i in sorted(own)]


def is_generic(names: Sequence[str]) -> bool:
    """Whether the names are those that transformers makes up."""
    return all(n == f"LABEL_{i}" for i, n in enumerate(names))


def check(labels: Labels, name: str, column: str) -> None:
    """Refuse rows without a label, and numbers that are no classes."""
    empty = sum(value is None or value != value for value in labels.values)  # NaN
    if empty:
        raise DataError(
            f"data {name}: column '{column}' has empty labels ({empty} of {len(labels.values)}; "
            f"{EMPTY}). Remove the rows, or name another column with --label-column."
        )
    for value in labels.values:
        if isinstance(value, float) and not value.is_integer():
            raise DataError(
                f"data {name}: column '{column}' is not a class label (found {value!r})."
            )
        if labels.names is not None and int(str(value)) < 0:
            raise DataError(
                f"data {name}: split has no labels (found {value}). Name another split."
            )


Table = tuple[Mapping[str, int], str]


def by_name(occurring: Sequence[str], names: Sequence[str]) -> Table | None:
    """Every label is a name of the model; a split need not have every label."""
    order = {name: i for i, name in enumerate(names)}
    return (order, "name") if set(occurring) <= set(order) and len(order) == len(names) else None


def by_case(occurring: Sequence[str], names: Sequence[str]) -> Table | None:
    """Every label is a name of the model but for case, and no two are the same but for case."""
    found = {
        text: [i for i, n in enumerate(names) if n == text]
        or [i for i, n in enumerate(names) if fold(n) == fold(text)]
        for text in occurring
    }
    chosen = {text: places[0] for text, places in found.items() if len(places) == 1}
    if len(chosen) < len(occurring) or len(set(chosen.values())) < len(occurring):
        return None
    return chosen, "case"


def fold(name: str) -> str:
    """A name without case and surrounding space."""
    return name.strip().casefold()


def by_number(labels: Labels, occurring: Sequence[str], names: Sequence[str]) -> Table | None:
    """The model's names are numbers, or say nothing, so that its classes are numbers: those of the
    data must fit."""
    own = numbers_of(names)
    if own is None:
        return None
    if labels.numbered:
        places = {number: i for i, number in enumerate(own)}
        found = {text: places.get(int(text)) for text in occurring}
        order = {text: place for text, place in found.items() if place is not None}
        fit = len(set(order.values())) == len(occurring) and len(places) == len(own)
        return (order, "number") if fit else None
    if labels.names is None or not is_generic(names):
        return None
    order = {text: i for i, text in enumerate(labels.names)}
    return (order, "number") if len(order) == len(names) else None


def numbers_of(names: Sequence[str]) -> list[int] | None:
    """Of a model's classes: those that they are called by, or their places where the names say
    nothing; None where they have names."""
    if is_generic(names):
        return list(range(len(names)))
    return [int(name) for name in names] if all(map(is_number, names)) else None


def _check_learned(
    labels: Labels, occurring: Sequence[str], names: Sequence[str], where: str
) -> None:
    """Refuse labels that the training data lack, whose classes the model has."""
    if others := _unknown(in_order(occurring), names):
        rows = labels.said().count(others[0])
        raise DataError(
            f"{where} has labels that the training data lack: {some(others)} ({others[0]} in "
            f"{rows:,} rows). A head learns the classes that it is trained on: put rows of them "
            "into the training data, or take these away."
        )


def refuse(labels: Labels, occurring: Sequence[str], names: Sequence[str], where: str) -> Table:
    """Say why labels cannot be matched.

    Raises:
        DataError: always.
    """
    if labels.numbered:
        low, high = min(map(int, occurring)), max(map(int, occurring))
        if (own := numbers_of(names)) is None:
            raise DataError(
                f"{where}: the labels are numbers ({low} to {high}), but the model's classes have "
                f"names ({some(names)}): which number is which name is not known. Write these "
                "names into the data."
            )
        if len({int(text) for text in occurring}) < len(occurring):
            raise DataError(
                f"{where}: two of the labels are one number ({some(in_order(occurring))}). Write "
                "it in one way."
            )
        raise DataError(
            f"{where}: labels run from {low} to {high}, but the model has {len(names)} classes "
            f"({min(own)} to {max(own)}). {NEW_HEAD}"
        )
    found = labels.classes()
    if len(found) != len(names):
        raise DataError(
            f"{where} has {len(found)} labels ({some(found)}), but the model has {len(names)} "
            f"({some(names)}){_others(labels, found, names)}. {NEW_HEAD}"
        )
    raise DataError(
        f"{where} has the labels {some(found)}, but the model knows {some(names)}. "
        f"They must have the same names. {NEW_HEAD}"
    )


def _others(labels: Labels, found: Sequence[str], names: Sequence[str]) -> str:
    """Which labels are none of the model's, and how many rows have the first, where some are."""
    others = _unknown(found, names)
    if not 0 < len(others) < len(found):
        return ""
    rows = labels.said().count(others[0])
    return f"; not among them: {some(others)} ({others[0]} in {rows:,} rows)"


def _unknown(found: Sequence[str], names: Sequence[str]) -> list[str]:
    known = {fold(name) for name in names}
    return [label for label in found if fold(label) not in known]


def some(names: Sequence[str]) -> str:
    """The first few."""
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
