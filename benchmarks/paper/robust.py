"""Claims 5, 6, 8 and 9: noise, little data, transfer, and pruning on top."""

from __future__ import annotations

import json
from typing import Any

from acn_compress.checkpoint import directory as modeldir
from acn_compress.compression.prune import Movement, prune_
from acn_compress.data.load import Noise
from acn_compress.measure.quality import Scores, measure, paired
from acn_compress.training.fit import fit
from paper.entry import Entry, Verdict, percent, points, seeds_of
from paper.setting import ALL, FORMS, Lab, fit_, pooled

NOISES = (
    "gaussian:0.1",
    "gaussian:0.2",
    "gaussian:0.4",
    "salt-pepper:0.01",
    "salt-pepper:0.05",
    "salt-pepper:0.1",
)
SPARSITIES = (0.3, 0.5, 0.7, 0.8, 0.9)
THEIR_PRUNING = (
    "ACN above residual at every size, the gap grows with sparsity (plot; BERT on SST-2)"
)
OLD, NEW = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)


def against(acn: Scores, residual: Scores) -> dict[str, Any]:
    """Both accuracies, and how far the ACN lies below (`drop`, `low`, `high`; negative is
    above)."""
    return {"residual": residual.value, "acn": acn.value, **paired(acn, residual)}


def above(row: dict[str, Any]) -> bool:
    """The ACN is significantly above."""
    return bool(row["high"] < 0)


def below(row: dict[str, Any]) -> bool:
    return bool(row["low"] > 0)


def claim_5(lab: Lab) -> Entry:
    """Accuracy under noise, paired by image, mean over seeds. yes: the ACN is significantly above
    under at least five of the six noises and significantly below under none; partly: significantly
    above under at least three; no: otherwise."""
    rows = {}
    for noise in (None, *NOISES):
        scores = {
            form: pooled(
                [
                    measure(
                        lab.network(form, seed)[0],
                        lab.test(),
                        noise=None if noise is None else Noise.parse(noise),
                    )
                    for seed in lab.seeds
                ]
            )
            for form in FORMS
        }
        rows[noise or "clean"] = against(scores["acn"], scores["residual"])
    noisy = [rows[n] for n in NOISES]
    wins = sum(map(above, noisy))
    verdict: Verdict = (
        "yes" if wins >= 5 and not any(map(below, noisy)) else "partly" if wins >= 3 else "no"
    )

    def line(form: str) -> str:
        return (
            " ".join(percent(row[form]) for row in noisy[:3])
            + "; "
            + " ".join(percent(row[form]) for row in noisy[3:])
        )

    gains = ", ".join(points(row, -1) for row in noisy)
    ours = f"residual {line('residual')}; ACN {line('acn')}; gains {gains} (clean {points(rows['clean'], -1)} at {percent(rows['clean']['acn'])})"
    theirs = "ViT: residual 67.68 62.80 45.46; 56.80 27.48 10.34; ACN 69.50 64.54 51.89; 59.80 36.35 19.98"
    claim = "noise: Gaussian sd 0.1 / 0.2 / 0.4; salt and pepper 1 / 5 / 10 %"
    return Entry(
        "5", claim, theirs, ours, f"Mixer of claim 1, {seeds_of(lab.seeds)}", verdict, rows
    )


def low_data_run(lab: Lab, form: str, seed: int) -> dict[str, Any]:
    """Loss over epochs on 100 images a class, from the work folder if it is there."""
    file = lab.work / f"low-data-{form}-seed{seed}.json"
    if not file.is_file():
        net = lab.fresh("mixer", form, 10, seed)
        data = lab.part("train", ALL, 10**9, per_class=100)
        recipe = lab.recipe(seed, epochs=lab.scale.low_epochs, label_smoothing=0.0)
        modeldir.write_json(file, fit_(net, data, recipe, watch=lab.test(), test_loss_every=5))
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def first_below(
    curve: list[dict[str, float]], level: float, steps_per_epoch: float
) -> float | None:
    """The epoch at which a loss curve is first at or below a level."""
    return next(
        (round(row["step"] / steps_per_epoch, 2) for row in curve if row["loss"] <= level), None
    )


