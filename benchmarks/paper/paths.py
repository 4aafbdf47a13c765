"""Claim 11: over which path the gradient of a block comes, its own long connection or the blocks
behind it (`gradients.py`)."""

from __future__ import annotations

from benchmarks.paper.entry import Entry, Verdict, mean, seeds_of
from benchmarks.paper.gradients import Shares
from benchmarks.paper.setting import FORMS, Lab, Wanted

WHEN = ("start", "middle", "end")


def claim_11(lab: Lab) -> Entry:
    """Early blocks are the first third, the others all behind them but the last (whose ratio is 1
    by definition). yes: in the ACN the mean ratio of the early blocks is above that of the others
    at start, middle and end of training in every seed; partly: in more than half of these cases;
    no: otherwise."""
    found = {form: [lab.seen(Wanted(form, seed)).gradients for seed in lab.seeds] for form in FORMS}
    early = max(1, lab.scale.blocks // 3)
    cases = [_split(run[when], early) for run in found["acn"] for when in WHEN]
    wins = sum(first > rest for first, rest in cases)
    ours = (
        f"mean ratio of the first {early} blocks / of the later ones, at start, middle, end: "
        f"ACN {_in_words(found['acn'], early)}; residual {_in_words(found['residual'], early)}; "
        f"in {wins} of {len(cases)} cases of the ACN the early ones are higher"
    )
    return Entry(
        "11",
        "gradient shares",
        "DG/FG over training is highest in the early layers of ACNs",
        ours,
        f"Mixer of claim 1, {seeds_of(lab.seeds)}",
        _judge(wins, len(cases)),
        found,
    )


def _judge(wins: int, cases: int) -> Verdict:
    """Rule of claim 11."""
    return "yes" if wins == cases else "partly" if 2 * wins > cases else "no"


def _split(found: Shares, early: int) -> tuple[float, float]:
    """The mean ratio of the early blocks, and of the others."""
    return mean(found.ratio[:early]), mean(found.ratio[early:-1])


def _in_words(runs: list[dict[str, Shares]], early: int) -> str:
    """Both means over seeds, at each moment."""
    parts = []
    for when in WHEN:
        first, rest = zip(*(_split(run[when], early) for run in runs), strict=True)
        parts.append(f"{mean(first):.2f} / {mean(rest):.2f}")
    return ", ".join(parts)
