"""Weighted least squares for the change of one linear layer, with the ridge that does best on rows
held out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from acn_compress import processes
from acn_compress.network.device import exact, plus_

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
        if self._held.gram is None:  # too few batches: nothing to decide on
            return None
        fitted, held = (part.mixed() for part in (self._fitted, self._held))
        more = {ridge: held.more_left(fitted.solve(ridge, bias)) for ridge in RIDGES}
        ridge = min(more, key=more.__getitem__)
        return self.normal_().solve(ridge, bias) if more[ridge] < 0 else None

    def normal_(self) -> Normal:
        """Of all rows; none is held out any more."""
        self._fitted.add_(self._held)
        self._held = Normal()
        return self._fitted


@dataclass
class Normal:
    """The normal equations of weighted rows, inputs with a one behind them; None before there is
    any. They may be larger than the network's layers: what can be is done in place."""

    gram: Tensor | None = None
    cross: Tensor | None = None

    @classmethod
    def of(cls, rows: Rows) -> Normal:
        """Of some rows, in their precision."""
        x = torch.cat([rows.x, rows.x.new_ones(len(rows.x), 1)], 1)
        heavy = x if rows.weight is None else rows.weight[:, None] * x
        return cls(heavy.T @ x, heavy.T @ rows.missing)

    def add_(self, other: Normal) -> None:
        """More rows."""
        if other.gram is None or other.cross is None:
            return
        self.gram, self.cross = plus_(self.gram, other.gram), plus_(self.cross, other.cross)

    def shared(self, n: int, width: int, device: torch.device) -> Normal:
        """The sum over all processes, of which some may have no rows."""
        if not processes.largest(int(self.gram is not None)):
            return self
        gram, cross = self.gram, self.cross
        if gram is None or cross is None:
            gram, cross = (exact(torch.zeros(n, m, device=device)) for m in (n, width))
        return Normal(*processes.summed(gram, cross))

    def mixed(self) -> Normal:
        """Of `SKETCH` mixtures of the outputs, the same ones for every layer of a width."""
        assert self.cross is not None
        if (width := self.cross.shape[1]) <= SKETCH:
            return self
        drawn = torch.Generator().manual_seed(0)
        mixtures = torch.randn(width, SKETCH, generator=drawn, dtype=torch.float64)
        return Normal(self.gram, self.cross @ mixtures.to(self.cross))

    def solve(self, ridge: float, bias: bool) -> Tensor:
        """The change [features + 1, width]; the bias is not held back."""
        assert self.cross is not None
        square = self._square(ridge, bias)
        n, found = len(square), torch.zeros_like(self.cross)
        # in place of the square, which the library can where it lies by columns
        info = torch.empty(0, dtype=torch.int32, device=square.device)
        factor, failed = torch.linalg.cholesky_ex(square, out=(square, info))
        found[:n] = (
            torch.linalg.solve(self._square(ridge, bias), self.cross[:n])
            if failed
            else torch.cholesky_solve(self.cross[:n], factor)
        )
        return found

    def _square(self, ridge: float, bias: bool) -> Tensor:
        """What is solved, [features + 1 or features] square, by columns."""
        assert self.gram is not None
        n = len(self.gram) - (0 if bias else 1)
        square = torch.empty_strided((n, n), (1, n), dtype=self.gram.dtype, device=self.gram.device)
        square.copy_(self.gram[:n, :n])
        square.diagonal().add_(ridge * float(self.gram.diagonal()[:-1].mean()) + 1e-12)
        if bias:
            square[-1, -1] = (1 + 1e-9) * self.gram[-1, -1]
        return square

    def more_left(self, change: Tensor) -> float:
        """What is left of the squares after a change, less what there was."""
        assert self.gram is not None and self.cross is not None
        return float((change * (self.gram @ change - 2 * self.cross)).sum())
