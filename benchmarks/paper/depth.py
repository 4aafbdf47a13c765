"""Claims 1 to 4: how much of the depth a network trained from scratch needs, and whether that
follows the task."""

from __future__ import annotations

from collections.abc import Sequence

from acn_compress.form import LayerKind
from acn_compress.found import Found
from acn_compress.measure.quality import Scores, measure, paired
from acn_compress.measure.readouts import cutoff, profile_model
from acn_compress.network.network import Network
from acn_compress.quality import Drop
from benchmarks.paper.entry import Entry, Verdict, mean, percent, points, seeds_of
from benchmarks.paper.setting import FORMS, Lab, Wanted, pooled

TOLERANCE = 0.01  # one point of accuracy below the network's own whole
CLASSES = (2, 5, 10)  # of claim 2


class Row(Found):
    """A depth: accuracy with its interval, and the drop below the whole network with the upper end
    of its paired one."""

    depth: int
    value: float
    low: float
    high: float
    drop: float
    drop_high: float


class Curve(Found):
    """A network at every depth: `cutoff` asks the whole paired 95 % interval of the drop to lie
    within one point, `cutoff_point` the measured drop alone; both are the number of blocks where no
    smaller depth does."""

    accuracy: float
    blocks: int
    cutoff: int
    cutoff_point: int
    depths: list[Row]


class Comparison(Found):
    """Residual networks and ACNs, trained alike, a curve for each seed; and how far the ACN lies
    below the whole residual network, whole and cut at its cutoff."""

    seeds: list[int]
    residual: list[Curve]
    acn: list[Curve]
    whole: Drop
    cut: Drop


def quality_over_depth(net: Network, lab: Lab, classes: Sequence[int]) -> Curve:
    """On the test images of some classes."""
    found = profile_model(net, lab.test(classes))
    return Curve(
        accuracy=found.full.value,
        blocks=net.depth,
        cutoff=cutoff(found.depths, TOLERANCE, "upper") or net.depth,
        cutoff_point=cutoff(found.depths, TOLERANCE, "point") or net.depth,
        depths=[
            Row.model_validate({name: getattr(row, name) for name in Row.model_fields})
            for row in found.depths
        ],
    )


def compare_forms(
    lab: Lab, kind: str, seeds: Sequence[int], layer: LayerKind = "plain"
) -> Comparison:
    """Train both forms alike, and read them out; `layer` is that of the ACN."""
    layers: dict[str, LayerKind] = {"residual": "plain", "acn": layer}
    curves: dict[str, list[Curve]] = {form: [] for form in FORMS}
    whole: dict[str, list[Scores]] = {form: [] for form in FORMS}
    cut: list[Scores] = []
    for form in FORMS:
        for seed in seeds:
            net = lab.network(Wanted(form, seed, kind=kind, layer=layers[form]))
            curves[form].append(quality_over_depth(net, lab, range(10)))
            whole[form].append(measure(net, lab.test()))
            if form == "acn":
                net.truncate_(curves[form][-1].cutoff)
                cut.append(measure(net, lab.test()))
    return Comparison(
        seeds=list(seeds),
        residual=curves["residual"],
        acn=curves["acn"],
        whole=paired(pooled(whole["acn"]), pooled(whole["residual"])),
        cut=paired(pooled(cut), pooled(whole["residual"])),
    )


def in_words(found: Comparison, name: str) -> str:
    """Both forms, and the cut ACN against the whole residual network."""
    return (
        f"Res-{name} {_form_in_words(found.residual)}, "
        f"AC-{name} {_form_in_words(found.acn)}; "
        f"AC-{name} cut there against the whole Res-{name}: {points(found.cut, -1)}"
    )


def _form_in_words(runs: Sequence[Curve]) -> str:
    """Means over seeds."""
    share = mean([run.cutoff / run.blocks for run in runs])
    accuracy = percent(mean([run.accuracy for run in runs]))
    return f"{accuracy} (cutoff at {100 * share:.0f} % of depth)"


def judge(found: Comparison) -> Verdict:
    """yes: the ACN's cutoff is smaller than the residual network's in every seed, and cut there it
    is not significantly less accurate than the whole residual network; partly: only the first; no:
    not even that."""
    pairs = zip(found.acn, found.residual, strict=True)
    if not all(a.cutoff < r.cutoff for a, r in pairs):
        return "no"
    return "yes" if found.cut.low <= 0 else "partly"


