"""The original of a chain on the rows that a step measures on, so that what every step made is
compared with what the first one began with: the drops of several steps do not add up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acn_compress import memory
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.original import find_original
from acn_compress.errors import AcnError, ConfigError, ModelDirError
from acn_compress.measure.quality import Scores, measure, paired
from acn_compress.options import Reference
from acn_compress.quality import Below

if TYPE_CHECKING:
    from acn_compress.checkpoint.source import Source
    from acn_compress.data.load import Data, Noise
    from acn_compress.network.network import Network

Read = Callable[["Network", "Source"], "Data | None"]  # the rows, for a network and its tokenizer


@dataclass(frozen=True)
class Original:
    """The original, scored.

    Args:
        name: where it lies.
    """

    name: str
    scores: Scores

    @classmethod
    def of(
        cls,
        source: Source | None,
        data: Data,
        read: Read,
        *,
        known: Source | None = None,
        scores: Scores | None = None,
        net: Network | None = None,
        batch_size: int = 256,
        noise: Noise | None = None,
    ) -> Original | None:
        """The original of `source` on `data`; None where there is none, or it cannot be had as it
        was, or it does something else than the task, or there is no memory for it beside `net`.

        Args:
            read: the same rows for another network.
            known: a model that has been scored already,
            scores: and what it scored; None: it is no original of its own.
            net: on whose device the original runs.
            noise: that it is measured under.
        """
        found = None
        with suppress(ModelDirError):  # a provenance.json that is not ours says nothing
            found = None if source is None else find_original(source)
        if found is None:
            return None
        if known is not None and found.is_same(known):
            return None if scores is None else cls(known.name, scores)
        if data.task.taught:  # the labels are the answers of another network
            return None
        with memory.doing_without():
            try:
                whole = load_source(found, device="cpu" if net is None else net.device)
                rows = read(whole, found)
            except AcnError:
                return None
            if whole.fresh_head or rows is None or rows.task.name != data.task.name:
                return None
            return cls(found.name, measure(whole, rows, batch_size=batch_size, noise=noise))
        return None

    def below(self, after: Scores) -> Below | None:
        """How far a model lies below it on the same rows; None where it reads other examples out of
        them."""
        if len(after.score) != len(self.scores.score):
            return None
        return Below(name=self.name, drop=paired(after, self.scores))


def held_to(
    found: Original | None, against: Reference | None, scores: Scores, source: Source, data: Data
) -> Original | None:
    """What drops are from: the original, where it was found and reads the same rows; None is the
    source, where that is asked for or there is nothing else.

    Args:
        against: what was asked for.
        scores: of the source.
    Raises:
        ConfigError: if the original was asked for and there is none.
    """
    if against != "source" and found is not None and found.below(scores) is not None:
        return found
    if against == "original":
        raise no_original(source.name, data.name)
    return None


def no_original(source: str, where: str) -> ConfigError:
    """Why nothing can be held to the original of `source`."""
    return ConfigError(
        f"{source}: its original was not found, or cannot be measured on {where}. provenance.json "
        "says what it was: put it beside the source, with the weights it had (and run profile "
        "again, if its figures are to decide), or leave against out."
    )
