"""Which part of a block's gradient comes over its own long connection alone.

With the loss E, the output sum y_L = x_0 + x_1 + ... + x_L, its gradient g = dE/dy_L, and theta_i
the parameters of block i, which adds x_i = F_i(h_{i-1}) to the sum:

    full gradient     FG_i = dE/dtheta_i
    direct gradient   DG_i = (dx_i/dtheta_i)^T g        what reaches block i over its own long
    connection, no other block in between through the net   NG_i = (d(y_L - y_i)/dtheta_i)^T g =
    FG_i - DG_i      what reaches it through the blocks behind it

All three are vectors over all parameters of the block; the ratio is that of their Euclidean norms,
||DG_i|| / ||FG_i||. The last block has no block behind it, so its ratio is 1 by definition; a ratio
above 1 means that NG_i points against DG_i. In a residual network y_L is the last hidden state and
the same definitions hold: the direct path is the chain of skips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from acn_compress.tasks import Task, features
from paper.entry import Entry, Verdict, seeds_of

if TYPE_CHECKING:
    from paper.setting import Lab

MOMENTS = ("start", "middle", "end")


def block_gradients(
    net: Any, batch: dict[str, Tensor], task: Task
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """DG_i, NG_i and FG_i of every block, each [parameters of the block], of the mean loss over
    `batch`."""
    with net.recording() as prefixes:
        loss = task.score(net(**features(batch)), batch).loss.mean()
    y = prefixes[-1].detach().requires_grad_()
    # norm, pooling and head alone: their gradient with respect to y_L is g
    with net.injecting(y):
        (g,) = torch.autograd.grad(task.score(net(**features(batch)), batch).loss.mean(), y)
    found = []
    for i, block in enumerate(net.blocks, 1):
        parameters = [p for p in block.parameters() if p.requires_grad]
        # y_{i-1} does not depend on block i, so the difference sees theta_i through x_i alone
        direct = _flat(
            torch.autograd.grad(
                prefixes[i] - prefixes[i - 1], parameters, g, retain_graph=True, allow_unused=True
            ),
            parameters,
        )
        rest = prefixes[-1] - prefixes[i]
        if i == len(prefixes) - 1:
            through = torch.zeros_like(direct)
        else:
            through = _flat(
                torch.autograd.grad(rest, parameters, g, retain_graph=True, allow_unused=True),
                parameters,
            )
        full = _flat(
            torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True), parameters
        )
        found.append((direct, through, full))
    return found


def _flat(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    """One vector; zeros where a parameter has no part in it."""
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten()
            for g, p in zip(gradients, parameters, strict=True)
        ]
    )


def shares(net: Any, batch: dict[str, Tensor], task: Task) -> dict[str, list[float]]:
    """Per block: `ratio` ||DG_i|| / ||FG_i||, and `part`, the share of ||FG_i|| in the sum over all
    blocks."""
    gradients = block_gradients(net, batch, task)
    full = [float(fg.norm()) for _, _, fg in gradients]
    ratio = [
        float(dg.norm()) / max(norm, 1e-30)
        for (dg, _, _), norm in zip(gradients, full, strict=True)
    ]
    return {
        "ratio": [round(r, 4) for r in ratio],
        "part": [round(f / max(sum(full), 1e-30), 4) for f in full],
    }


def claim_11(lab: Lab) -> Entry:
    """Early blocks are the first third, the others all behind them but the last (whose ratio is 1
    by definition). yes: in the ACN the mean ratio of the early blocks is above that of the others
        at start, middle and end of training in every seed; partly: in more than half
    of these cases; no: otherwise."""
    found: dict[str, Any] = {
        form: [lab.network(form, seed)[1]["gradients"] for seed in lab.seeds]
        for form in ("residual", "acn")
    }
    early = max(1, lab.scale.blocks // 3)

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    def split(ratio: list[float]) -> tuple[float, float]:
        return mean(ratio[:early]), mean(ratio[early:-1])

    cases = [split(run[when]["ratio"]) for run in found["acn"] for when in MOMENTS]
    wins = sum(first > rest for first, rest in cases)
    verdict: Verdict = "yes" if wins == len(cases) else "partly" if 2 * wins > len(cases) else "no"

    def one(form: str) -> str:
        parts = []
        for when in MOMENTS:
            pairs = [split(run[when]["ratio"]) for run in found[form]]
            parts.append(f"{mean([p[0] for p in pairs]):.2f} / {mean([p[1] for p in pairs]):.2f}")
        return ", ".join(parts)

    ours = (
        f"mean ratio of the first {early} blocks / of the later ones, at start, middle, end: ACN {one('acn')}; residual {one('residual')}; "
        f"in {wins} of {len(cases)} cases of the ACN the early ones are higher"
    )
    theirs = "DG/FG over training is highest in the early layers of ACNs"
    return Entry(
        "11",
        "gradient shares",
        theirs,
        ours,
        f"Mixer of claim 1, {seeds_of(lab.seeds)}",
        verdict,
        found,
    )
