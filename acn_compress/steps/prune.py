"""Pruning: zeros among the blocks' weights (magnitude), or whole heads and MLP features removed (structured).

Structured pruning ranks units by the group L2 norm of Torch-Pruning (`GroupMagnitudeImportance(p=2, normalizer="mean")`,
arXiv 2301.12900) over every weight and bias that belongs to a unit, and cuts them through the widths its architecture names,
so fused projections, key/value groups and transposed weights cannot be missed. The result is compared with the masked original.
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, get_args

import torch
from torch import Tensor, nn

from acn_compress import checkpoint, output, widths
from acn_compress.architectures import Architecture, Width, architecture_of
from acn_compress.errors import ConfigError, VerificationError
from acn_compress.modeldir import Source, check_out, find_source
from acn_compress.stack import blocks_of

if TYPE_CHECKING:
    from acn_compress.job import Job, Training
    from acn_compress.training import Progress

Method = Literal["magnitude", "structured"]
Scope = Literal["global", "layer"]

# largest allowed difference to the masked original, as a share of max(1, largest output); half precision rounds every product
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}
INFINITY = 0x7F800000  # the bits of infinity; what is beyond is no number
ZEROS_NOTE = "Zeros make neither the dense file smaller nor the model faster: only a compressed copy of the file (gzip_bytes) shrinks."
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
    """Prune a model, and with `data` and `epochs` train it back, distilling from the unpruned source.

    Args:
        src: model directory, Hub id, or weight file.
        out: the model directory to write.
        target_sparsity: a share in [0, 1), of the model as it comes; 0 changes nothing.
            magnitude: share of zeros among the weight matrices (2-D weights of linear layers) of the blocks; zeros already there count.
            structured: share of the parameters of the prunable units (attention heads, or key/value groups with their heads;
            MLP features; with biases) that are removed. Never more than asked; scope global falls short by less than one unit,
            scope layer by less than one unit of each width.
        method: "magnitude" sets the smallest weights to zero, "structured" removes whole units.
        scope: where the share holds. magnitude: "global" is one threshold across all blocks, "layer" the same share in each matrix.
            structured: "global" ranks units across blocks by their squared L2 norm over the mean of their width in that block
            (so neither the scale of a layer nor the size of a unit counts), "layer" removes the same share of each width.
            At least one unit of every width stays.
        data: to train on after pruning, with `training` as options; without epochs it is only measured on. Pruned weights stay zero,
            removed units stay away.
        job: data and training recipe in one object, instead of `data` and options.
        recover: False only measures on the job's data.
    Returns:
        The report: what was asked and achieved, of what, per block (see `prune_`); with data before, after, paired
        drop; with training what it did.
    Raises:
        ConfigError: for a share that cannot be meant or reached.
        VerificationError: if the cut model differs from the masked original.
    """
    check_options(target_sparsity, method, scope)
    job, recover = _job(data, job, recover, training)
    trained = job if recover else None
    source = find_source(src, config=config)
    check_out(out, source=source, overwrite=overwrite or resume)
    model = checkpoint.load_source(source, device=device)
    teacher = None if job is None else copy.deepcopy(model)
    report = prune_(model, target_sparsity, method, scope)
    if trained is not None:
        report |= _recover(model, teacher, source, trained, out, resume, progress)
    elif job is not None:
        from acn_compress.job import measure_job

        report |= measure_job(model, source, job, teacher)
    if method == "magnitude":
        report |= {"gzip_bytes": _gzip_bytes(model)}
    options = {
        "target_sparsity": target_sparsity,
        "method": method,
        "scope": scope,
        "job": None if trained is None else asdict(trained),
    }
    seed = None if trained is None else trained.recipe.seed
    return output.write(model, out, source=source, step="prune", options=options, report=report, seed=seed, overwrite=overwrite or resume)


def _job(data: str | None, job: Job | None, recover: bool, training: Training) -> tuple[Job | None, bool]:
    """What to train or measure on, or None; and whether to train."""
    if data is None:
        given = [name for name, value in training.items() if value and name != "seed"]  # a seed harms nobody: pruning draws nothing
        if given:
            raise ConfigError(
                f"{given[0]} is given without data. Training after pruning needs data and epochs; leave both out to prune only."
            )
        return job, recover
    if job is not None:
        raise ConfigError("data and job are both given. A job holds its own data: give one of them.")
    from acn_compress.job import as_job

    if not training.get("epochs"):  # 0 and absent: measure only
        return as_job(data, {k: v for k, v in training.items() if k != "epochs"}), False  # type: ignore[arg-type]
    return as_job(data, training), recover


def _recover(
    model: Any, teacher: Any, source: Source, job: Job, out: str | Path, resume: bool, progress: Progress | None
) -> dict[str, Any]:
    """Train the pruned model; the engine holds its zeros, which is checked. Returns the job's part of the report."""
    from acn_compress.job import run_job
    from acn_compress.training import state_directory

    sparse = checkpoint.structure_of(model).sparsity > 0
    zeros = _zeros(list(matrices(model).values()))
    report = run_job(model, source, job, teacher=teacher, reference=teacher, state=state_directory(out), resume=resume, progress=progress)
    if sparse and (found := _zeros(list(matrices(model).values()))) != zeros:
        raise VerificationError(f"training left {found:,} zeros of {zeros:,}. Please report this.")
    return report


