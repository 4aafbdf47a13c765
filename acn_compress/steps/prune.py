"""prune: by one of the methods of `compression.prune`; trained back, or while it is trained,
distilling from the unpruned source."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from acn_compress.checkpoint.directory import check_out
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.scratch import scratch
from acn_compress.checkpoint.source import Source
from acn_compress.checkpoint.vocabulary import Vocabulary
from acn_compress.checkpoint.write import write
from acn_compress.compression.calibration import ROWS
from acn_compress.compression.prune import METHODS, Aim, Pruning
from acn_compress.compression.vocabulary import narrow_, nothing_else
from acn_compress.data.load import Columns, Data, token_counts
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
    with training as state, scratch() as place:
        return _run(out, how, source, place, state, progress)


def _run(
    out: PathSpec,
    how: Prune,
    source: Source,
    place: Path,
    state: Kept | None,
    progress: Progress | None,
) -> PruneReport:
    net = load_source(source, device=find_device(how.device))
    original = _original(net, how)
    own, cut = _narrowed(net, source, how, place)
    teacher = net.copy() if cut and how.trains else original
    of_original = source if cut else None
    pruning = nothing_else(net, cut) if cut and how.only_vocabulary else _begun(net, own, how)
    report: dict[str, object] = {}
    if how.trains:
        from acn_compress.training.trainer import learning_rate  # takes seconds

        report = run_job(
            net,
            own,
            how.changed(lr=learning_rate(net, how.lr, pruning.refitted)),
            teacher=teacher,
            reference=original,
            hook=pruning.hook,
            state=state,
            progress=progress,
            untrained="pruned" if pruning.hook is None else None,
            of_reference=of_original,
            before_of=source,
        )
    pruned = pruning.finish_()
    if original is not None and not how.trains:
        report = measure_job(net, own, how, original, of_original, source)
    found = pruned.model_dump(exclude_none=True)
    if cut is not None:
        found |= {"vocabulary": cut, "parameters_before": cut.parameters_before}
    return write(
        net,
        out,
        source=source,
        step=how.verb,
        options=how.plain(),
        report={**found, **report},
        seed=how.seed if how.trains else None,
        overwrite=how.overwrite or how.resume,
        kind=PruneReport,
        files=own,
    )


def _original(net: Network, how: Prune) -> Network | None:
    """The network as it came, where it is measured; held a second time only if it is written to."""
    if how.data is None:
        return None
    written = how.trains or how.vocabulary is not None or not METHODS[how.method].replaces
    return net.copy() if written else net.twin()


def _narrowed(
    net: Network, source: Source, how: Prune, place: Path
) -> tuple[Source, Vocabulary | None]:
    """The network with the vocabulary that was asked for, and the source of its tokenizer."""
    if how.vocabulary is None:
        return source, None
    name, counts = token_counts(how.vocabulary, net, source, Columns.of(how), how.max_length)
    return narrow_(net, source, counts, name, how.min_count, place)


def _begun(net: Network, source: Source, how: Prune) -> Pruning:
    """The pruning of heads, features or weights."""
    aim = Aim(
        how.share,
        how.scope,
        how.score,
        _examples(how, net, source),
        how.pattern,
        how.seed,
        how.refit,
        how.uniform,
        how.round_to,
    )
    return METHODS[how.method].begin_(net, aim)


def _examples(how: Prune, net: Network, source: Source) -> Data | None:
    """What a method looks at, if it does: some of the data that is trained on."""
    if not METHODS[how.method].looks_at_data or how.data is None:
        return None
    few = min(ROWS, how.limit or ROWS)
    looked_at = how.changed(limit=few, augment=None)
    return training_split(looked_at, net, source, seed=how.seed)
