"""finetune: the training engine with alpha left as it is; from a checkpoint, or from a config with
random weights."""

from __future__ import annotations

from dataclasses import replace

from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint.directory import check_out
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.write import write
from acn_compress.compression.start import cut_
from acn_compress.data.load import Columns, label_names
from acn_compress.events import Progress
from acn_compress.network.device import find_device
from acn_compress.options import Finetune, ModelSpec, PathSpec
from acn_compress.reports.made import Finetuned
from acn_compress.steps.scratch import from_scratch
from acn_compress.tasks import task_called
from acn_compress.training.job import begins_as, run_job
from acn_compress.training.state import kept
from acn_compress.training.teacher import load_teacher


def run(
    src: ModelSpec, out: PathSpec, how: Finetune, progress: Progress | None = None
) -> Finetuned:
    """Train a model in the form it has; zeros of a pruned model stay zeros."""
    if how.scratch:
        return from_scratch(src, out, how, how.alpha, Finetuned, progress)
    anew = how.overwrite or how.resume
    source, device = find_source(src, config=how.config), find_device(how.device)
    check_out(out, source=source, overwrite=anew)
    with kept(out, source, how) as training:
        checkpoint.seed_everything(how.seed)
        names = None
        if how.task is not None:
            names = label_names(how.data, Columns.of(how), task_called(how.task))
        net = checkpoint.load_source(source, task=how.task, labels=names, device=device)
        net = replace(net, named=names is not None)
        teacher, itself = None, False
        if how.teacher is not None:
            taught_by = find_source(how.teacher)
            teacher, itself = load_teacher(taught_by, net, source), taught_by.is_same(source)
        if how.depth is not None:
            net.check_depth(how.depth, source.name)
            cut_(net, how.depth, how.keep, how, source, teacher, refitted=how.refit)
        report = run_job(
            net,
            source,
            how,
            teacher=teacher,
            reference=teacher if itself else None,
            **begins_as(source, how.depth, itself),
            state=training,
            progress=progress,
        )
        return write(
            net,
            out,
            source=source,
            step=how.verb,
            options=how.plain(),
            report={"note": net.fresh_head, **report},
            seed=how.seed,
            overwrite=anew,
            kind=Finetuned,
        )