def claim_6(lab: Lab) -> Entry:
    """Epochs to the same loss: the training loss at which the slower of the two ends, the test loss
    that is the better one's worse best.
    yes: the ACN gets there in fewer epochs, in training and test loss, in every seed; partly: in
        one of the two in every seed; no:
    otherwise. The training loss is the mean over a hundredth of the run."""
    found, earlier = [], []
    for seed in lab.seeds:
        runs = {form: low_data_run(lab, form, seed) for form in FORMS}
        epochs = lab.scale.low_epochs
        row: dict[str, Any] = {"seed": seed}
        for key in ("history", "test"):
            level = max(min(r["loss"] for r in run[key]) for run in runs.values())
            reached = {
                form: first_below(run[key], level, run["steps"] / epochs)
                for form, run in runs.items()
            }
            row[key] = {
                "level": level,
                "epochs": reached,
                "curves": {form: run[key] for form, run in runs.items()},
            }
        found.append(row)
        earlier.append(
            [row[k]["epochs"]["acn"] < row[k]["epochs"]["residual"] for k in ("history", "test")]
        )
    train, test = (all(e[i] for e in earlier) for i in (0, 1))
    verdict: Verdict = "yes" if train and test else "partly" if train or test else "no"

    def one(key: str, name: str) -> str:
        parts = [
            f"{r[key]['epochs']['residual']:g} / {r[key]['epochs']['acn']:g} (loss {r[key]['level']:.2f})"
            for r in found
        ]
        return f"{name}: {', '.join(parts)}"

    ours = f"epochs to the same loss, residual / ACN, per seed: {one('history', 'training')}; {one('test', 'test')}"
    scale = f"Mixer, {lab.scale.low_epochs:g} epochs, {seeds_of(lab.seeds)}"
    theirs = "the ACN's losses fall in fewer epochs"
    return Entry("6", "low data: 100 images a class", theirs, ours, scale, verdict, {"runs": found})


def claim_8(lab: Lab) -> Entry:
    """Pre-training on five classes, fine-tuning on the other five with a new head: the stand-in for
    CIFAR-100 to CIFAR-10. yes: the ACN is significantly above the residual network and above the
    residual network trained with prefix readouts (as LayerSkip's); partly: above one of them and
    significantly below none; no: otherwise."""
    seed = lab.seeds[0]
    networks = {
        "residual": ("residual", 0.0),
        "residual with prefix loss": ("residual", 1.0),
        "acn": ("acn", 0.0),
    }
    scores = {}
    for name, (form, prefix) in networks.items():
        net, _ = lab.network(form, seed, classes=OLD, prefix=prefix)
        head: Any = net.model.timm_model.get_classifier()
        for p in head.parameters():
            p.data.zero_()  # timm's Mixers start with a head of zeros
        data = lab.part("train", NEW, lab.scale.transfer_images)
        fit_(
            net,
            data,
            lab.recipe(seed, epochs=lab.scale.transfer_epochs, lr=5e-4),
            watch=lab.test(NEW),
        )
        scores[name] = measure(net, lab.test(NEW))
    figures: dict[str, Any] = {
        "accuracy": {name: s.value for name, s in scores.items()},
        "seed": seed,
    }
    rows = [against(scores["acn"], scores[name]) for name in networks if name != "acn"]
    figures["acn_below"] = dict(zip([n for n in networks if n != "acn"], rows, strict=True))
    verdict: Verdict = (
        "yes"
        if all(map(above, rows))
        else "partly"
        if any(map(above, rows)) and not any(map(below, rows))
        else "no"
    )
    plain, skip = (points(row, -1) for row in rows)
    ours = (
        f"residual {percent(scores['residual'].value)}, with prefix loss {percent(scores['residual with prefix loss'].value)}, "
        f"ACN {percent(scores['acn'].value)} (above them by {plain} and {skip})"
    )
    theirs = "Aligned 82.9, LayerSkip 79.0, AC-Mixer 85.4 (CIFAR-100 to CIFAR-10)"
    scale = (
        f"Mixer, stand-in: 5 classes to the other 5, {lab.scale.transfer_epochs:g} epochs, 1 seed"
    )
    return Entry("8", "transfer", theirs, ours, scale, verdict, figures)


