"""Claim 6: how soon a network learns from few images of each class."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import SerializeAsAny

from acn_compress.checkpoint.files import read_json, write_json
from acn_compress.found import Found
from acn_compress.options import Trained
from benchmarks.paper.entry import Entry, Verdict, seeds_of
from benchmarks.paper.setting import ALL, FORMS, Lab, Wanted
from benchmarks.paper.watch import Point, Seen, watched


class Race(Found):
    """Two loss curves, and the epoch at which each first reaches a level that both do."""

    level: float
    epochs: dict[str, float]
    curves: dict[str, list[SerializeAsAny[Point]]]


class Run(Found):
    """One seed: the training loss, and the test loss."""

    seed: int
    history: Race
    test: Race


def claim_6(lab: Lab) -> Entry:
    """Epochs to the same loss: the training loss at which the slower of the two ends, the test loss
    that is the better one's worse best.
    yes: the ACN gets there in fewer epochs, in training and test loss, in every seed; partly: in
    one of the two in every seed; no: otherwise. The training loss is the mean over a hundredth of
    the run."""
    runs = [_both(lab, seed) for seed in lab.seeds]
    ours = (
        "epochs to the same loss, residual / ACN, per seed: "
        f"training: {_in_words([run.history for run in runs])}; "
        f"test: {_in_words([run.test for run in runs])}"
    )
    return Entry(
        "6",
        f"low data: {lab.scale.low_images} images a class",
        "the ACN's losses fall in fewer epochs",
        ours,
        f"Mixer, {lab.scale.low_epochs:g} epochs, {seeds_of(lab.seeds)}",
        judge(runs),
        {"runs": runs},
    )


def _both(lab: Lab, seed: int) -> Run:
    """Both forms, one seed."""
    seen = {form: _seen(lab, Wanted(form, seed)) for form in FORMS}
    per_epoch = {form: run.steps / lab.scale.low_epochs for form, run in seen.items()}
    return Run(
        seed=seed,
        history=_race({form: run.history for form, run in seen.items()}, per_epoch),
        test=_race({form: run.test for form, run in seen.items()}, per_epoch),
    )


def _seen(lab: Lab, wanted: Wanted) -> Seen:
    """A training on little data, from the work folder if it is there."""
    file = lab.work / f"low-data-{wanted.form}-seed{wanted.seed}.json"
    if not file.is_file():
        net, data = lab.fresh(wanted), lab.part("train", ALL, 10**9, lab.scale.low_images)
        training = lab.training(wanted.seed).part(
            Trained, epochs=lab.scale.low_epochs, label_smoothing=0.0
        )
        seen = watched(net, data, training, lab.test())
        write_json(file, seen.plain())
    return Seen.model_validate(read_json(file))


def _race(curves: dict[str, Sequence[Point]], steps_per_epoch: dict[str, float]) -> Race:
    level = max(min(p.loss for p in curve) for curve in curves.values())
    epochs = {
        form: _first_below(curve, level, steps_per_epoch[form]) for form, curve in curves.items()
    }
    return Race(level=level, epochs=epochs, curves=curves)


def _first_below(curve: Sequence[Point], level: float, steps_per_epoch: float) -> float:
    """The epoch at which a loss curve is first at or below a level that it reaches."""
    return next(round(p.step / steps_per_epoch, 2) for p in curve if p.loss <= level)


def judge(runs: list[Run]) -> Verdict:
    """Rule of claim 6."""
    train = all(_acn_first(run.history) for run in runs)
    test = all(_acn_first(run.test) for run in runs)
    return "yes" if train and test else "partly" if train or test else "no"


def _acn_first(race: Race) -> bool:
    return race.epochs["acn"] < race.epochs["residual"]


def _in_words(races: list[Race]) -> str:
    return ", ".join(
        f"{r.epochs['residual']:g} / {r.epochs['acn']:g} (loss {r.level:.2f})" for r in races
    )
