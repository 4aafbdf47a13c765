"""The original of a chain, where it can still be had as it was."""

from __future__ import annotations

from acn_compress.checkpoint.find import find_again
from acn_compress.checkpoint.provenance import history
from acn_compress.checkpoint.source import Source


def find_original(source: Source) -> Source | None:
    """The original that led to a source: what the first step that did more than prepare began with.
    It is the source itself if there was no such step, and None if what lies at the recorded place
    (or beside the source) has other weights.

    Raises:
        ModelDirError: for a provenance.json that is not ours.
    """
    first = history(source).first
    if first is None or first.source is None:
        return source
    config = first.options.get("config")
    beside = source.directory.resolve().parent
    for found in find_again(first.source.name, beside, config if isinstance(config, str) else None):
        if found.sha256() == first.source.weights_sha256:
            return found
    return None
