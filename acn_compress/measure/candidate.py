"""A smaller network that could be made, and what was measured of it."""

from __future__ import annotations

from acn_compress.found import Found
from acn_compress.measure.quality import Drop, Quality


class Point(Found):
    """One candidate, measured without training."""

    blocks: tuple[dict[str, int] | None, ...]
    """Of every block the units it keeps; null where it goes."""
    milliseconds: float
    """Foreseen by the latency table."""
    parameters: int
    foreseen: float
    """What the loss was foreseen to rise by, in nats per example."""
    quality: Quality
    """On the rows that decide."""
    drop: Drop
    """From the whole network, paired."""

    @property
    def depth(self) -> int:
        """Blocks that stay."""
        return sum(block is not None for block in self.blocks)

    def __str__(self) -> str:
        return (
            f"{self.depth} of {len(self.blocks)} blocks, {self.parameters:,} parameters, "
            f"{self.milliseconds:.2f} ms foreseen: {self.quality.metric} "
            f"{self.quality.value:.4f}, drop {self.drop}"
        )
