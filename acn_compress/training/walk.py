"""How alpha moves while a network trains: a pure function of the share of the run that is done, or
trained like a weight."""

from __future__ import annotations

from dataclasses import dataclass

from acn_compress.form import LayerKind
from acn_compress.network.network import Network


@dataclass(frozen=True)
class Walk:
    """How alpha moves: from `start` to `end`, linearly in the share of the run, over its first
    part; then it stays.

    With a pull it finds its own way: every alpha is trained from `start` over the first part of the
    run, with pull * mean alpha added to the loss, so that it goes down as far as that costs the
    other losses no more than the pull; then it stays.

    Args:
        start, end: one value per layer.
        share: part of the steps that the walk takes; 0 jumps at once.
        layer: what one layer is.
        learned: after the walk every alpha is a trained parameter (the hybrid ACN), kept in [0, 1].
        pull: in units of the loss per unit of alpha; 0 is the fixed walk.
    """

    start: tuple[float, ...]
    end: tuple[float, ...]
    share: float
    layer: LayerKind
    learned: bool = False
    pull: float = 0.0

    @property
    def trains(self) -> bool:
        """Whether alphas are trained parameters at some time of the run."""
        return self.learned or self.pull > 0

    def at(self, progress: float) -> tuple[float, ...]:
        """Alphas after `progress` (0 to 1) of the run, as long as they are not trained."""
        if self.pull > 0:
            return self.start
        if progress >= self.share:
            return self.end
        moved = progress / self.share
        return tuple(a + (b - a) * moved for a, b in zip(self.start, self.end, strict=True))

    def begin_(self, net: Network) -> None:
        """Give every layer its first alpha, and make them parameters if they are trained."""
        net.set_alphas_(self.start, self.layer)
        if self.trains:
            net.learn_alphas_(True)

    def move_(self, net: Network, progress: float) -> None:
        """Give every layer its alpha for the step that begins now, or say whether it is trained."""
        if self.pull > 0:
            for alpha in net.learned_alphas():
                alpha.requires_grad_(progress < self.share)
        elif not self.learned or progress <= self.share:
            net.set_alphas_(self.at(progress), self.layer)

    def end_(self, net: Network) -> None:
        """Make every alpha the number it has become, and record it in the structure."""
        alpha = net.learn_alphas_(False) if self.trains else self.end
        net.set_structure_(net.structure.with_alpha(alpha, self.layer))
