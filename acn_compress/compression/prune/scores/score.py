"""What a score is: how much every unit of a network matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, finfo

from acn_compress.errors import ConfigError

if TYPE_CHECKING:
    from acn_compress.compression.calibration import Batches
    from acn_compress.compression.writers import Writer
    from acn_compress.network.network import Network

Units = tuple[dict[str, Tensor], ...]
"""Per block, by the name of its width: one number for each unit, [units]."""


def by_block(net: Network, found: Sequence[Writer], scores: Sequence[Tensor]) -> Units:
    """The scores of writers as those of their widths; of a width that several read, the sum."""
    units: Units = tuple({} for _ in net.blocks)
    for writer, score in zip(found, scores, strict=True):
        block = units[writer.block]
        block[writer.name] = score + block[writer.name] if writer.name in block else score
    return units


def relative(score: Tensor) -> Tensor:
    """Relative to the mean of a width, [units]; zeros stay."""
    return score / score.mean().clamp_min(finfo(score.dtype).tiny)


@dataclass(frozen=True)
class Score:
    """A score for structured pruning. How units of different widths are then ranked is not its
    business (`ranking.py`), but whether its numbers can be compared as they are.

    Args:
        name: as it is chosen.
        help: one sentence for who chooses.
        of: (net, data) -> the importance of every unit, all widths at once, so that data need be
            run through only once; float32, the higher the more it is worth. `data` is None unless
            the score needs it.
        needs_data: it looks at examples.
        adds_up: its numbers are what the loss rises by, so that what a unit costs counts where
            units of different widths are ranked. Other scores are relative to the mean of a width.
    """

    name: str
    help: str
    of: Callable[[Network, Batches | None], Units]
    needs_data: bool = False
    adds_up: bool = False

    def units(self, net: Network, data: Batches | None) -> Units:
        """Of every unit.

        Raises:
            ConfigError: if it needs data and there is none.
        """
        if self.needs_data and data is None:
            raise ConfigError(f"score is '{self.name}', which looks at examples. Give data.")
        return self.of(net, data)
