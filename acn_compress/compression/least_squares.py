"""Weighted least squares for the change of one linear layer, with the ridge that does best on rows
held out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from acn_compress import processes
from acn_compress.network.device import exact

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # as shares of the mean square of the layer's inputs
HELD_OUT = 4  # every 4th batch
SKETCH = 64  # mixtures of the outputs that the ridge is chosen by, where there are more


class Rows(NamedTuple):
    """What a layer is solved on; sums over batches are float64."""

    x: Tensor
    """[rows, features]: its inputs."""
    missing: Tensor
    """[rows, width]: what its output lacks."""
    weight: Tensor | None = None
    """[rows]: how much each counts; None is the same for all."""


@dataclass
class Solver:
    """Gathers the rows of one layer.

    Attributes:
        flops: that gathering took.
    """

    flops: float = 0.0
    _fitted: Normal = field(default_factory=lambda: Normal())
    _held: Normal = field(default_factory=lambda: Normal())

    def add(self, rows: Rows, number: int) -> None:
        """One batch more, and which it is; every `HELD_OUT`-th is held out."""
        features, width = rows.x.shape[1] + 1, rows.missing.shape[1]
        self.flops += 2.0 * len(rows.x) * features * (features + width)
        part = self._held if (number + 1) % HELD_OUT == 0 else self._fitted
        part.add_(Normal.of(rows))

    def share_(self, features: int, width: int, device: torch.device) -> None:
        """Add up what all processes gathered: of a layer of so many inputs and outputs."""
        self._fitted = self._fitted.shared(features + 1, width, device)
        self._held = self._held.shared(features + 1, width, device)

    def best(self, bias: bool) -> Tensor | None:
        """The change [features + 1, width] with the ridge that leaves least on the rows held out,
        from all rows; None if it is no better there than none. Its last row is that of the bias.

        The ridge is one for all outputs, so that `SKETCH` random mixtures of them tell it: what
        they leave is that of all in expectation (Johnson and Lindenstrauss), in half of the time
        for a layer of 3,072 inputs and 768 outputs."""
        if isinstance(self._held.gram, float):  # too few batches: nothing to decide on
            return None
        fitted, held = (part.mixed() for part in (self._fitted, self._held))
        more = {ridge: held.more_left(fitted.solve(ridge, bias)) for ridge in RIDGES}
        ridge = min(more, key=more.__getitem__)
        return self.normal_().solve(ridge, bias) if more[ridge] < 0 else None

    def normal_(self) -> Normal:
        """Of all rows; none is held out any more. In place: they may be larger than the network's
        layers."""
        self._fitted.add_(self._held)
        self._held = Normal()
        return self._fitted


@dataclass
class Normal:
    """The normal equations of weighted rows, inputs with a one behind them."""

    gram: Tensor | float = 0.0
    cross: Tensor | float = 0.0

    @classmethod
    def of(cls, rows: Rows) -> Normal:
        """Of some rows."""
        x = torch.cat([rows.x, rows.x.new_ones(len(rows.x), 1)], 1)
        heavy = x if rows.weight is None else rows.weight[:, None] * x
        return cls(exact(heavy.T @ x), exact(heavy.T @ rows.missing))

    def add_(self, other: Normal) -> None:
        """More rows, in place."""
        self.gram += other.gram
        self.cross += other.cross

    def shared(self, n: int, width: int, device: torch.device) -> Normal:
        """The sum over all processes, of which some may have no rows."""
        there = not isinstance(self.gram, float)
        own = (
            torch.as_tensor(self.gram) if there else exact(torch.zeros(n, n, device=device)),
            torch.as_tensor(self.cross) if there else exact(torch.zeros(n, width, device=device)),
        )
        if not processes.largest(int(there)):
            return self
        gram, cross = processes.summed(*own)
        return Normal(gram, cross)

    def mixed(self) -> Normal:
        """Of `SKETCH` mixtures of the outputs, the same ones for every layer of a width."""
        cross = torch.as_tensor(self.cross)
        if (width := cross.shape[1]) <= SKETCH:
            return self
        drawn = torch.Generator().manual_seed(0)
        mixtures = torch.randn(width, SKETCH, generator=drawn, dtype=torch.float64)
        return Normal(self.gram, cross @ mixtures.to(cross))

    def solve(self, ridge: float, bias: bool) -> Tensor:
        """The change [features + 1, width]; the bias is not held back."""
        gram, cross = torch.as_tensor(self.gram), torch.as_tensor(self.cross)
        n = len(gram) - (0 if bias else 1)
        square = gram[:n, :n].clone()
        square.diagonal().add_(ridge * float(gram.diagonal()[:-1].mean()) + 1e-12)
        if bias:
            square[-1, -1] = (1 + 1e-9) * gram[-1, -1]
        found, (factor, failed) = torch.zeros_like(cross), torch.linalg.cholesky_ex(square)
        found[:n] = (
            torch.linalg.solve(square, cross[:n])
            if failed
            else torch.cholesky_solve(cross[:n], factor)
        )
        return found

    def more_left(self, change: Tensor) -> float:
        """What is left of the squares after a change, less what there was."""
        gram, cross = torch.as_tensor(self.gram), torch.as_tensor(self.cross)
        return float((change * (gram @ change - 2 * cross)).sum())
