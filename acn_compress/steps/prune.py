"""Pruning a model directory: load it, prune by one of `compression.prune.METHODS`, train it back,
write what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint import write as output
from acn_compress.checkpoint.directory import Source, check_out, find_source
from acn_compress.compression.prune import Aim, method_named
from acn_compress.errors import ConfigError
from acn_compress.network.network import Network
from acn_compress.network.zeros import Scope

if TYPE_CHECKING:
    from acn_compress.training.fit import Hook, Progress
    from acn_compress.training.job import Job, Training

Method = Literal["magnitude", "movement", "structured"]


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
    aim, how = Aim(target_sparsity, scope), method_named(method)
    job, recover = _job(data, job, recover, training)
    trained = job if recover else None
    how.check_training(trained is not None, "Give both, or choose magnitude.")
    source = find_source(src, config=config)
    check_out(out, source=source, overwrite=overwrite or resume)
    net = checkpoint.load_source(source, device=device)
    teacher = None if job is None else net.copy()
    pruning, report = how.begin_(net, aim), {}
    if trained is not None:
        report = _training(net, teacher, source, trained, out, resume, progress, pruning.hook)()
    pruned = pruning.finish_()
    if trained is None and job is not None and teacher is not None:
        from acn_compress.training.job import measure_job

        report = measure_job(net, source, job, teacher)
    report = pruned.model_dump(exclude_none=True) | report
    options = {
        "target_sparsity": target_sparsity,
        "method": method,
        "scope": scope,
        "job": None if trained is None else asdict(trained),
    }
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
                f"{given[0]} is given without data. Training after pruning needs data and epochs; "
                "leave both out to prune only."
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
    out: str | Path,
    resume: bool,
    progress: Progress | None,
    hook: Hook | None,
) -> Callable[..., dict[str, Any]]:
    """The training that belongs to the pruning, not begun; it returns the job's part of the
    report."""
    from acn_compress.training.fit import state_directory
    from acn_compress.training.job import run_job

    return partial(
        run_job,
        net,
        source,
        job,
        teacher=teacher,
        reference=teacher,
        hook=hook,
        state=state_directory(out),
        resume=resume,
        progress=progress,
    )
