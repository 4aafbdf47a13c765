"""Movement pruning (Sanh et al., arXiv 2005.07683): zeros where training moves weights towards
zero, found while it trains.

    S = - sum over steps of dL/dW' * W        W' = W * mask, mask = all but the lowest S

A weight that grows away from zero has a high score, however small it is. The gradient is taken at
the masked weights W' and counts for every weight (straight-through), so one that is masked keeps
its value and its score, and returns when others fall below it. The share of zeros rises from what
the source has to the target over the first `SHARE` of the steps, v(t) = target + (start - target)
(1 - t)^3; then the mask is fixed and what is left trains on. Scores are sums of plain gradients,
before clipping; the paper's optimiser for them is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from acn_compress.compression.prune import zeroed
from acn_compress.compression.prune.method import Aim, Method, Pruned, Pruning, Start
from acn_compress.errors import ConfigError
from acn_compress.network import zeros
from acn_compress.network.network import Network
from acn_compress.options import Scope

SHARE = 0.5  # of the steps, over which the zeros come


@dataclass(frozen=True)
class _Matrix:
    """One weight matrix while it is pruned; all of its shape.

    Args:
        weight: what the model computes with: zero where masked.
        value: of every weight, also of those that are masked now.
        score: float32, the higher the more it is worth.
        masked: bool, where the weight is zero now.
    """

    weight: Tensor
    value: Tensor
    score: Tensor
    masked: Tensor


@dataclass(frozen=True)
class _Group:
    """Matrices with one ranking: zeros at the start, and wanted at the end."""

    matrices: list[_Matrix]
    start: int
    end: int

    def zeros(self, progress: float) -> int:
        """How many at `progress` (0 to 1) of the schedule."""
        return round(self.end + (self.start - self.end) * (1 - min(1.0, progress)) ** 3)


class Movement:
    """Prunes a network while it is trained (the training engine's `Hook`); between two steps the
    network is the masked one.

    Args:
        net: pruned in place; the zeros it has stay.
        target: share of zeros among its matrices, in (0, 1).
        scope: "global" is one ranking of all matrices, "layer" one in each.
    Attributes:
        matrices: by name (see `zeros.matrices`).
        wanted: zeros at the end, in all of them.
    Raises:
        ConfigError: if more than the target are zeros already.
    """

    def __init__(self, net: Network, target: float, scope: Scope = "global") -> None:
        weights = zeros.matrices(net)
        self.matrices = {name: _matrix(weight) for name, weight in weights.items()}
        self._groups = []
        for where, names in zeros.groups(net, scope).items():
            members = [weights[name] for name in names]
            end = zeros.wanted(members, target, where)
            self._groups.append(
                _Group([self.matrices[name] for name in names], zeros.count(members), end)
            )
        self.wanted = sum(group.end for group in self._groups)

    def on_backward(self, step: int, steps: int) -> None:
        """Scores from the gradients of `step` (from 0), which are then only those of the weights
        that are there."""
        for m in self.matrices.values():
            if m.weight.grad is None:
                continue
            if step < SHARE * steps:
                m.score.addcmul_(m.weight.grad.float(), m.value.float(), value=-1)
            m.weight.grad.masked_fill_(m.masked, 0.0)

    @torch.no_grad()
    def on_step(self, step: int, steps: int) -> None:
        """Take over what the optimizer did to the weights that are there; mask anew while the
        schedule runs."""
        for m in self.matrices.values():
            m.value.copy_(torch.where(m.masked, m.value, m.weight))
        if step < SHARE * steps:
            for group in self._groups:
                _mask_(group.matrices, group.zeros((step + 1) / (SHARE * steps)))
        for m in self.matrices.values():
            m.weight.copy_(m.value.masked_fill(m.masked, 0.0))

    def state_dict(self) -> dict[str, Tensor]:
        """Everything a resumed run needs; a copy is not made."""
        named = {
            f"{name}.{part}": getattr(m, part)
            for name, m in self.matrices.items()
            for part in ("value", "score", "masked")
        }
        return named | {"zeros": torch.tensor([group.end for group in self._groups])}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`.

        Raises:
            ConfigError: if it is that of another target, scope or model.
        """
        mine = self.state_dict()
        if state.keys() != mine.keys() or not torch.equal(state["zeros"], mine["zeros"]):
            raise ConfigError(
                "the training checkpoint is of another target_sparsity or scope. "
                "Give the same ones, or leave out --resume."
            )
        for name, tensor in mine.items():
            tensor.copy_(state[name])


def _matrix(weight: Tensor) -> _Matrix:
    value, gone = weight.detach().clone(), weight.detach() == 0
    # a weight that is zero has no movement (its score would stay 0, above those that fall): it must
    # never rank above another
    return _Matrix(
        weight,
        value,
        torch.zeros_like(value, dtype=torch.float32).masked_fill_(gone, -torch.inf),
        gone,
    )


def _mask_(matrices: list[_Matrix], number: int) -> None:
    """Mask exactly the `number` weights of the lowest scores."""
    scores = [m.score for m in matrices]
    if number == 0:
        return
    bound = zeros.threshold(scores, number, zeros.by_value)
    for m, masked in zip(matrices, zeros.lowest(scores, bound, zeros.by_value), strict=True):
        m.masked.copy_(masked)


def prune_(net: Network, aim: Aim, start: Start) -> Pruning:
    """Get ready to prune while training; a target of 0 only trains."""
    hook = Movement(net, aim.target, aim.scope) if aim.target > 0 else None
    least = 0 if hook is None else hook.wanted

    def finish_() -> Pruned:
        found = zeroed.record_(net, aim, start)
        if found.zeros < least:  # more: training itself may bring a weight to zero
            raise zeroed.lost(found.zeros, least)
        return found.weighed(net)

    return Pruning(finish_, hook)


METHOD = Method(
    name="movement",
    help="sets those weights to zero that training moves towards zero, while it trains "
    "(needs data and epochs)",
    note=zeroed.NOTE,
    prune_=prune_,
)
