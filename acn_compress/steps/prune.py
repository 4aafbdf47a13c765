"""Pruning: zeros among the blocks' weights (magnitude, movement), or whole heads and MLP features
removed (structured).

Magnitude and structured prune first and train afterwards; movement prunes while it trains
(`acn_compress.movement`). Structured pruning ranks units by the group L2 norm of Torch-Pruning
(`GroupMagnitudeImportance(p=2, normalizer="mean")`, arXiv 2301.12900) over every weight and bias
that belongs to a unit, and cuts them through the widths its architecture names, so fused
projections, key/value groups and transposed weights cannot be missed. The result is compared with
the masked original.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, get_args

import torch
from torch import Tensor

from acn_compress.architectures import Width
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint import write as output
from acn_compress.checkpoint.directory import Source, check_out, find_source
from acn_compress.errors import ConfigError, VerificationError
from acn_compress.network import widths, zeros
from acn_compress.network.network import Network
from acn_compress.network.zeros import Scope, matrices

if TYPE_CHECKING:
    from acn_compress.training.hooks import Progress
    from acn_compress.training.job import Job, Training
    from acn_compress.training.state import Kept

Method = Literal["magnitude", "movement", "structured"]

# largest allowed difference to the masked original, as a share of max(1, largest output); half
# precision rounds every product
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
ZEROS_NOTE = "Zeros make neither the dense file smaller nor the model faster: only a compressed copy of the file (gzip_bytes) shrinks."
NEEDS_TRAINING = (
    "method is 'movement', which prunes while it trains and needs data and more than 0 epochs."
)
UNITS_NOTE = "Removed heads and features are gone from the file and from every forward pass."


def prune(
    src: str | Path,
    out: str | Path,
    *,
    target_sparsity: float,
    method: Method = "structured",
    scope: Scope = "global",
    data: str | None = None,
    job: Job | None = None,
    recover: bool = True,
    config: str | Path | None = None,
    device: str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **training: Unpack[Training],
) -> dict[str, Any]:
    """Prune a model, and with `data` and `epochs` train it back (movement: while training),
    distilling from the unpruned source.

    Args:
        src: model directory, Hub id, or weight file.
        out: the model directory to write.
        target_sparsity: a share in [0, 1), of the model as it comes; 0 changes nothing.
            magnitude, movement: share of zeros among the weight matrices (2-D weights of linear
                layers) of the blocks; zeros already there count.
            structured: share of the parameters of the prunable units (attention heads, or key/value
                groups with their heads;
            MLP features; with biases) that are removed. Never more than asked; scope global falls
            short by less than one unit, scope layer by less than one unit of each width.
        method: "magnitude" sets the smallest weights to zero, "movement" those that training moves
            towards zero, "structured" removes whole units.
        scope: where the share holds. magnitude, movement: "global" is one threshold across all
            blocks, "layer" the same share in each matrix.
            structured: "global" ranks units across blocks by their squared L2 norm over the mean of
                their width in that block
            (so neither the scale of a layer nor the size of a unit counts), "layer" removes the
            same share of each width. At least one unit of every width stays.
        data: to train on after pruning, with `training` as options; without epochs it is only
            measured on. Pruned weights stay zero, removed units stay away. Movement needs data and
            epochs.
        job: data and training recipe in one object, instead of `data` and options.
        recover: False only measures on the job's data.
    Returns:
        The report: what was asked and achieved, of what, per block (see `prune_`); with data
            before, after, paired
        drop; with training what it did.
    Raises:
        ConfigError: for a share that cannot be meant or reached, and for movement without training.
        VerificationError: if the cut model differs from the masked original.
    """
    check_options(target_sparsity, method, scope)
    job, recover = _job(data, job, recover, training)
    trained = job if recover else None
    if method == "movement" and trained is None:
        raise ConfigError(f"{NEEDS_TRAINING} Give both, or choose magnitude.")
    source = find_source(src, config=config)
    check_out(out, source=source, overwrite=overwrite or resume)
    options = {
        "target_sparsity": target_sparsity,
        "method": method,
        "scope": scope,
        "job": None if trained is None else asdict(trained),
    }
    with _kept(out, source, trained, resume, overwrite, options) as training_kept:
        net = checkpoint.load_source(source, device=device)
        teacher = None if job is None else net.copy()
        train = (
            None
            if trained is None
            else _training(net, teacher, source, trained, training_kept, progress)
        )
        if method == "movement" and train is not None:
            report = _pruned_(net, target_sparsity, method, scope, partial(_movement_, train=train))
        else:
            report = prune_(net, target_sparsity, method, scope)
            if train is not None:
                report |= _recover(net, train)
            elif job is not None and teacher is not None:
                from acn_compress.training.job import measure_job

                report |= measure_job(net, source, job, teacher).model_dump()
        if method != "structured":
            report |= {"gzip_bytes": _gzip_bytes(net)}
        seed = None if trained is None else trained.recipe.seed
        return output.write(
            net,
            out,
            source=source,
            step="prune",
            options=options,
            report=report,
            seed=seed,
            overwrite=overwrite or resume,
        )


def _kept(
    out: str | Path,
    source: Source,
    job: Job | None,
    resume: bool,
    overwrite: bool,
    options: dict[str, Any],
) -> AbstractContextManager[Kept | None]:
    """Where what is trained is kept until it is written; nothing without training."""
    if job is None:
        return nullcontext()
    from acn_compress.training.state import kept

    return kept(
        out,
        source,
        resume=resume,
        overwrite=overwrite,
        step="prune",
        augment=job.augment,
        **options,
    )


def _job(
    data: str | None, job: Job | None, recover: bool, training: Training
) -> tuple[Job | None, bool]:
    """What to train or measure on, or None; and whether to train."""
    if data is None:
        given = [
            name for name, value in training.items() if value and name != "seed"
        ]  # a seed harms nobody: pruning draws nothing
        if given:
            raise ConfigError(
                f"{given[0]} is given without data. Training after pruning needs data and epochs; leave both out to prune only."
            )
        return job, recover
    if job is not None:
        raise ConfigError(
            "data and job are both given. A job holds its own data: give one of them."
        )
    from acn_compress.training.job import as_job

    if not training.get("epochs"):  # 0 and absent: measure only
        return as_job(data, {k: v for k, v in training.items() if k != "epochs"}), False  # type: ignore[arg-type]
    return as_job(data, training), recover


def _training(
    net: Network,
    teacher: Network | None,
    source: Source,
    job: Job,
    state: Kept | None,
    progress: Progress | None,
) -> Callable[..., dict[str, Any]]:
    """The training that belongs to the pruning, not begun; it returns the job's part of the
    report."""
    from acn_compress.training.job import run_job

    def train(**hooked: Any) -> dict[str, Any]:
        found = run_job(
            net,
            source,
            job,
            teacher=teacher,
            reference=teacher,
            state=state,
            progress=progress,
            **hooked,
        )
        return found.model_dump(mode="json", exclude_none=True)

    return train


def _recover(net: Network, train: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Train the pruned model; the engine holds its zeros, which is checked. Returns the job's part
    of the report."""
    sparse = net.structure.sparsity > 0
    expected = zeros.count(list(matrices(net).values()))
    report = train()
    if sparse and (found := zeros.count(list(matrices(net).values()))) != expected:
        raise VerificationError(
            f"training left {found:,} zeros of {expected:,}. Please report this."
        )
    return report