def magnitude(lab: Lab, form: str, sparsity: float) -> Scores:
    """Accuracy with this share of the blocks' weights at zero, without recovery, mean over
    seeds."""
    runs = []
    for seed in lab.seeds:
        net = lab.network(form, seed)[0].copy()
        prune_(net, sparsity, "magnitude", "global")
        runs.append(measure(net, lab.test()))
    return pooled(runs)


def movement(lab: Lab, form: str, sparsity: float) -> Scores:
    """The same by movement pruning, one seed: pruned while it trains for one epoch, distilled from
    the unpruned network."""
    net, teacher = (lab.network(form, lab.seeds[0])[0] for _ in range(2))
    recipe = lab.recipe(lab.seeds[0], epochs=1.0, lr=5e-4, task_weight=0.5)
    fit(net, lab.train(), recipe, hook=Movement(net, sparsity), teacher=teacher)
    return measure(net, lab.test())


def judge_pruning(rows: dict[str, dict[str, Any]]) -> Verdict:
    """Rule of claim 9, over the sparsities at which one of the two is still above twice the chance
    level of ten classes. yes: the ACN is significantly above at each, and by more at the last than
        unpruned; partly: significantly above at half of them, or its distance to
    the residual network at the last is better than unpruned by more than the two intervals; no:
    otherwise."""
    alive = [
        row for name, row in rows.items() if name != "0" and max(row["residual"], row["acn"]) > 0.2
    ]
    clean, wins = rows["0"], sum(map(above, alive))
    if alive and wins == len(alive) and alive[-1]["drop"] < clean["drop"]:
        return "yes"
    return (
        "partly" if alive and (2 * wins >= len(alive) or alive[-1]["high"] < clean["low"]) else "no"
    )


def in_words(rows: dict[str, dict[str, Any]]) -> str:
    return "; ".join(
        f"{100 * float(s):g} %: {percent(row['residual'])} / {percent(row['acn'])} ({points(row, -1)})"
        for s, row in rows.items()
    )


def claim_9(lab: Lab) -> Entry:
    """Magnitude pruning on the networks of claim 1 (the paper prunes BERT on SST-2). Rule:
    `judge_pruning`."""
    rows = {
        f"{s:g}": against(magnitude(lab, "acn", s), magnitude(lab, "residual", s))
        for s in (0.0, *SPARSITIES)
    }
    scale = f"Mixer of claim 1, no recovery, {seeds_of(lab.seeds)}"
    ours = f"zeros: residual / ACN (gain): {in_words(rows)}"
    return Entry(
        "9", "pruning on top, magnitude", THEIR_PRUNING, ours, scale, judge_pruning(rows), rows
    )


def claim_9b(lab: Lab) -> Entry:
    """Movement pruning on the networks of claim 1. Rule: `judge_pruning`."""
    unpruned = [
        measure(lab.network(form, lab.seeds[0])[0], lab.test()) for form in ("acn", "residual")
    ]
    rows = {"0": against(*unpruned)}
    rows |= {
        f"{s:g}": against(movement(lab, "acn", s), movement(lab, "residual", s))
        for s in (0.5, 0.8, 0.9)
    }
    scale = "Mixer of claim 1, pruned while trained for 1 epoch, 1 seed"
    return Entry(
        "9b",
        "pruning on top, movement",
        THEIR_PRUNING,
        f"zeros: residual / ACN (gain): {in_words(rows)}",
        scale,
        judge_pruning(rows),
        rows,
    )
