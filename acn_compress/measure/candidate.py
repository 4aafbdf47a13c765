"""A smaller network that could be made, and what was measured of it."""

from __future__ import annotations

from acn_compress import figures
from acn_compress.found import Found
from acn_compress.quality import Drop, Quality


class Point(Found):
    """One candidate, measured without training."""

    blocks: tuple[dict[str, int] | None, ...]
    """Of every block the units it keeps; null where it goes."""
    int8: bool = False
    """Whether it is quantized."""
    milliseconds: float
    """Foreseen by the latency table."""
    parameters: int
    foreseen: float
    """What the loss was foreseen to rise by, in nats per example."""
    quality: Quality
    """On the rows that decide."""
    drop: Drop
    """From the whole network (or the original of its chain, where max_drop is from that),
    paired."""

    @property
    def depth(self) -> int:
        """Blocks that stay."""
        return sum(block is not None for block in self.blocks)

    @property
    def blocks_kept(self) -> str:
        """How many blocks, for people."""
        return f"{self.depth} of {len(self.blocks)} blocks" + (", int8" if self.int8 else "")

    def __str__(self) -> str:
        return (
            f"{self.blocks_kept}, {figures.millions(self.parameters)} parameters, "
            f"{self.milliseconds:.2f} ms foreseen: {self.quality.metric} "
            f"{self.quality.value:.4f}, {figures.told(self.drop, self.quality.metric)}"
        )