def check_options(target_sparsity: float, method: str, scope: str) -> None:
    """Refuse what cannot be meant, before any work.

    Raises:
        ConfigError: saying which option.
    """
    if not 0 <= target_sparsity < 1:
        raise ConfigError(f"target_sparsity is {target_sparsity}, expected a share in [0, 1), such as 0.5 for one half.")
    for name, value, known in (("method", method, get_args(Method)), ("scope", scope, get_args(Scope))):
        if value not in known:
            raise ConfigError(f"{name} is '{value}', expected one of: {', '.join(known)}.")


def prune_(model: Any, target_sparsity: float, method: Method = "structured", scope: Scope = "global") -> dict[str, Any]:
    """Prune a loaded model in place and record it in its structure; no files, no training.

    Returns:
        method, scope, target, achieved, of (what the share is a share of), parameters before and after, note; for magnitude
        zeros, weights and the sparsity of each matrix; for structured the widths before and after, what stayed unchanged, and
        the measured max_difference to the masked original with the tolerance it had to meet.
    Raises:
        ConfigError, VerificationError: as `prune`.
    """
    check_options(target_sparsity, method, scope)
    before, structure = checkpoint.parameters(model), checkpoint.structure_of(model)
    prune_method_ = _magnitude_ if method == "magnitude" else _structured_
    found = prune_method_(model, target_sparsity, scope)
    after = {"parameters_before": before, "parameters_after": checkpoint.parameters(model)}
    report = {"method": method, "scope": scope, "target": target_sparsity, **found, **after}
    if structure.widths is not None or structure.sparsity > 0:
        report["note"] += " The source was pruned before; its zeros and widths are kept, and the share is one of the model as it came."
    return report


def matrices(model: Any) -> dict[str, nn.Parameter]:
    """The weight matrices magnitude pruning works on, by "block.layer": the 2-D weights of the blocks' linear layers."""
    return {
        f"{i}.{name}": cast(nn.Parameter, module.weight)
        for i, block in enumerate(blocks_of(model, architecture_of(model.config)))
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    }


def _zeros(weights: Sequence[Tensor]) -> int:
    return sum(int((w == 0).sum()) for w in weights)


def _magnitude_(model: Any, target: float, scope: Scope) -> dict[str, Any]:
    named = matrices(model)
    groups = {"the blocks": list(named.values())} if scope == "global" else {name: [weight] for name, weight in named.items()}
    wanted = {where: _zeros_wanted(weights, target, where) for where, weights in groups.items()}
    for where, weights in groups.items():
        _zero_smallest_(weights, wanted[where])
    total, zeros = sum(w.numel() for w in named.values()), _zeros(list(named.values()))
    if target > 0:
        checkpoint.set_structure_(model, checkpoint.structure_of(model).changed(sparsity=zeros / total))
    return {
        "achieved": zeros / total,
        "of": f"zeros among {total:,} weights of the blocks",
        "zeros": zeros,
        "weights": total,
        "matrices": {name: _zeros([w]) / w.numel() for name, w in named.items()},
        "note": ZEROS_NOTE,
    }


