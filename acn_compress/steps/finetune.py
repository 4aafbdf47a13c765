"""finetune: the training engine with alpha left as it is; from a checkpoint, or from a config with
random weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint import write as output
from acn_compress.compression.start import Keep, cut_
from acn_compress.data.load import label_names
from acn_compress.errors import ConfigError
from acn_compress.network.registration import plain_class
from acn_compress.tasks import task_named
from acn_compress.training.hooks import Progress
from acn_compress.training.job import Job, Training, as_job, run_job
from acn_compress.training.state import kept
from acn_compress.training.walk import Walk


def finetune(
    src: str | Path,
    out: str | Path,
    data: str | Job,
    *,
    teacher: str | Path | None = None,
    init: str = "source",
    alpha: float | None = None,
    layer: Any = "block",
    task: str | None = None,
    depth: int | None = None,
    keep: Keep = "first",
    refit: bool | None = False,
    config: str | Path | None = None,
    device: str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    **training: Unpack[Training],
) -> dict[str, Any]:
    """Train a model in the form it has; zeros of a magnitude-pruned model stay zeros.

    Args:
        src: the checkpoint; with init "random" a transformers config file or a directory with one.
        out: the model directory to write.
        data: to train on: a data spec with `training` as options, or a `Job` that says it all.
        teacher: distilled from; None trains on the labels alone.
        init: "source" (its weights) or "random" (its config only).
        alpha: with init "random": the form to train from scratch, 0 = ACN; None = residual.
        layer: with alpha: what one layer is.
        task: read under the head of this task, with the data's labels; what the checkpoint lacks of
            it is trained from random weights.
        depth: cut to `depth` blocks before training (the plain baseline).
        keep: with depth: which ones, as in `convert`.
        refit: with depth: as in `convert`.
    Returns:
        The report: before, after, paired drop, training.
    Raises:
        AcnError: in one line.
    """
    if init not in {"source", "random"}:
        raise ConfigError(f"init '{init}' is not known. Expected source or random.")
    if alpha is not None and init != "random":
        raise ConfigError(
            "alpha can only be set with init random; to change the form of a trained model use convert."
        )
    job = as_job(data, training)
    source = None if init == "random" else modeldir.find_source(src, config=config)
    modeldir.check_out(out, source=source, overwrite=overwrite or resume)
    options = {
        "job": asdict(job),
        "teacher": teacher,
        "init": init,
        "alpha": alpha,
        "task": task,
        "depth": depth,
        "keep": keep,
        "refit": refit,
        "src": str(src),
    }
    with kept(
        out,
        source,
        resume=resume,
        overwrite=overwrite,
        step="finetune",
        augment=job.augment,
        **options,
    ) as training_kept:
        checkpoint.seed_everything(job.recipe.seed)
        near = source  # where the tokenizer or image processor lies
        if source is None:
            beside, file = checkpoint.config_source(src)
            architecture, cls, hf_config = checkpoint.describe(beside, task, file)
            names = label_names(
                job.data, job.columns, task or task_named(plain_class(cls).__name__, hf_config)
            )
            net = checkpoint.from_config(src, labels=names, task=task)
            net.model.to(device)
            near = beside if architecture.modality == "text" else None
        else:
            names = None if task is None else label_names(job.data, job.columns, task)
            net = checkpoint.load_source(source, task=task, labels=names, device=device)
        taught = (
            None
            if teacher is None
            else checkpoint.load_source(modeldir.find_source(teacher), device=device)
        )
        if depth is not None:
            net.check_depth(depth, str(src))
            cut_(net, depth, keep, job, near, taught, refitted=refit)
        walk = None
        if alpha is not None:
            n = net.depth * (2 if layer == "branch" else 1)
            walk = Walk((alpha,) * n, (alpha,) * n, 0.0, layer)
        report: dict[str, Any] = {"note": note} if (note := net.fresh_head) else {}
        report |= run_job(
            net,
            near,
            job,
            teacher=taught,
            reference=taught,
            walk=walk,
            state=training_kept,
            progress=progress,
        ).model_dump(mode="json", exclude_none=True)
        processor = checkpoint.new_processor(net, beside) if source is None else None
        return output.write(
            net,
            out,
            source=source,
            step="finetune",
            options=options,
            seed=job.recipe.seed,
            report=report,
            overwrite=overwrite or resume,
            processor=processor,
        )
