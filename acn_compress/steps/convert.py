"""convert: walk alpha from 1 towards 0 while distilling from the unchanged source."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint import write as output
from acn_compress.compression.start import Keep, cut_
from acn_compress.errors import ConfigError
from acn_compress.form import LAYER_KINDS, LayerKind
from acn_compress.training.hooks import Progress
from acn_compress.training.job import Job, Training, as_job, run_job
from acn_compress.training.state import kept
from acn_compress.training.walk import Walk


def convert(
    src: str | Path,
    out: str | Path,
    data: str | Job,
    *,
    alpha_end: float = 0.0,
    layer: LayerKind = "block",
    learned: bool = False,
    pull: float = 0.0,
    anneal: float = 0.5,
    depth: int | None = None,
    keep: Keep = "auto",
    refit: bool | None = None,
    task: str | None = None,
    teacher: str | Path | None = None,
    config: str | Path | None = None,
    device: str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **training: Unpack[Training],
) -> dict[str, Any]:
    """Convert a trained checkpoint to ACN (or hybrid) form.

    Args:
        src: the checkpoint.
        out: the model directory to write.
        data: to train on: a data spec with `training` as options, or a `Job` that says it all.
        alpha_end: alpha at the end of the walk; 0 is the ACN, between 0 and 1 a hybrid.
        layer: what one layer is: block, branch or plain.
        learned: after the walk, train alpha per layer from `alpha_end` on, and store what was
            learned (the hybrid ACN).
        pull: let alpha find its own way down instead: from the source's on, alpha is trained per
            layer with pull * mean alpha added to the loss, so that it goes as far as that costs
            nothing more; `alpha_end` and `learned` do not count then.
        anneal: share of the steps that the walk takes.
        depth: cut to `depth` blocks before training ("cut first", the cheapest way to one known
            depth).
        keep: with depth: which blocks, "first", "even", "best" or "auto" (`initial.cut_`).
        refit: with depth: solve the kept blocks' output layers before training (`refit.refit_`);
            None does it where it can be done.
        task: read source and teacher under the head of this task, for example features; its head
            must be there.
        teacher: distilled from; None is the source itself.
    Returns:
        The report: before (the source), after, paired drop, alpha, training.
    Raises:
        AcnError: in one line.
    """
    if not 0 <= alpha_end <= 1:
        raise ConfigError(f"alpha_end is {alpha_end}, expected 0 (ACN) to 1 (residual).")
    if not 0 <= anneal <= 1:
        raise ConfigError(f"anneal is {anneal}, expected a share of the steps in [0, 1].")
    if pull < 0:
        raise ConfigError(
            f"pull is {pull}, expected 0 (a fixed walk to alpha_end) or more, for example 0.1."
        )
    if pull and learned:
        raise ConfigError(
            "pull and learned are both given. A pull trains alpha from the start; learned trains it after a fixed walk."
        )
    if layer not in LAYER_KINDS:
        raise ConfigError(f"layer '{layer}' is not known. Expected {', '.join(LAYER_KINDS)}.")
    job = as_job(data, training)
    source = modeldir.find_source(src, config=config)
    modeldir.check_out(out, source=source, overwrite=overwrite or resume)
    options = {
        "job": asdict(job),
        "alpha_end": alpha_end,
        "layer": layer,
        "learned": learned,
        "pull": pull,
        "anneal": anneal,
        "depth": depth,
        "keep": keep,
        "refit": refit,
        "task": task,
        "teacher": teacher,
    }
    with kept(
        out,
        source,
        resume=resume,
        overwrite=overwrite,
        step="convert",
        augment=job.augment,
        **options,
    ) as training_kept:
        net = checkpoint.load_source(source, task=task, device=device)
        distilled = checkpoint.load_source(
            modeldir.find_source(teacher or src, config=None if teacher else config),
            task=task,
            device=device,
        )
        if task != "features" and (note := distilled.fresh_head):  # features read no head
            raise ConfigError(
                f"{note} It has nothing to teach: train it first with acn-compress finetune --task {task}, then convert."
            )
        structure = net.structure
        if structure.layer != layer and structure.form != "residual":
            raise ConfigError(
                f"{source.name} is in {structure.form} form with layer '{structure.layer}'; it cannot become layer '{layer}'."
            )
        chosen = 0.0
        if depth is not None:
            net.check_depth(depth, source.name)
            chosen = cut_(net, depth, keep, job, source, distilled, refitted=refit)
            structure = net.structure
        walk = _walk(
            structure.alpha, len(structure.blocks), alpha_end, anneal, layer, learned, pull
        )
        report: dict[str, Any] = run_job(
            net,
            source,
            job,
            teacher=distilled,
            reference=distilled,
            walk=walk,
            state=training_kept,
            progress=progress,
        ).model_dump(mode="json", exclude_none=True)
        report["choosing_flops"] = chosen
        report["alpha"] = list(net.structure.alpha)
        return output.write(
            net,
            out,
            source=source,
            step="convert",
            options=options,
            seed=job.recipe.seed,
            report=report,
            overwrite=overwrite or resume,
        )


def _walk(
    start: tuple[float, ...],
    blocks: int,
    end: float,
    share: float,
    layer: LayerKind,
    learned: bool,
    pull: float,
) -> Walk:
    n = 2 * blocks if layer == "branch" else blocks
    if len(start) != n:
        start = (start[0],) * n  # residual: every alpha is 1
    return Walk(start, tuple(min(a, end) for a in start), share, layer, learned, pull)