def check_options(target_sparsity: float, method: str, scope: str) -> None:
    """Refuse what cannot be meant, before any work.

    Raises:
        ConfigError: saying which option.
    """
    if not 0 <= target_sparsity < 1:
        raise ConfigError(
            f"target_sparsity is {target_sparsity}, expected a share in [0, 1), such as 0.5 for one half."
        )
    for name, value, known in (
        ("method", method, get_args(Method)),
        ("scope", scope, get_args(Scope)),
    ):
        if value not in known:
            raise ConfigError(f"{name} is '{value}', expected one of: {', '.join(known)}.")


def prune_(
    net: Network, target_sparsity: float, method: Method = "structured", scope: Scope = "global"
) -> dict[str, Any]:
    """Prune a loaded model in place and record it in its structure; no files, no training.

    Returns:
        method, scope, target, achieved, of (what the share is a share of), parameters before and
        after, note; for magnitude (and movement, which only `prune` can do) zeros, weights and the
        sparsity of each matrix; for structured the widths before and after, what stayed unchanged,
        and the measured max_difference to the masked original with the tolerance it had to meet.
    Raises:
        ConfigError, VerificationError: as `prune`.
    """
    check_options(target_sparsity, method, scope)
    if method == "movement":
        raise ConfigError(f"{NEEDS_TRAINING} Call prune with both.")
    return _pruned_(
        net,
        target_sparsity,
        method,
        scope,
        _magnitude_ if method == "magnitude" else _structured_,
    )


def _pruned_(
    net: Network,
    target_sparsity: float,
    method: Method,
    scope: Scope,
    prune_method_: Callable[[Any, float, Scope], dict[str, Any]],
) -> dict[str, Any]:
    """Prune by one method; the report of `prune_` from what it found."""
    before, structure = net.parameters, net.structure
    found = prune_method_(net, target_sparsity, scope)
    after = {"parameters_before": before, "parameters_after": net.parameters}
    report = {"method": method, "scope": scope, "target": target_sparsity, **found, **after}
    if structure.widths is not None or structure.sparsity > 0:
        report["note"] += (
            " The source was pruned before; its zeros and widths are kept, and the share is one of the model as it came."
        )
    return report


