"""Some of the examples of a data set: of some classes, or the first ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from acn_compress.data.load import Data, Examples, Noise


class Chosen:
    """Some rows of other examples, with the labels in `classes` numbered anew in that order.
    Implements `data.Examples`."""

    sizes: Tensor | None = None

    def __init__(self, examples: Examples, rows: Sequence[int], classes: Sequence[int]) -> None:
        self.labels: list[str] | None = [str(c) for c in classes]
        self._examples, self._rows = examples, list(rows)
        self._number = {c: torch.tensor(i) for i, c in enumerate(classes)}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self._examples[self._rows[index]]
        return row | {"labels": self._number[int(row["labels"])]}

    def collate(
        self,
        examples: Sequence[dict[str, Tensor]],
        *,
        train: bool = False,
        noise: Noise | None = None,
    ) -> dict[str, Tensor]:
        """As the others do."""
        return self._examples.collate(examples, train=train, noise=noise)


def first(data: Data, count: int) -> Data:
    """At most the first `count` examples, of at most ten classes."""
    rows = range(min(count, len(data)))
    return Data(data.name, data.task, Chosen(data.examples, rows, range(10)))
