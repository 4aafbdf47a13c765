"""The original of a chain, where it can still be had as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from acn_compress.checkpoint.find import find_again
from acn_compress.checkpoint.provenance import history
from acn_compress.checkpoint.source import Source
from acn_compress.found import Found


class Again(Found):
    """With what the quality of something can be measured, as far as that is known."""

    data: str | None = None
    """That the steps so far trained or measured on, where it can still be had."""
    original: str | None = None
    """What the first of them began with, likewise."""

    @classmethod
    def of(cls, source: Source) -> Again:
        """What is made of a source."""
        original = find_original(source)
        steps = reversed(history(source).steps)
        named = (str(d).rsplit(":", 1)[0] for s in steps if (d := _measured_on(s.options)))
        return cls(
            data=next((name for name in named if _is_there(name)), None),
            original=None if original is None else original.name,
        )


def _measured_on(options: Mapping[str, object]) -> object:
    """Of a step, the data that it measured on."""
    return options.get("eval_data") or options.get("data")


def _is_there(data: str) -> bool:
    """Whether data can be found under a name that was published: paths are cut down in those."""
    place = Path(data).expanduser()
    return data == "digits" or place.exists() or (data.count("/") == 1 and not place.suffix)


_at_hand: ContextVar[tuple[str, ...]] = ContextVar("at_hand", default=())


@contextmanager
def at_hand(*places: str) -> Iterator[None]:
    """Inside, what lies at these places may be an original, too: provenance.json says what it was
    and not where on a machine, which a run knows."""
    before = _at_hand.set(places)
    try:
        yield
    finally:
        _at_hand.reset(before)


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
    for name in (first.source.name, *_at_hand.get()):
        for found in find_again(name, beside, config if isinstance(config, str) else None):
            if found.sha256() == first.source.weights_sha256:
                return found
    return None
