"""Claims 5 and 8: noise and transfer."""

from __future__ import annotations

from acn_compress.data.load import Noise
from acn_compress.measure.quality import Scores, measure
from acn_compress.options import Trained
from benchmarks.paper.against import Against, against
from benchmarks.paper.entry import Entry, Verdict, percent, points, seeds_of
from benchmarks.paper.setting import Lab, Wanted, pooled
from benchmarks.paper.watch import watched

NOISES = (
    "gaussian:0.1",
    "gaussian:0.2",
    "gaussian:0.4",
    "salt-pepper:0.01",
    "salt-pepper:0.05",
    "salt-pepper:0.1",
)
THEIRS_5 = (
    "ViT: residual 67.68 62.80 45.46; 56.80 27.48 10.34; ACN 69.50 64.54 51.89; 59.80 36.35 19.98"
)
OLD, NEW = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)  # classes
TRANSFERRED = {  # what is trained on the old ones: form, and weight of the prefix loss
    "residual": ("residual", 0.0),
    "residual with prefix loss": ("residual", 1.0),
    "acn": ("acn", 0.0),
}


def claim_5(lab: Lab) -> Entry:
    """Accuracy under noise, paired by image, mean over seeds. yes: the ACN is significantly above
    under at least five of the six noises and significantly below under none; partly: significantly
    above under at least three; no: otherwise."""
    clean = _under(lab, None)
    noisy = {name: _under(lab, Noise.parse(name)) for name in NOISES}
    gains = ", ".join(points(row, -1) for row in noisy.values())
    ours = (
        f"residual {_line([row.residual for row in noisy.values()])}; "
        f"ACN {_line([row.acn for row in noisy.values()])}; "
        f"gains {gains} (clean {points(clean, -1)} at {percent(clean.acn)})"
    )
    return Entry(
        "5",
        "noise: Gaussian sd 0.1 / 0.2 / 0.4; salt and pepper 1 / 5 / 10 %",
        THEIRS_5,
        ours,
        f"Mixer of claim 1, {seeds_of(lab.seeds)}",
        judge_noise(list(noisy.values())),
        {"clean": clean, **noisy},
    )


def _under(lab: Lab, noise: Noise | None) -> Against:
    """Both forms, under this noise."""
    return against(_scores(lab, "acn", noise), _scores(lab, "residual", noise))


def _scores(lab: Lab, form: str, noise: Noise | None) -> Scores:
    networks = (lab.network(Wanted(form, seed)) for seed in lab.seeds)
    return pooled([measure(net, lab.test(), noise=noise) for net in networks])


def _line(values: list[float]) -> str:
    """Gaussian noise first, then salt and pepper."""
    half = len(values) // 2
    return "; ".join(" ".join(map(percent, part)) for part in (values[:half], values[half:]))


def judge_noise(rows: list[Against]) -> Verdict:
    """Rule of claim 5."""
    wins = sum(row.above for row in rows)
    if wins >= 5 and not any(row.below for row in rows):
        return "yes"
    return "partly" if wins >= 3 else "no"


def claim_8(lab: Lab) -> Entry:
    """Pre-training on five classes, fine-tuning on the other five with a new head: the stand-in for
    CIFAR-100 to CIFAR-10. yes: the ACN is significantly above the residual network and above the
    residual network trained with prefix readouts (as LayerSkip's); partly: above one of them and
    significantly below none; no: otherwise."""
    seeds, epochs = lab.scale.few, lab.scale.transfer_epochs
    scores = {
        name: pooled(
            [_transferred(lab, Wanted(form, s, classes=OLD, prefix=prefix)) for s in seeds]
        )
        for name, (form, prefix) in TRANSFERRED.items()
    }
    below_them = {
        name: against(scores["acn"], others) for name, others in scores.items() if name != "acn"
    }
    gains = " and ".join(points(row, -1) for row in below_them.values())
    ours = (
        f"residual {percent(scores['residual'].value)}, "
        f"with prefix loss {percent(scores['residual with prefix loss'].value)}, "
        f"ACN {percent(scores['acn'].value)} (above them by {gains})"
    )
    return Entry(
        "8",
        "transfer",
        "Aligned 82.9, LayerSkip 79.0, AC-Mixer 85.4 (CIFAR-100 to CIFAR-10)",
        ours,
        f"Mixer, stand-in: 5 classes to the other 5, {epochs:g} epochs, {seeds_of(seeds)}",
        judge_transfer(list(below_them.values())),
        {
            "accuracy": {name: found.value for name, found in scores.items()},
            "seeds": list(seeds),
            "acn_below": below_them,
        },
    )


def _transferred(lab: Lab, old: Wanted) -> Scores:
    """A network of the old classes, with a new head, trained on the new ones."""
    net = lab.network(old)
    for p in net.model.timm_model.get_classifier().parameters():
        p.data.zero_()  # timm's Mixers start with a head of zeros
    data = lab.part("train", NEW, lab.scale.transfer_images)
    training = lab.training(old.seed).part(Trained, epochs=lab.scale.transfer_epochs, lr=5e-4)
    watched(net, data, training, lab.test(NEW))
    return measure(net, lab.test(NEW))


def judge_transfer(rows: list[Against]) -> Verdict:
    """Rule of claim 8."""
    if all(row.above for row in rows):
        return "yes"
    return (
        "partly" if any(row.above for row in rows) and not any(row.below for row in rows) else "no"
    )