def _magnitude_(net: Network, target: float, scope: Scope) -> dict[str, Any]:
    named = matrices(net)
    groups = {
        where: [named[name] for name in names] for where, names in zeros.groups(net, scope).items()
    }
    wanted = {where: zeros.wanted(weights, target, where) for where, weights in groups.items()}
    for where, weights in groups.items():
        _zero_smallest_(weights, wanted[where])
    return _record_zeros_(net, target)


def _movement_(
    net: Network, target: float, scope: Scope, train: Callable[..., dict[str, Any]]
) -> dict[str, Any]:
    """Train with the pruning hooked in; a target of 0 only trains."""
    from acn_compress.compression.movement import Movement

    hook = Movement(net, target, scope) if target > 0 else None
    report = train(hook=hook)
    found = _record_zeros_(net, target)
    if (
        hook is not None and found["zeros"] < hook.wanted
    ):  # more: training itself may bring a weight to zero
        raise VerificationError(
            f"training left {found['zeros']:,} zeros of {hook.wanted:,}. Please report this."
        )
    return found | report


def _record_zeros_(net: Network, target: float) -> dict[str, Any]:
    """Count the zeros into the structure (a target of 0 claims none); what the report says of
    them."""
    named = matrices(net)
    total, found = sum(w.numel() for w in named.values()), zeros.count(list(named.values()))
    if target > 0:
        net.set_structure_(net.structure.changed(sparsity=found / total))
    return {
        "achieved": found / total,
        "of": f"zeros among {total:,} weights of the blocks",
        "zeros": found,
        "weights": total,
        "matrices": {name: zeros.count([w]) / w.numel() for name, w in named.items()},
        "note": ZEROS_NOTE,
    }


def _zero_smallest_(weights: Sequence[Tensor], count: int) -> None:
    """Set exactly `count` weights to zero, the smallest first; of equal ones the first in order."""
    if count == 0:
        return
    bound = zeros.threshold(weights, count, zeros.by_magnitude)
    for weight, drop in zip(weights, zeros.lowest(weights, bound, zeros.by_magnitude), strict=True):
        with torch.no_grad():
            weight.masked_fill_(drop, 0.0)
    if bound[0] > zeros.INFINITY or zeros.count(weights) != count:
        raise VerificationError(
            f"pruning left {zeros.count(weights)} zeros, expected {count}. Are there NaN weights in the source?"
        )


def _gzip_bytes(net: Network) -> int:
    """Bytes of all weights after gzip -6, shared ones once: what a compressed copy of the dense
    file takes."""
    packer, size = zlib.compressobj(6, wbits=31), 0
    for tensor in {t.data_ptr(): t for t in net.model.state_dict().values()}.values():
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        size += len(packer.compress(raw))
    return size + len(packer.flush())


@dataclass(frozen=True)
class _Choice:
    """One width of one block: what a unit costs and how much it matters.

    Args:
        block: position of the block.
        name: of the width.
        width: where it lies.
        cost: parameters removed with one unit.
        scores: [units], squared L2 norm over its mean in this width.
    """

    block: int
    name: str
    width: Width
    cost: int
    scores: Tensor

    @property
    def units(self) -> int:
        return self.width.units

    def __str__(self) -> str:
        return f"block {self.block} {self.name}"


def _choices(net: Network) -> list[_Choice]:
    found = []
    for i, block in enumerate(net.blocks):
        for name, width in net.family.widths(block).items():
            scores = widths.unit_scores(block, width)
            scores = scores / scores.mean().clamp_min(torch.finfo(scores.dtype).tiny)
            found.append(_Choice(i, name, width, widths.unit_parameters(block, width), scores))
    return found


def _structured_(net: Network, target: float, scope: Scope) -> dict[str, Any]:
    choices, before = _choices(net), widths.counts(net)
    drops = (
        _rank_globally(choices, target) if scope == "global" else _rank_per_width(choices, target)
    )
    total = sum(c.cost * c.units for c in choices)
    removed = sum(c.cost * len(d) for c, d in zip(choices, drops, strict=True))
    if target > 0 and removed == 0:
        smallest = min(c.cost for c in choices if c.units > 1) / total
        raise ConfigError(
            f"target_sparsity is {target}, less than what one unit holds ({smallest:.4f} with scope global). Choose more."
        )
    difference = _cut_checked_(net, choices, drops)
    return {
        "achieved": removed / total,
        "of": f"{removed:,} of {total:,} prunable parameters",
        "widths_before": list(before),
        "widths": list(widths.counts(net)),
        "unchanged": [str(c) for c, d in zip(choices, drops, strict=True) if not d],
        "max_difference": difference,
        "tolerance": TOLERANCE[net.dtype],
        "note": UNITS_NOTE,
    }