def claim_1(lab: Lab) -> Entry:
    """Mixer from scratch, residual against ACN with the paper's blocks (layer "plain"), same
    epochs. Rule: `judge`."""
    found = compare_forms(lab, "mixer", lab.seeds)
    return Entry(
        "1",
        "auto-compression over depth",
        "Res-Mixer 90.3 (100 % of depth), AC-Mixer 92.0 (75 %)",
        in_words(found, "Mixer"),
        f"Mixer, {seeds_of(lab.seeds)}",
        judge(found),
        found,
    )


def claim_1b(lab: Lab) -> Entry:
    """Claim 1 with layer "block", the default of this package: the skip inside a block stays. Rule:
    `judge`."""
    found = compare_forms(lab, "mixer", lab.scale.few, layer="block")
    claim = 'the same with layer "block" (the skip inside a block stays)'
    ours = in_words(found, "Mixer")
    scale = f"Mixer, {seeds_of(lab.scale.few)}"
    return Entry("1b", claim, "", ours, scale, judge(found), found)


def claim_2(lab: Lab) -> Entry:
    """Two, five and ten classes, the same number of steps each, and of images where there are
    enough. yes: the ACN's mean
    cutoff never falls from 2 to 5 to 10 classes and is larger for 10 than for 2, and the residual
    network's is not; partly: the first, but the residual network's grows too; no: the first does
    not hold."""
    acn, residual = _over_classes(lab, "acn"), _over_classes(lab, "residual")
    ours = (
        f"ACN: {_cutoffs_in_words(acn, lab.scale.blocks)}; "
        f"residual: {_cutoffs_in_words(residual, lab.scale.blocks)}"
    )
    seeds = list(lab.seeds)
    return Entry(
        "2",
        "depth follows task difficulty (2, 5, 10 classes)",
        "cutoff 8, 10, 12 of 16; residual 16 every time",
        ours,
        f"Mixer, {seeds_of(lab.seeds)}",
        judge_growth(_mean_cutoffs(acn), _mean_cutoffs(residual)),
        {"acn": {"seeds": seeds, **acn}, "residual": {"seeds": seeds, **residual}},
    )


def _over_classes(lab: Lab, form: str) -> dict[str, list[Curve]]:
    """A curve for each seed, by the number of classes."""
    found: dict[str, list[Curve]] = {}
    for n in CLASSES:
        classes = tuple(range(n))
        networks = [lab.network(Wanted(form, seed, classes=classes)) for seed in lab.seeds]
        found[str(n)] = [quality_over_depth(net, lab, classes) for net in networks]
    return found


def _mean_cutoffs(found: dict[str, list[Curve]]) -> list[float]:
    """Over seeds, for 2, 5 and 10 classes."""
    return [mean([run.cutoff for run in runs]) for runs in found.values()]


def _cutoffs_in_words(found: dict[str, list[Curve]], blocks: int) -> str:
    mean_points = [mean([run.cutoff_point for run in runs]) for runs in found.values()]
    with_interval = ", ".join(f"{c:g}" for c in _mean_cutoffs(found))
    without = ", ".join(f"{c:g}" for c in mean_points)
    return f"{with_interval} of {blocks} (without the interval: {without})"


def judge_growth(acn: list[float], residual: list[float]) -> Verdict:
    """Rule of claim 2."""
    if not _grows(acn):
        return "no"
    return "partly" if _grows(residual) else "yes"


def _grows(values: list[float]) -> bool:
    return values == sorted(values) and values[-1] > values[0]


def claim_3(lab: Lab) -> Entry:
    """ImageNet is out of reach."""
    theirs = "70.74 at 12 layers (33.7 GFLOPs) against 70.76 at 6 layers (19.7)"
    ours = "out of reach at this scale; a stand-in is 3b"
    return Entry("3", "ViT-B on ImageNet", theirs, ours, "", "not measured")


def claim_3b(lab: Lab) -> Entry:
    """A small ViT on the data at hand stands in for claim 3. Rule: `judge`."""
    found = compare_forms(lab, "vit", lab.scale.few)
    claim = f"stand-in: a small ViT on {lab.scale.data}"
    scale = f"ViT, {seeds_of(lab.scale.few)}"
    return Entry("3b", claim, "", in_words(found, "ViT"), scale, judge(found), found)


def claim_4(lab: Lab) -> Entry:
    """Pre-training on BooksCorpus is out of reach; what converting a pretrained encoder gives is in
    docs/method.md, section 6."""
    theirs = "86.63 / 83.14 / 87.20 at 12 layers against 86.68 / 83.07 / 87.30 at 3"
    ours = (
        "out of reach at this scale; "
        "for converting a pretrained MiniLM see [method.md](method.md), section 6"
    )
    return Entry("4", "BERT: SST-2 / QNLI / QQP", theirs, ours, "", "not measured")
