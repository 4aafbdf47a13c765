"""An ACN against a residual network on the same test images, and what that says."""

from __future__ import annotations

from acn_compress.measure.quality import Scores, paired
from acn_compress.quality import Drop


class Against(Drop):
    """Both accuracies, and how far the ACN lies below (negative is above)."""

    residual: float
    acn: float

    @property
    def above(self) -> bool:
        """The ACN is significantly above."""
        return self.high < 0

    @property
    def below(self) -> bool:
        """The ACN is significantly below."""
        return self.low > 0


def against(acn: Scores, residual: Scores) -> Against:
    """Compare them."""
    drop = paired(acn, residual)
    return Against(
        residual=residual.value, acn=acn.value, drop=drop.drop, low=drop.low, high=drop.high
    )
