"""Claim 9: pruning on top, by magnitude and by movement."""

from __future__ import annotations

from acn_compress.compression.prune import Movement, prune_
from acn_compress.measure.quality import Scores, measure
from acn_compress.options import Trained
from acn_compress.training.fit import fit
from benchmarks.paper.against import Against, against
from benchmarks.paper.entry import Entry, Verdict, percent, points, seeds_of
from benchmarks.paper.setting import Lab, Wanted, pooled

BY_MAGNITUDE, BY_MOVEMENT = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9), (0.5, 0.8, 0.9)  # shares of zeros
ALIVE = 0.2  # accuracy: twice the chance level of ten classes
THEIRS = "ACN above residual at every size, the gap grows with sparsity (plot; BERT on SST-2)"


def claim_9(lab: Lab) -> Entry:
    """Magnitude pruning on the networks of claim 1 (the paper prunes BERT on SST-2). Rule:
    `judge`."""
    rows = {
        f"{s:g}": against(magnitude(lab, "acn", s), magnitude(lab, "residual", s))
        for s in BY_MAGNITUDE
    }
    scale = f"Mixer of claim 1, no recovery, {seeds_of(lab.seeds)}"
    return _entry("9", "magnitude", scale, rows)


def claim_9b(lab: Lab) -> Entry:
    """Movement pruning on the networks of claim 1. Rule: `judge`."""
    rows = {"0": against(_unpruned(lab, "acn"), _unpruned(lab, "residual"))}
    rows |= {
        f"{s:g}": against(movement(lab, "acn", s), movement(lab, "residual", s))
        for s in BY_MOVEMENT
    }
    epochs = lab.scale.movement_epochs
    long = f"{epochs:g} epoch{'s' if epochs > 1 else ''}"
    scale = f"Mixer of claim 1, pruned while trained for {long}, {seeds_of(lab.scale.few)}"
    return _entry("9b", "movement", scale, rows)


def _entry(number: str, how: str, scale: str, rows: dict[str, Against]) -> Entry:
    ours = f"zeros: residual / ACN (gain): {_in_words(rows)}"
    return Entry(number, f"pruning on top, {how}", THEIRS, ours, scale, judge(rows), rows)


def magnitude(lab: Lab, form: str, sparsity: float) -> Scores:
    """Accuracy with this share of the blocks' weights at zero, without recovery, mean over
    seeds."""
    runs = []
    for seed in lab.seeds:
        net = lab.network(Wanted(form, seed))
        prune_(net, sparsity, "magnitude", "global")
        runs.append(measure(net, lab.test()))
    return pooled(runs)


def movement(lab: Lab, form: str, sparsity: float) -> Scores:
    """The same by movement pruning, over few seeds: pruned while it trains, distilled from the
    unpruned network."""
    runs = []
    for seed in lab.scale.few:
        net, teacher = lab.network(Wanted(form, seed)), lab.network(Wanted(form, seed))
        training = lab.training(seed).part(
            Trained, epochs=lab.scale.movement_epochs, lr=5e-4, task_weight=0.5
        )
        fit(net, lab.train(), training, hook=Movement(net, sparsity), teacher=teacher)
        runs.append(measure(net, lab.test()))
    return pooled(runs)


def _unpruned(lab: Lab, form: str) -> Scores:
    nets = (lab.network(Wanted(form, seed)) for seed in lab.scale.few)
    return pooled([measure(net, lab.test()) for net in nets])


def judge(rows: dict[str, Against]) -> Verdict:
    """Rule of claim 9, over the sparsities at which one of the two is still above twice the chance
    level of ten classes. yes: the ACN is significantly above at each, and by more at the last than
    unpruned; partly: significantly above at half of them, or its distance to the residual network
    at the last is better than unpruned by more than the two intervals; no: otherwise."""
    alive = [row for name, row in rows.items() if name != "0" and _alive(row)]
    clean, wins = rows["0"], sum(row.above for row in alive)
    if not alive:
        return "no"
    if wins == len(alive) and alive[-1].drop < clean.drop:
        return "yes"
    return "partly" if 2 * wins >= len(alive) or alive[-1].high < clean.low else "no"


def _alive(row: Against) -> bool:
    return max(row.residual, row.acn) > ALIVE


def _in_words(rows: dict[str, Against]) -> str:
    return "; ".join(
        f"{100 * float(s):g} %: {percent(row.residual)} / {percent(row.acn)} ({points(row, -1)})"
        for s, row in rows.items()
    )
