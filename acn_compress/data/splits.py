"""What a step trains on and what it measures on, as its options name them."""

from __future__ import annotations

from typing import NamedTuple

from acn_compress.checkpoint.source import Source
from acn_compress.data.load import Columns, Data, has_eval_split, load_data
from acn_compress.data.part import evenly, shares
from acn_compress.data.places import eval_splits
from acn_compress.errors import DataError
from acn_compress.network.network import Network
from acn_compress.options import DataSet, Trained


def training_split(
    how: Trained,
    net: Network,
    source: Source | None,
    reference: Network | None = None,
    *,
    answered: bool = False,
    seed: int = 0,
) -> Data:
    """The prepared training examples; `reference`, `answered` and `seed` as in `load_data`."""
    return load_data(
        how.data,
        net,
        source,
        role="train",
        columns=Columns.of(how),
        limit=how.limit,
        augment=how.augment,
        max_length=how.max_length,
        reference=reference,
        answered=answered,
        seed=seed,
    )


def eval_split(
    how: Trained, net: Network, source: Source | None, reference: Network | None = None
) -> Data | None:
    """The prepared examples to measure on, or None if there are none but those trained on."""
    spec = how.eval_data or (how.data if has_eval_split(how.data) else None)
    if spec is None:
        return None
    return _measured_on(spec, how, net, source, how.eval_limit, reference=reference)


def _measured_on(
    spec: DataSet,
    how: Trained,
    net: Network,
    source: Source | None,
    limit: int | None,
    *,
    reference: Network | None = None,
    answered: bool = False,
) -> Data:
    return load_data(
        spec,
        net,
        source,
        role="eval",
        columns=Columns.of(how),
        limit=limit,
        max_length=how.max_length,
        reference=reference,
        answered=answered,
    )


DECIDING = 2048  # rows on which candidates are compared, at most
FEWEST = 40  # rows that are split for deciding and reporting, at least
SPLIT = "rows that decide and rows that are reported were drawn apart from seed {}"


class Held(NamedTuple):
    """Rows for three purposes; none serves two.

    Args:
        training: to look at, and to train on.
        deciding: on which a choice is made.
        reported: on which what was chosen is measured.
        note: how they were told apart, where that is no split of the data; None where it is.
    """

    training: Data
    deciding: Data
    reported: Data
    note: str | None


def held_apart(how: Trained, net: Network, source: Source | None, *, answered: bool = True) -> Held:
    """Training, deciding and reported rows: train, validation and test split where all are there.
    Where one of the last two is missing the other is halved, where both are, a fifth of the rows
    is taken for each. Without labels the answers of `net` stand for them if `answered`.

    Raises:
        DataError: if there are too few rows to hold some apart, or no labels.
    """

    def read(spec: DataSet, limit: int | None) -> Data:
        return _measured_on(spec, how, net, source, limit, answered=answered)

    specs = _apart(how)
    looked_at = how if specs else how.changed(limit=None)
    training = training_split(looked_at, net, source, answered=answered, seed=how.seed)
    if len(specs) > 1:
        deciding = read(specs[0], min(how.eval_limit or DECIDING, DECIDING))
        return Held(training, deciding, read(specs[1], how.eval_limit), None)
    note = SPLIT.format(how.seed)
    if specs:
        deciding, reported = shares(_enough(read(specs[0], how.eval_limit)), (0.5, 0.5), how.seed)
    else:
        rest = (0.6, 0.2, 0.2)
        training, deciding, reported = shares(_enough(training), rest, how.seed)
        training = training if how.limit is None else evenly(training, how.limit)
    return Held(training, deciding, reported, note)


def reported_split(
    how: Trained, net: Network, source: Source | None, reference: Network | None = None
) -> Data:
    """The reported rows of `held_apart` alone, of data that have rows to measure on."""
    *deciding, spec = _apart(how)
    data = _measured_on(spec, how, net, source, how.eval_limit, reference=reference)
    return data if deciding else shares(_enough(data), (0.5, 0.5), how.seed)[1]


def _apart(how: Trained) -> list[DataSet]:
    """What there is beside the rows to train on: to decide on and to report on, or one for
    both."""
    own = eval_splits(how.data)
    named = [how.eval_data] if how.eval_data is not None else []
    return [*(own[:1] if named else own[:2]), *named]


def _enough(data: Data) -> Data:
    if len(data) >= FEWEST:
        return data
    blocks = data.task is not None and data.task.one_way  # of several texts or of a part of one
    raise DataError(
        f"data {data.name} has {len(data)} {'blocks of tokens' if blocks else 'rows'}, too few to "
        f"decide on some and report on others. Expected {FEWEST}, "
        + ("a smaller --max-length, " if blocks else "")
        + "or --eval-data with rows of its own."
    )
