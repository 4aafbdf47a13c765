"""prune: by one of the methods of `compression.prune`; trained back, or while it is trained, distilling from the unpruned source."""

from __future__ import annotations

from acn_compress.checkpoint.directory import check_out, find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.write import write
from acn_compress.compression.prune import METHODS, Aim
from acn_compress.network.device import find_device
from acn_compress.options import ModelSpec, PathSpec, Prune
from acn_compress.reports.made import PruneReport
from acn_compress.reports.progress import Progress
from acn_compress.training.fit import state_directory
from acn_compress.training.job import measure_job, run_job


def run(src: ModelSpec, out: PathSpec, how: Prune, progress: Progress | None = None) -> PruneReport:
    """Prune a model; with data and epochs train it back, with data alone measure it."""
    method, replace = METHODS[how.method], how.overwrite or how.resume
    method.check_training(how.trains, "Give both, or choose magnitude.")
    source = find_source(src, config=how.config)
    check_out(out, source=source, overwrite=replace)
    net = load_source(source, device=find_device(how.device))
    whole = net.copy() if how.data is not None else None
    pruning = method.begin_(net, Aim(how.target_sparsity, how.scope))
    report: dict[str, object] = {}
    if how.trains:
        report = run_job(
            net,
            source,
            how,
            teacher=whole,
            reference=whole,
            hook=pruning.hook,
            state=state_directory(out),
            resume=how.resume,
            progress=progress,
        )
    pruned = pruning.finish_()
    if whole is not None and not how.trains:
        report = measure_job(net, source, how, whole)
    return write(
        net,
        out,
        source=source,
        step=how.verb,
        options=how.plain(),
        report={**pruned.model_dump(exclude_none=True), **report},
        seed=how.seed if how.trains else None,
        overwrite=replace,
        kind=PruneReport,
    )
