"""Tokenised texts one behind the other in one array of numbers. What memory should not hold goes
into a file as it is made, which is mapped: nothing is in memory but what is read."""

from __future__ import annotations

import os
import shutil
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acn_compress.checkpoint import swap
from acn_compress.tasks.base import Row

IN_MEMORY = 256 << 20  # bytes of numbers that are kept there
NUMBER = np.dtype("int32")


class Tokens(Sequence[Row]):
    """Rows of several lists of numbers each, all of the row's length.

    Args:
        keys: what the lists are, as the model calls them.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        self._ends = array("q", [0])  # in numbers
        self._new = array("i")  # not yet in the file
        self._file: Path | None = None
        self._numbers: np.ndarray[Any, np.dtype[np.int32]] | None = None

    def add(self, rows: Iterable[tuple[Sequence[int], ...]]) -> None:
        """More rows, each with a list per key."""
        for row in rows:
            for numbers in row:
                self._new.extend(numbers)
            self._ends.append(self._ends[-1] + sum(map(len, row)))
        if self._file is not None or len(self._new) * NUMBER.itemsize > IN_MEMORY:
            self._put_away()

    def _put_away(self) -> None:
        self._file = self._file or _own_file(self)
        with self._file.open("ab") as file:
            self._new.tofile(file)
        del self._new[:]

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        row = range(len(self))[index]
        begin, end = self._ends[row], self._ends[row + 1]
        lists = self._all()[begin:end].reshape(len(self.keys), -1)
        return dict(zip(self.keys, lists, strict=True))

    def __iter__(self) -> Iterator[Row]:
        return (self[i] for i in range(len(self)))

    def _all(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Every number, as they lie; what is done to them stays here."""
        if self._numbers is None:
            self._numbers = (
                np.asarray(self._new, NUMBER)
                if self._file is None
                else np.memmap(self._file, NUMBER, mode="c")
            )
        return self._numbers

    def __getstate__(self) -> dict[str, Any]:
        # to other processes: they map the file themselves
        return self.__dict__ | {"_numbers": None}


def _own_file(tokens: Tokens) -> Path:
    """A file in the cache of `datasets`, as long as the tokens are needed; that of a process that
    was killed is swept."""
    import datasets

    place = Path(datasets.config.HF_DATASETS_CACHE) / "acn_compress" / "tokens"
    place.parent.mkdir(parents=True, exist_ok=True)
    swap.recover(place)
    made = swap.new_name(place)
    made.mkdir(mode=0o700)
    weakref.finalize(tokens, _remove, made, os.getpid())
    return made / "tokens.int32"


def _remove(directory: Path, owner: int) -> None:
    if os.getpid() == owner:  # and not a copy of it
        shutil.rmtree(directory, ignore_errors=True)
