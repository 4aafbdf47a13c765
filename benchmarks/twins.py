"""Does an ACN prune better than its residual twin (claim 9 of arXiv 2506.09714), under structured
pruning? Both lose the same share of the parameters of their heads and MLP features; nothing is
trained.

    python -m benchmarks.twins NAME --residual R0,R1 --acn A0,A1 --data DATA

Networks are given in pairs (R0 with A0); which ones, benchmarks/README.md says. Units are chosen by
`obs` and what is left is refitted on at most 2,048 unlabelled training rows, drawn from three
seeds. Scores are the means over pairs and draws of every test example; intervals are over examples,
paired: each form with its own whole, and by how much the ACN lost less. Writes twins-NAME.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from acn_compress.checkpoint.provenance import machine
from acn_compress.compression.calibration import ROWS
from acn_compress.compression.prune import prune_
from acn_compress.found import Found
from acn_compress.measure.quality import Scores, measure, paired, summary
from acn_compress.quality import Drop
from benchmarks.command import RESULTS, parser, rounded, write
from benchmarks.paper.setting import pooled
from benchmarks.whole import Whole

SEEDS = (0, 1, 2)  # that rows are drawn from


class Form(Found):
    """One of the two, pruned: means over networks and draws."""

    value: float
    loss: float
    achieved: float
    """Share of the parameters of heads and MLP features that went."""
    drop: Drop
    """From its own whole."""
    each: list[float]
    """The metric of every network and draw."""


class Row(Found):
    """Both forms at one share."""

    share: float
    residual: Form
    acn: Form
    spared: Drop
    """How far the residual network's drop lies above the ACN's: above 0 the ACN prunes better."""


def scores(wholes: Sequence[Whole]) -> Scores:
    """Of the uncut networks of a form, their mean."""
    return pooled([whole.scores for whole in wholes])


def pruned(wholes: Sequence[Whole], share: float) -> tuple[Form, Scores]:
    """Prune copies of all networks of a form, for every draw of the rows."""
    runs, achieved = list[Scores](), list[float]()
    for whole in wholes:
        for seed in SEEDS:
            net = whole.net.copy()
            achieved.append(prune_(net, share, data=whole.rows(ROWS, seed), seed=seed).achieved)
            runs.append(measure(net, whole.test))
    mean = pooled(runs)
    form = Form(
        value=mean.value,
        loss=mean.mean_loss,
        achieved=sum(achieved) / len(achieved),
        drop=paired(mean, scores(wholes)),
        each=[run.value for run in runs],
    )
    return form, mean


def lost(after: Scores, before: Scores) -> Scores:
    """What every example lost, as a score of its own."""
    low, high = before.reach
    return replace(after, score=before.score - after.score, reach=(low - high, high - low))


def compared(residual: Sequence[Whole], acn: Sequence[Whole], share: float) -> Row:
    """Prune both forms."""
    (one, theirs), (two, ours) = pruned(residual, share), pruned(acn, share)
    spared = paired(lost(ours, scores(acn)), lost(theirs, scores(residual)))
    return Row(share=share, residual=one, acn=two, spared=spared)


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("name", help="of the pair, for the file")
    command.add_argument("--residual", required=True, help="the residual networks")
    command.add_argument("--acn", required=True, help="the ACNs, in the same order")
    command.add_argument("--data", required=True)
    command.add_argument("--shares", default="0.3,0.5,0.7,0.8")
    command.add_argument("--results", type=Path, default=RESULTS)
    options = command.parse_args()
    residual, acn = (
        [Whole.read(Path(place), options.data) for place in places.split(",")]
        for places in (options.residual, options.acn)
    )
    task, rows = residual[0].test.task, list[Row]()
    for share in map(float, options.shares.split(",")):
        rows.append(row := compared(residual, acn, share))
        print(
            f"{share}: residual {row.residual.value:.4f}, ACN {row.acn.value:.4f}, "
            f"drops {row.residual.drop} and {row.acn.drop}, spared {row.spared}",
            flush=True,
        )
    report = {
        "benchmark": "twins",
        "data": residual[0].test.name,
        "weights_sha256": {
            "residual": [whole.source.sha256() for whole in residual],
            "acn": [whole.source.sha256() for whole in acn],
        },
        "structure": [whole.net.structure.model_dump(mode="json") for whole in acn],
        "rows_looked_at": ROWS,
        "whole": {
            "residual": summary(scores(residual), task),
            "acn": summary(scores(acn), task),
            "gain": paired(scores(residual), scores(acn)),
        },
        "machine": machine(),
        "rows": rows,
    }
    write(options.results / f"twins-{options.name}.json", rounded(report))


if __name__ == "__main__":
    main()
