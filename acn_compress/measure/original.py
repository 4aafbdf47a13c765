"""The original of a chain on the rows that a step measures on, so that what every step made is
compared with what the first one began with: the drops of several steps do not add up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.original import find_original
from acn_compress.errors import AcnError, ConfigError
from acn_compress.measure.quality import Scores, measure, paired
from acn_compress.quality import Below

if TYPE_CHECKING:
    from acn_compress.checkpoint.source import Source
    from acn_compress.data.load import Data
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
    ) -> Original | None:
        """The original of `source` on `data`; None where there is none, or it cannot be had as it
        was, or it does something else than the task.

        Args:
            read: the same rows for another network.
            known: a model that has been scored already,
            scores: and what it scored.
            net: on whose device the original runs.
        """
        found = None if source is None else find_original(source)
        if found is None:
            return None
        if known is not None and scores is not None and found.is_same(known):
            return cls(known.name, scores)
        if data.task.taught:  # the labels are the answers of another network
            return None
        try:
            whole = load_source(found, device="cpu" if net is None else net.device)
            rows = read(whole, found)
        except AcnError:
            return None
        if whole.fresh_head or rows is None or rows.task.name != data.task.name:
            return None
        return cls(found.name, measure(whole, rows, batch_size=batch_size))

    @classmethod
    def needed(cls, source: Source, data: Data, read: Read, net: Network) -> Original:
        """The original of `source` on `data`, as drops have to be from it.

        Args:
            read: the same rows for another network.
            net: `source` itself.
        Raises:
            ConfigError: if it cannot be had as it was, or does something else.
        """
        scores = measure(net, data)
        found = cls.of(source, data, read, known=source, scores=scores, net=net)
        if found is None or found.below(scores) is None:
            raise ConfigError(
                f"{source.name}: its original is not on this machine as it was, or cannot be "
                f"measured on {data.name}. provenance.json says what it was and where it lay: put "
                "it back, or leave against out."
            )
        return found

    def below(self, after: Scores) -> Below | None:
        """How far a model lies below it on the same rows; None where it reads other examples out of
        them."""
        if len(after.score) != len(self.scores.score):
            return None
        return Below(name=self.name, drop=paired(after, self.scores))
