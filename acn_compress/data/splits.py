"""What a step trains on and what it measures on, as its options name them."""

from __future__ import annotations

from acn_compress.checkpoint.source import Source
from acn_compress.data.load import Columns, Data, has_eval_split, load_data
from acn_compress.network.network import Network
from acn_compress.options import Trained


def training_split(
    how: Trained, net: Network, source: Source | None, reference: Network | None = None
) -> Data:
    """The prepared training examples; `reference` as in `load_data`."""
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
    )


def eval_split(
    how: Trained, net: Network, source: Source | None, reference: Network | None = None
) -> Data | None:
    """The prepared examples to measure on, or None if there are none but those trained on."""
    spec = how.eval_data or (how.data if has_eval_split(how.data) else None)
    if spec is None:
        return None
    return load_data(
        spec,
        net,
        source,
        role="eval",
        columns=Columns.of(how),
        limit=how.eval_limit,
        max_length=how.max_length,
        reference=reference,
    )
