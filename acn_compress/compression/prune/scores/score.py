"""What a score is: how much every unit of a network matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from acn_compress.errors import ConfigError

if TYPE_CHECKING:
    from acn_compress.data.load import Data
    from acn_compress.network.network import Network

Units = tuple[dict[str, Tensor], ...]
"""Per block, by the name of its width: one number for each unit, [units]."""


@dataclass(frozen=True)
class Score:
    """A score for structured pruning. How units of different widths are then ranked is not its
    business (`ranking.py`).

    Args:
        name: as it is chosen.
        help: one sentence for who chooses.
        of: (net, data) -> the importance of every unit, all widths at once, so that data need be
            run through only once; float32, the higher the more it is worth. `data` is None unless
            the score needs it.
        needs_data: it looks at examples.
    """

    name: str
    help: str
    of: Callable[[Network, Data | None], Units]
    needs_data: bool = False

    def units(self, net: Network, data: Data | None) -> Units:
        """Of every unit.

        Raises:
            ConfigError: if it needs data and there is none.
        """
        if self.needs_data and data is None:
            raise ConfigError(f"score is '{self.name}', which looks at examples. Give data.")
        return self.of(net, data)
