"""prune: by one of the methods of `compression.prune`; trained back, or while it is trained,
distilling from the unpruned source."""

from __future__ import annotations

from contextlib import nullcontext

from acn_compress.checkpoint.directory import check_out
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.source import Source
from acn_compress.checkpoint.write import write
from acn_compress.compression.calibration import ROWS
from acn_compress.compression.prune import METHODS, Aim
from acn_compress.data.load import Data
from acn_compress.data.splits import training_split
from acn_compress.events import Progress
from acn_compress.network.device import find_device
from acn_compress.network.network import Network
from acn_compress.options import ModelSpec, PathSpec, Prune
from acn_compress.reports.made import PruneReport
from acn_compress.training.job import measure_job, run_job
from acn_compress.training.state import Kept, kept


def run(src: ModelSpec, out: PathSpec, how: Prune, progress: Progress | None = None) -> PruneReport:
    """Prune a model; with data and epochs train it back, with data alone measure it."""
    method = METHODS[how.method]
    method.check_training(how.trains, "Give both, or choose magnitude.")
    source = find_source(src, config=how.config)
    check_out(out, source=source, overwrite=how.overwrite or how.resume)
    training = kept(out, source, how) if how.trains else nullcontext()
    with training as state:
        return _run(out, how, source, state, progress)


def _run(
    out: PathSpec, how: Prune, source: Source, state: Kept | None, progress: Progress | None
) -> PruneReport:
    method = METHODS[how.method]
    net = load_source(source, device=find_device(how.device))
    whole = net.copy() if how.data is not None else None
    examples = _examples(how, net, source)
    aim = Aim(
        how.share,
        how.scope,
        how.score,
        examples,
        how.pattern,
        how.seed,
        how.refit,
        how.uniform,
        how.round_to,
    )
    pruning = method.begin_(net, aim)
    report: dict[str, object] = {}
    if how.trains:
        report = run_job(
            net,
            source,
            how,
            teacher=whole,
            reference=whole,
            hook=pruning.hook,
            state=state,
            progress=progress,
            untrained="pruned" if pruning.hook is None else None,
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
        overwrite=how.overwrite or how.resume,
        kind=PruneReport,
    )


def _examples(how: Prune, net: Network, source: Source) -> Data | None:
    """What a method looks at, if it does: some of the data that is trained on."""
    if not METHODS[how.method].looks_at_data or how.data is None:
        return None
    few = min(ROWS, how.limit or ROWS)
    return training_split(how.changed(limit=few, augment=None), net, source)
