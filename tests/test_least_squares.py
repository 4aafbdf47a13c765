"""The change of one layer: what scikit-learn's ridge says, with the ridge that does best on rows
held out."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from acn_compress.compression.least_squares import HELD_OUT, RIDGES, SKETCH, Rows, Solver


def batches(width: int, features: int, noise: float, weighted: bool) -> list[Rows]:
    """Inputs of very different sizes, and outputs that a few of them make."""
    torch.manual_seed(features)
    true = torch.randn(features, width) * torch.logspace(0, -3, features)[:, None]
    found = []
    for _ in range(3 * HELD_OUT):
        x = torch.randn(40, features) * torch.logspace(1, -2, features) + 0.5
        missing = x @ true + noise * torch.randn(40, width) * torch.logspace(-2, 1, width) + 0.3
        weight = torch.rand(40).double() if weighted else None
        found.append(Rows(x.double(), missing.double(), weight))
    return found


def joined(rows: list[Rows]) -> tuple[Tensor, Tensor, Tensor]:
    weights = [torch.ones(len(r.x)).double() if r.weight is None else r.weight for r in rows]
    x, missing = torch.cat([r.x for r in rows]), torch.cat([r.missing for r in rows])
    return x, missing, torch.cat(weights)


def reference(rows: list[Rows], ridge: float, bias: bool) -> tuple[Tensor, Tensor]:
    """[features, width] and [width], by scikit-learn."""
    x, missing, weight = joined(rows)
    penalty = ridge * float((weight[:, None] * x.square()).sum(0).mean())
    found = Ridge(penalty, fit_intercept=bias).fit(x, missing, sample_weight=weight)
    return torch.tensor(found.coef_).T, torch.as_tensor(
        found.intercept_, dtype=torch.float64
    ).expand(missing.shape[1])


def left(rows: list[Rows], change: tuple[Tensor, Tensor]) -> float:
    x, missing, weight = joined(rows)
    return float((weight[:, None] * (missing - x @ change[0] - change[1]).square()).sum())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("width", "features", "noise"), [(3, 20, 0.1), (300, 90, 8.0)])
def test_the_change_is_that_of_the_ridge_that_does_best_on_rows_held_out(
    width: int, features: int, noise: float, bias: bool, weighted: bool
) -> None:
    """Also where the ridge is chosen by mixtures of the outputs."""
    assert (width > SKETCH) == (width == 300)
    rows, solver = batches(width, features, noise, weighted), Solver()
    for number, some in enumerate(rows):
        solver.add(some, number)
    held = rows[HELD_OUT - 1 :: HELD_OUT]
    fitted = [r for i, r in enumerate(rows) if (i + 1) % HELD_OUT]
    ridge = min(RIDGES, key=lambda ridge: left(held, reference(fitted, ridge, bias)))
    found = solver.best(bias)
    assert found is not None
    weight, constant = reference(rows, ridge, bias)
    torch.testing.assert_close(found[:-1], weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[-1], constant, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [3, 300])
def test_what_is_no_better_on_rows_held_out_is_not_taken(width: int) -> None:
    torch.manual_seed(0)
    true, solver = torch.randn(9, width), Solver()
    for number in range(HELD_OUT):
        x, held = torch.randn(20, 9), (number + 1) % HELD_OUT == 0
        solver.add(Rows(x, x @ (-true if held else true)), number)
    assert solver.best(True) is None


def test_inputs_that_say_the_same_twice_or_nothing_are_solved_for() -> None:
    torch.manual_seed(0)
    solver = Solver()
    for number in range(HELD_OUT):
        x = torch.randn(20, 1).expand(20, 6) * torch.tensor([1.0, 1.0, 1e3, 0.0, 0.0, 1.0])
        solver.add(Rows(x, x[:, :1] * torch.ones(1, 4)), number)
    found = solver.best(True)
    assert found is not None and bool(found.isfinite().all())
