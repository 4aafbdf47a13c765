"""Zeros in one layer, with what is left of it making up for them (SparseGPT: Frantar and Alistarh,
arXiv 2301.00774, after Hassibi and Stork's optimal brain surgeon).

The layer is first led back to what it put out in the network as it was, by least squares on the
inputs X it has now in place of X_0: W + H^-1 X^T (X_0 - X) W with H = X^T X. (GPTAQ does the same
for quantisation: arXiv 2504.02692.) Then its weights go input feature by input feature. Setting w_j
to zero costs the outputs w_j^2 / [H^-1]_jj once the weights that are still to come are moved by
-w_j [H^-1]_j: / [H^-1]_jj, where H is that of the features from j on. A bias comes last, as the
weight of an input that is always one: it never goes, and takes over what zeros do to the mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from acn_compress.compression.stream import Moments
from acn_compress.errors import VerificationError
from acn_compress.network import widths
from acn_compress.network.device import exact

BLOCK = 128  # input features whose weights are chosen together, as in the paper
DAMPING = 1e-2  # added to the diagonal of H, as a share of its mean, as in the paper


@dataclass(frozen=True)
class Choice:
    """Which weights of a layer go.

    Args:
        every: so many input features are chosen among at a time; a divisor of `BLOCK`.
        lowest: (the first of them, costs of their weights [features, outputs]) -> which go, bool.
            Weights that are zero already cost -1; they stay zero whether chosen or not.
    """

    every: int
    lowest: Callable[[int, Tensor], Tensor]


@dataclass(frozen=True)
class Surgeon:
    """The inputs of a layer, as far as a change of its weights [inputs (+ 1 with a bias), outputs]
    depends on them.

    Args:
        upper: U [n, n], upper triangular with U^T U = H^-1: U_jj^2 is [H^-1]_jj and U_j: / U_jj is
            [H^-1]_j: / [H^-1]_jj, both of the features from j on.
        lack: X^T (X_0 - X), [n, n].
    """

    upper: Tensor
    lack: Tensor

    @classmethod
    def of(cls, moments: Moments, bias: bool) -> Surgeon:
        """Of a layer with a bias, which is not damped, or without.

        Raises:
            VerificationError: if the inputs are not numbers.
        """
        n = len(moments.gram) - (not bias)
        h, lack = moments.gram[:n, :n].clone(), moments.lack[:n, :n]
        if not (h.isfinite().all() and lack.isfinite().all()):
            raise not_numbers()
        weights = h.diagonal()[: len(moments.gram) - 1]
        weights += DAMPING * float(weights.mean()) or 1.0
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
        return cls(torch.linalg.cholesky(inverse, upper=True), lack)

    def led_back(self, rows: Tensor) -> Tensor:
        """Weights that put out what they did in the network as it was, as well as they can."""
        return rows + self.upper.T @ (self.upper @ (self.lack @ rows))


def rows_of(layer: Any) -> Tensor:
    """[inputs, outputs], float64: the weights of a layer; its bias, if it has one, is one row
    more."""
    weight = exact(widths.by_inputs(layer).detach())
    return weight if layer.bias is None else torch.cat([weight, exact(layer.bias.detach()[None])])


def zero_(layer: Any, surgeon: Surgeon, choice: Choice) -> None:
    """Set weights of a linear layer to zero and let the others make up for them.

    Args:
        surgeon: of its inputs, with its bias if it has one.
    Raises:
        VerificationError: if its weights are not numbers.
    """
    weight, upper = widths.by_inputs(layer).detach(), surgeon.upper
    rows = surgeon.led_back(rows_of(layer)).contiguous()
    zero = (weight == 0).to(rows.device)
    for start in range(0, len(zero), BLOCK):
        stop = min(start + BLOCK, len(zero))
        block, rest = slice(start, stop), slice(stop, None)
        errors = _sweep_(rows[block], zero[block], upper[block, block], start, choice)
        rows[rest] -= upper[block, rest].T @ errors
    if not rows.isfinite().all():
        raise not_numbers()
    weight.copy_(rows[: len(zero)])
    # what stays must not pass for a zero where the dtype has no number so small
    weight.masked_fill_((weight == 0) & ~zero.to(weight.device), torch.finfo(weight.dtype).tiny)
    if layer.bias is not None:
        layer.bias.detach().copy_(rows[-1])


def _sweep_(rows: Tensor, zero: Tensor, upper: Tensor, start: int, choice: Choice) -> Tensor:
    """Choose among the features of one block, from `start` on, and make up for them within it.

    Returns:
        What the features behind the block have to make up for, in rows of `upper`: [features,
        outputs].
    """
    errors, scale = torch.empty_like(rows), upper.diagonal()[:, None]
    for j in range(len(rows)):
        if j % choice.every == 0:
            part = slice(j, j + choice.every)
            cost = (rows[part] / scale[part]).square().masked_fill(zero[part], -1.0)
            zero[part] |= choice.lowest(start + j, cost)
        errors[j] = rows[j] * zero[j] / scale[j]
        rows[j:].addr_(upper[j, j:], errors[j], alpha=-1)
        rows[j].masked_fill_(zero[j], 0.0)
    return errors


def not_numbers() -> VerificationError:
    """The error of a network that cannot be pruned this way."""
    return VerificationError(
        "a layer reads or computes what is no number. Are there NaN weights in the source?"
    )
