"""compress: the best model under a budget.

The latency of the network's parts is measured, candidates are searched and measured without
training, the one that keeps the user's limits is taken (`choose`), trained back if that is asked
for (`finish`), and exported (`deliver`). Rows that decide are not the rows that are reported.
Beside it stands the plain baseline: the last blocks dropped, as fast, with the same training.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from acn_compress.checkpoint.directory import check_out
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.original import find_original
from acn_compress.checkpoint.processors import content_sha256
from acn_compress.checkpoint.source import Source
from acn_compress.compression.notes import Notes
from acn_compress.data.places import fingerprint
from acn_compress.data.splits import held_apart
from acn_compress.errors import ConfigError, Interrupted
from acn_compress.events import Progress
from acn_compress.measure.intervals import check_shown
from acn_compress.network.device import find_device
from acn_compress.options import Compress, ModelSpec, PathSpec
from acn_compress.reports.compressed import Compressed
from acn_compress.steps.compress.choose import limits_of, tries
from acn_compress.steps.compress.deliver import deliver
from acn_compress.steps.compress.finish import Finishing
from acn_compress.steps.compress.job import Job, looked_at
from acn_compress.training.interrupt import as_signal, exit_code, number_of


def run(
    src: ModelSpec, out: PathSpec, how: Compress, progress: Progress | None = None
) -> Compressed:
    """Compress a checkpoint within the limits that were given."""
    source = find_source(src, config=how.config)
    check_out(out, source=source, overwrite=how.overwrite or how.resume)
    whole = load_source(source, device=find_device(how.device))
    rows = held_apart(looked_at(how), whole, source)
    if how.max_drop is not None and how.bound == "upper" and rows.deciding.task.counted:
        check_shown(how.max_drop, min(len(rows.deciding), len(rows.reported)))
    notes = Notes.open(out, _depends(how, source), how.resume)
    with _going_on(notes), ExitStack() as trainings:
        job = Job(source, how, Path(out), whole, rows, notes, progress)
        report = _made(job, Finishing(job, trainings))
    notes.remove()
    return report


def _made(job: Job, finishing: Finishing) -> Compressed:
    began = time.perf_counter()
    try:
        limits = limits_of(job)
    except ConfigError:  # no candidate is as small: there is nothing to go on to
        job.notes.remove()
        raise
    job.frontier.explore()
    done = finishing.finish(tries(job, limits), limits)
    return deliver(job, done, finishing.baseline(done), limits, began)


def _depends(how: Compress, source: Source) -> dict[str, object]:
    """What the figures depend on."""
    options = how.changed(overwrite=False, resume=False).plain()
    first = find_original(source) if how.max_drop is not None else None  # drops may be from it
    data = [fingerprint(d) for d in (how.data, how.eval_data) if d is not None]
    return {
        "options": options,
        "source": content_sha256(source),
        "original": first and first.sha256(),
        "data": data,
    }


@contextmanager
def _going_on(notes: Notes) -> Iterator[None]:
    """A signal says how to go on."""
    try:
        with as_signal():
            yield
    except KeyboardInterrupt as stopped:
        said = f"interrupted; what was measured is in {notes.path}. "
        said += "Run the same command with --resume to go on."
        raise Interrupted(said, exit_code(number_of(stopped))) from None
