"""A training as every step runs it: on data by name, with the quality before and after, paired on
the same examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from acn_compress.checkpoint.source import Source
from acn_compress.data.load import Data
from acn_compress.data.part import evenly
from acn_compress.data.splits import eval_split, training_split
from acn_compress.errors import ConfigError
from acn_compress.events import Progress
from acn_compress.measure.original import Original
from acn_compress.measure.quality import change, measure, paired, summary
from acn_compress.network.network import Network
from acn_compress.options import Trained
from acn_compress.tasks import task_of
from acn_compress.training.state import Kept
from acn_compress.training.teacher import check_lengths
from acn_compress.training.walk import Walk

if TYPE_CHECKING:
    from acn_compress.training.hooks import Hook

GLANCE = 1000  # examples measured once per epoch for the progress display


def run_job(
    net: Network,
    source: Source | None,
    how: Trained,
    *,
    teacher: Network | None = None,
    reference: Network | None = None,
    walk: Walk | None = None,
    hook: Hook | None = None,
    state: Kept | None = None,
    progress: Progress | None = None,
    untrained: str | None = None,
    of_reference: Source | None = None,
    against: str | None = None,
    before_of: Source | None = None,
) -> dict[str, object]:
    """Train `net` in place and measure it.

    Args:
        reference: the network that "before" means and that the drop is paired with; None measures
            `net` itself before training, and the teacher beside it.
        untrained: what to call the network that training begins from, where that is not the
            reference: its quality is reported under this name, its drop as NAME_drop.
        of_reference: where the reference's tokenizer lies, if it is not that of `source`.
        against: the name of what "before" means, if it is not `source`.
        before_of: the checkpoint whose quality "before" is; None if it is of none.
        (the others as in `training.fit`)
    Returns:
        data, examples, eval_data, what was read of both, training; and where there is data to
        measure on before, after and drop (see `quality.Change`), how far it lies below the
        original, and teacher, the quality of one that is not the reference.
    """
    from acn_compress.training.fit import fit  # takes seconds, and what does not train needs none

    if teacher is None and task_of(net).taught:
        raise ConfigError(
            "features has no labels: it needs a teacher, whose embeddings are learned. "
            "Pass --teacher, or --task for another head."
        )
    data = training_split(how, net, source, teacher)
    eval_data = eval_split(how, net, source, teacher)
    for given in (data, eval_data):
        if teacher is not None and given is not None:
            check_lengths(teacher, net, given)
    # answers at random: nobody's quality; the numbers of an embedding come from no head
    new_head = bool(reference is None and net.fresh and not data.task.taught)
    before = original = None
    if eval_data is not None:
        theirs = None
        if reference is not None and of_reference is not None:
            theirs = _own(eval_split(how, reference, of_reference), eval_data)
        before = measure(reference or net, theirs or eval_data)
        original = Original.of(
            None if new_head else of_reference or source,
            eval_data,
            lambda other, place: eval_split(how, other, place),
            known=before_of,
            scores=before,
            net=net,
        )
    other = teacher if reference is None and not data.task.taught else None
    taught = measure(other, eval_data) if other is not None and eval_data is not None else None
    begun = measure(net, eval_data) if untrained and eval_data is not None else None
    glance = eval_data and evenly(eval_data, GLANCE)
    result = fit(
        net,
        data,
        how,
        walk=walk,
        hook=hook,
        teacher=teacher,
        eval_data=glance,
        state=state,
        progress=progress,
    )
    report: dict[str, object] = {
        "data": data.name,
        "read": data.read,
        "examples": len(data),
        "eval_data": eval_data.name if eval_data else None,
        "eval_read": eval_data.read if eval_data else None,
        "training": result,
        "against": "itself with a new head, untrained" if new_head else against,
        "new_head": new_head,
    }
    if eval_data is None or before is None:
        return report
    if begun is not None:
        report |= {f"{untrained}": summary(begun, data.task)}
        report |= {f"{untrained}_drop": paired(begun, before)}
    if taught is not None:
        report |= {"teacher": summary(taught, data.task)}
    after = measure(net, eval_data)
    if begun is not None:
        report |= {"training_drop": paired(after, begun)}
    below = None if original is None else original.below(after)
    return report | dict(change(before, after, data.task)) | {"original": below}


class Beginning(TypedDict):
    """What `run_job` is told of what "before" is."""

    against: str | None
    before_of: Source | None


def begins_as(source: Source, depth: int | None, whole: bool) -> Beginning:
    """Of a training of `source`, cut to a depth or not; `whole`: before is what it was uncut."""
    if depth is None or whole:
        return {"against": None, "before_of": source}
    return {"against": f"itself cut to {depth} blocks, untrained", "before_of": None}


def measure_job(
    net: Network,
    source: Source | None,
    how: Trained,
    reference: Network,
    of_reference: Source | None = None,
    before_of: Source | None = None,
) -> dict[str, object]:
    """Measure `net` against `reference` on what a training measures on (its data itself, if that
    has one split), without training.

    Returns:
        data, what was read of it, before (the reference), after, drop, and how far it lies below
        the original.
    """
    itself = how.model_copy(update={"eval_data": how.data})

    def read(other: Network, place: Source | None, reference: Network | None = None) -> Data | None:
        return eval_split(how, other, place, reference) or eval_split(
            itself, other, place, reference
        )

    data = read(net, source, None if of_reference else reference)
    assert data is not None
    theirs = data if of_reference is None else _own(read(reference, of_reference), data)
    before, after = measure(reference, theirs), measure(net, data)
    original = Original.of(before_of, data, read, known=before_of, scores=before, net=net)
    below = None if original is None else original.below(after)
    found = dict(change(before, after, data.task)) | {"original": below}
    return {"data": data.name, "read": data.read, **found}


def _own(theirs: Data | None, data: Data) -> Data:
    """The same rows as another network's own tokenizer reads them; where its answers are the labels
    (features), they are those of `data` too."""
    assert theirs is not None
    if data.task.taught:
        data.examples.follow(theirs.examples)  # type: ignore[attr-defined]
    return theirs
