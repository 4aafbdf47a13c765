"""convert: walk alpha from 1 towards 0 while distilling from the unchanged source."""

from __future__ import annotations

from acn_compress.checkpoint.directory import check_out
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.write import write
from acn_compress.compression.start import cut_
from acn_compress.errors import ConfigError
from acn_compress.events import Progress
from acn_compress.form import layers_in_a_block
from acn_compress.network.device import find_device
from acn_compress.network.network import Network
from acn_compress.options import Convert, ModelSpec, PathSpec
from acn_compress.reports.made import Converted
from acn_compress.steps.scratch import from_scratch
from acn_compress.tasks import task_of
from acn_compress.training.job import begins_as, run_job
from acn_compress.training.state import kept
from acn_compress.training.teacher import load_teacher
from acn_compress.training.walk import Walk


def run(src: ModelSpec, out: PathSpec, how: Convert, progress: Progress | None = None) -> Converted:
    """Convert a trained checkpoint to ACN (or hybrid) form."""
    if how.scratch:
        return from_scratch(src, out, how, how.alpha_end, Converted, progress)
    replace = how.overwrite or how.resume
    source, device = find_source(src, config=how.config), find_device(how.device)
    check_out(out, source=source, overwrite=replace)
    with kept(out, source, how) as training:
        net = load_source(source, task=how.task, device=device)
        taught_by = source if how.teacher is None else find_source(how.teacher)
        teacher = load_teacher(taught_by, net, source, task=how.task)
        check_teacher(teacher, how)
        itself = taught_by.is_same(source)
        structure = net.structure
        if structure.layer != how.layer and structure.form != "residual":
            raise ConfigError(
                f"{source.name} is in {structure.form} form with layer '{structure.layer}'; "
                f"it cannot become layer '{how.layer}'."
            )
        chosen = 0.0
        if how.depth is not None:
            net.check_depth(how.depth, source.name)
            chosen = cut_(net, how.depth, how.keep, how, source, teacher, refitted=how.refit)
        report = run_job(
            net,
            source,
            how,
            teacher=teacher,
            reference=teacher if itself else None,
            **begins_as(source, how.depth, itself),
            walk=_walk(net, how),
            state=training,
            progress=progress,
        )
        alpha = net.structure.alpha
        return write(
            net,
            out,
            source=source,
            step=how.verb,
            options=how.plain(),
            report={**report, "choosing_flops": chosen, "alpha": alpha},
            seed=how.seed,
            overwrite=replace,
            kind=Converted,
        )


def check_teacher(teacher: Network, how: Convert) -> None:
    """Refuse a teacher whose head began at random; features reads no head."""
    if (note := teacher.fresh_head) and not task_of(teacher).taught:
        raise ConfigError(
            f"{note} It has nothing to teach: train it first with "
            f"acn-compress finetune --task {how.task}, then convert."
        )


def _walk(net: Network, how: Convert) -> Walk:
    n, start = net.depth * layers_in_a_block(how.layer), net.structure.alpha
    if len(start) != n:
        start = (start[0],) * n  # residual: every alpha is 1
    end = tuple(min(a, how.alpha_end) for a in start)
    return Walk(start, end, how.anneal, how.layer, how.learned, how.pull)