def _zeros_wanted(weights: Sequence[Tensor], target: float, where: str) -> int:
    """Zeros that make the share, to the nearest weight; one weight always stays, and zeros that are there are never undone."""
    total, present = sum(w.numel() for w in weights), _zeros(weights)
    wanted = min(round(target * total), total - 1)
    if target > 0 and present > wanted:
        share = present / total
        raise ConfigError(f"target_sparsity is {target}, but {share:.4f} of {where} are zeros already. Choose more than that, or 0.")
    return wanted if target > 0 else present


def _zero_smallest_(weights: Sequence[Tensor], count: int) -> None:
    """Set exactly `count` weights to zero, the smallest first; of equal ones the first in order."""
    if count == 0:
        return
    threshold, equal = _threshold(weights, count)
    for weight in weights:
        size = _ordered(weight)
        drop, ties = size < threshold, (size == threshold).nonzero().squeeze(1)[:equal]
        drop[ties], equal = True, equal - len(ties)
        with torch.no_grad():
            weight.masked_fill_(drop.view_as(weight), 0.0)
    if threshold > INFINITY or _zeros(weights) != count:
        raise VerificationError(f"pruning left {_zeros(weights)} zeros, expected {count}. Are there NaN weights in the source?")


def _ordered(weight: Tensor) -> Tensor:
    """The bits of every magnitude as float32, flat: as integers they are ordered as the magnitudes are, and NaN comes last."""
    return weight.detach().abs().float().flatten().view(torch.int32)


def _threshold(weights: Sequence[Tensor], count: int) -> tuple[int, int]:
    """The `count`-th smallest magnitude (its bits) and how many of those equal to it are among the `count` smallest.

    Counted half a word at a time, so that no more than one matrix is ever copied.
    """
    found, left = 0, count
    for shift in (16, 0):
        seen = torch.zeros(1 << 16, dtype=torch.int64)
        for weight in weights:
            bits = _ordered(weight)
            bits = bits if shift else bits[bits >> 16 == found >> 16]
            seen += torch.bincount(bits >> shift & 0xFFFF, minlength=1 << 16).cpu()
        upto = seen.cumsum(0)
        place = int(torch.searchsorted(upto, left))
        found, left = found | place << shift, left - int(upto[place] - seen[place])
    return found, left


def _gzip_bytes(model: nn.Module) -> int:
    """Bytes of all weights after gzip -6, shared ones once: what a compressed copy of the dense file takes."""
    packer, size = zlib.compressobj(6, wbits=31), 0
    for tensor in {t.data_ptr(): t for t in model.state_dict().values()}.values():
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


def _choices(model: nn.Module, architecture: Architecture) -> list[_Choice]:
    found = []
    for i, block in enumerate(blocks_of(model, architecture)):
        for name, width in architecture.widths(block).items():
            scores = widths.unit_scores(block, width)
            scores = scores / scores.mean().clamp_min(torch.finfo(scores.dtype).tiny)
            found.append(_Choice(i, name, width, widths.unit_parameters(block, width), scores))
    return found


def _structured_(model: Any, target: float, scope: Scope) -> dict[str, Any]:
    architecture = architecture_of(model.config)
    choices, before = _choices(model, architecture), widths.counts(model, architecture)
    drops = _rank_globally(choices, target) if scope == "global" else _rank_per_width(choices, target)
    total = sum(c.cost * c.units for c in choices)
    removed = sum(c.cost * len(d) for c, d in zip(choices, drops, strict=True))
    if target > 0 and removed == 0:
        smallest = min(c.cost for c in choices if c.units > 1) / total
        raise ConfigError(f"target_sparsity is {target}, less than what one unit holds ({smallest:.4f} with scope global). Choose more.")
    difference = _cut_checked_(model, architecture, choices, drops)
    return {
        "achieved": removed / total,
        "of": f"{removed:,} of {total:,} prunable parameters",
        "widths_before": list(before),
        "widths": list(widths.counts(model, architecture)),
        "unchanged": [str(c) for c, d in zip(choices, drops, strict=True) if not d],
        "max_difference": difference,
        "tolerance": TOLERANCE[model.dtype],
        "note": UNITS_NOTE,
    }


