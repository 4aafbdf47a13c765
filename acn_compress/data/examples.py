"""What the data wing hands out: prepared examples of one modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from acn_compress.data.noise import Noise
from acn_compress.tasks.base import Batch


class Examples(Protocol):
    """Prepared examples of one modality; `sizes` ([examples], or None if all are of one size) says
    which to put in one batch."""

    labels: list[str] | None
    sizes: Tensor | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def collate(
        self, examples: Sequence[dict[str, Any]], *, train: bool = False, noise: Noise | None = None
    ) -> Batch: ...