def _rank_globally(choices: Sequence[_Choice], target: float) -> list[list[int]]:
    """Units to remove per width: the least important anywhere first, as long as they fit into the
    share."""
    total, removable = (
        sum(c.cost * c.units for c in choices),
        sum(c.cost * (c.units - 1) for c in choices),
    )
    budget = round(target * total)
    if budget > removable:
        reachable = _below(removable / total)
        raise ConfigError(
            f"target_sparsity is {target}, but one unit of every width must stay: the largest reachable share is {reachable}."
        )
    order = sorted(
        (float(score), i, unit)
        for i, c in enumerate(choices)
        for unit, score in enumerate(c.scores)
    )
    drops: list[list[int]] = [[] for _ in choices]
    for _, i, unit in order:
        if choices[i].cost <= budget and len(drops[i]) < choices[i].units - 1:
            drops[i].append(unit)
            budget -= choices[i].cost
    return drops


def _rank_per_width(choices: Sequence[_Choice], target: float) -> list[list[int]]:
    """Units to remove per width: the same share of each, rounded down to whole units."""
    least = min(choices, key=lambda c: c.units)
    if (reachable := 1 - 1 / least.units) < target:
        raise ConfigError(
            f"target_sparsity is {target}, but {least} has {least.units} units and one must stay: "
            f"the largest reachable share with scope layer is {_below(reachable)}. Choose less, or scope global."
        )
    # a share like 0.29 of 100 units is 28.999999999999996 in floating point, and means 29
    return [c.scores.argsort(stable=True)[: int(target * c.units + 1e-6)].tolist() for c in choices]


def _below(share: float) -> float:
    """Four digits, rounded down, so that the share shown is one that works."""
    return int(share * 1e4) / 1e4


def _cut_checked_(
    net: Network,
    choices: Sequence[_Choice],
    drops: Sequence[Sequence[int]],
) -> float:
    """Cut the units out, and prove that exactly they are gone. Returns the difference to the masked
    original."""
    if not any(drops):
        return 0.0
    expected, sizes = (
        net.parameters,
        [dict(w) for w in widths.counts(net)],
    )
    blocks = net.blocks
    for choice, drop in zip(choices, drops, strict=True):
        widths.zero_(blocks[choice.block], choice.width, drop)
    masked = _outputs(
        net
    )  # of the original with the units at zero; to copy it would take its memory twice
    for choice, drop in zip(choices, drops, strict=True):
        keep = sorted(set(range(choice.units)) - set(drop))
        widths.cut_(blocks[choice.block], choice.width, keep, net.family.fix_widths_)
        sizes[choice.block][choice.name] = len(keep)
        expected -= choice.cost * len(drop)
    if (found := net.parameters) != expected:
        raise VerificationError(
            f"pruning left {found:,} parameters, expected {expected:,}. Please report this."
        )
    if (counted := widths.counts(net)) != tuple(sizes):
        raise VerificationError(
            f"pruning left the widths {list(counted)}, expected {sizes}. Please report this."
        )
    _record_widths_(net, tuple(sizes))
    return verify_against_masked(net, masked)


def _record_widths_(net: Network, sizes: tuple[dict[str, int], ...]) -> None:
    """The new widths; the share of zeros of an earlier magnitude pruning is counted again on what
    is left."""
    structure, weights = net.structure, list(matrices(net).values())
    sparsity = (
        zeros.count(weights) / sum(w.numel() for w in weights) if structure.sparsity > 0 else 0.0
    )
    net.set_structure_(structure.changed(widths=sizes, sparsity=sparsity))


def _outputs(net: Network) -> list[Tensor]:
    """What the model says to random inputs of two batch sizes and lengths."""
    with torch.inference_mode(), net.evaluating():
        return [
            net.answer(**net.example_inputs(batch=batch, length=length, seed=batch)).float()
            for batch, length in ((1, 7), (3, 12))
        ]


def verify_against_masked(net: Network, masked: Sequence[Tensor]) -> float:
    """Compare a cut model with what the original said (`_outputs`) with the removed units at zero.

    Returns:
        The largest difference of the outputs, over max(1, the largest output).
    Raises:
        VerificationError: if it exceeds `TOLERANCE` of the model's dtype.
    """
    worst = 0.0
    for found, expected in zip(_outputs(net), masked, strict=True):
        difference = float((found - expected).abs().max() / expected.abs().max().clamp_min(1.0))
        worst = (
            worst if difference <= worst else difference
        )  # not max(): it would hide what is not a number
    if not worst <= (bound := TOLERANCE[net.dtype]):
        raise VerificationError(
            f"the pruned model differs from the masked original by {worst:.1e}, expected at most {bound:.0e}. Please report this."
        )
    return worst