def _rank_globally(choices: Sequence[_Choice], target: float) -> list[list[int]]:
    """Units to remove per width: the least important anywhere first, as long as they fit into the share."""
    total, removable = sum(c.cost * c.units for c in choices), sum(c.cost * (c.units - 1) for c in choices)
    budget = round(target * total)
    if budget > removable:
        reachable = _below(removable / total)
        raise ConfigError(
            f"target_sparsity is {target}, but one unit of every width must stay: the largest reachable share is {reachable}."
        )
    order = sorted((float(score), i, unit) for i, c in enumerate(choices) for unit, score in enumerate(c.scores))
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


def _cut_checked_(model: Any, architecture: Architecture, choices: Sequence[_Choice], drops: Sequence[Sequence[int]]) -> float:
    """Cut the units out, and prove that exactly they are gone. Returns the difference to the masked original."""
    if not any(drops):
        return 0.0
    expected, sizes = checkpoint.parameters(model), [dict(w) for w in widths.counts(model, architecture)]
    blocks = blocks_of(model, architecture)
    for choice, drop in zip(choices, drops, strict=True):
        widths.zero_(blocks[choice.block], choice.width, drop)
    masked = _outputs(model)  # of the original with the units at zero; to copy it would take its memory twice
    for choice, drop in zip(choices, drops, strict=True):
        keep = sorted(set(range(choice.units)) - set(drop))
        widths.cut_(blocks[choice.block], choice.width, keep, architecture.fix_widths_)
        sizes[choice.block][choice.name] = len(keep)
        expected -= choice.cost * len(drop)
    if (found := checkpoint.parameters(model)) != expected:
        raise VerificationError(f"pruning left {found:,} parameters, expected {expected:,}. Please report this.")
    if (counted := widths.counts(model, architecture)) != tuple(sizes):
        raise VerificationError(f"pruning left the widths {list(counted)}, expected {sizes}. Please report this.")
    _record_widths_(model, tuple(sizes))
    return verify_against_masked(model, masked)


def _record_widths_(model: Any, sizes: tuple[dict[str, int], ...]) -> None:
    """The new widths; the share of zeros of an earlier magnitude pruning is counted again on what is left."""
    structure, weights = checkpoint.structure_of(model), list(matrices(model).values())
    sparsity = _zeros(weights) / sum(w.numel() for w in weights) if structure.sparsity > 0 else 0.0
    checkpoint.set_structure_(model, structure.changed(widths=sizes, sparsity=sparsity))


def _outputs(model: Any) -> list[Tensor]:
    """What the model says to random inputs of two batch sizes and lengths."""
    training = model.training
    model.eval()
    with torch.inference_mode():
        found = [
            checkpoint.first_output(model(**checkpoint.example_inputs(model, batch=batch, length=length, seed=batch))).float()
            for batch, length in ((1, 7), (3, 12))
        ]
    model.train(training)
    return found


def verify_against_masked(model: Any, masked: Sequence[Tensor]) -> float:
    """Compare a cut model with what the original said (`_outputs`) with the removed units at zero.

    Returns:
        The largest difference of the outputs, over max(1, the largest output).
    Raises:
        VerificationError: if it exceeds `TOLERANCE` of the model's dtype.
    """
    worst = 0.0
    for found, expected in zip(_outputs(model), masked, strict=True):
        difference = float((found - expected).abs().max() / expected.abs().max().clamp_min(1.0))
        worst = worst if difference <= worst else difference  # not max(): it would hide what is not a number
    if not worst <= (bound := TOLERANCE[model.dtype]):
        raise VerificationError(
            f"the pruned model differs from the masked original by {worst:.1e}, expected at most {bound:.0e}. Please report this."
        )
    return worst
