"""What every export target is: what it writes, which options it takes, how it is verified."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from acn_compress.checkpoint.files import size
from acn_compress.checkpoint.original import Again
from acn_compress.checkpoint.source import Source
from acn_compress.data.load import Data
from acn_compress.errors import ConfigError
from acn_compress.found import Found
from acn_compress.measure.original import Read
from acn_compress.network.network import Network
from acn_compress.options import Export
from acn_compress.quality import NOT_MEASURED, Outcome
from acn_compress.reports.base import LOOK, Report, follows
from acn_compress.reports.blocks import Command


class Exported(Report):
    """What every export reports; a target adds its own, and its card."""

    source: str
    """What the user called it."""
    out: str
    """The directory."""
    format: str
    """The target."""
    seconds: float
    """Of loading, writing and comparing."""
    unmeasured: str | None = None
    """What is said of data that was given, where the target measures nothing on it."""
    outcome: Outcome | None = None
    """What became of the quality: measured of what was written, or that of the source, whose
    answers it gives."""

    again: Again | None = None
    """With what it can be measured."""

    def brief(self) -> str:
        """Its format, how far it is from the source, and what became of the quality."""
        told = [self.format]
        if (written := self.get("bytes")) is not None:
            told[0] += f", {size(written)}"
        if (worst := self.get("max_difference")) is not None:
            told[0] += f", differs from torch by at most {worst:.0e}"
        return f"{told[0]}; quality: {self.outcome or NOT_MEASURED}"

    def same(self) -> str:
        """What is told of the quality where it was not measured of what was written."""
        if self.outcome is None:
            return f"{NOT_MEASURED}, as that of {self.source}, whose answers it gives, was not"
        return f"that of {self.source}, as its answers are the same: {self.outcome}"

    def measuring(self, what: str) -> Iterator[Command]:
        """What to do next where the quality was never measured: `what` has the same."""
        if self.outcome is None:
            yield follows(LOOK, what, self.source, self.again)

    def card(
        self,
        net: Network,
        provenance: dict[str, object],
        inherited: Mapping[str, object],
        directory: Path,
    ) -> str:
        """The model card, Markdown, of what was written into a directory. `inherited` is what the
        source's card hands on."""
        raise NotImplementedError


@dataclass(frozen=True)
class Rows:
    """Rows of the user's data for two purposes; none serves both.

    Args:
        measured: on which what was written is measured.
        read: the former, for another network.
        calibration: that static quantisation looks at; None where it is not asked for.
    """

    measured: Data
    read: Read
    calibration: Data | None = None

    @property
    def calibrated_on(self) -> str | None:
        """What the latter are, for people."""
        seen = self.calibration
        return None if seen is None else f"{seen.name}, n = {len(seen):,}"


class Target(Protocol):
    """A format to export to. It is found by its name in `TARGETS`, and asked in this order."""

    writes: str
    """What lies in the directory afterwards, in a few words."""
    files: tuple[str, ...]
    """Patterns (`fnmatch`) of those that hold the model, by their paths within the directory."""
    measures: bool
    """It measures what it writes on data, where there is some."""
    takes: Mapping[str, str]
    """Options of `Export` that mean something here alone, with what limits them."""
    verified: str
    """What is proven before the directory appears, in one sentence."""
    report: type[Exported]
    """What its export reports: `Exported`, and what `write` found."""

    def check(self, net: Network, source: Source, how: Export) -> None:
        """Refuse, before anything is written, what this network cannot be exported with."""

    def write(
        self, net: Network, source: Source, directory: Path, how: Export, rows: Rows | None = None
    ) -> Found:
        """Write all files but report, provenance and card into an empty directory, and prove them.
        May empty the network.

        Raises:
            VerificationError: if what was written is not the network.
        """


def check_taken(how: Export, targets: Mapping[str, Target]) -> None:
    """Refuse options that mean nothing for the target.

    Raises:
        ConfigError: naming the targets that take the option.
    """
    for name in sorted({option for target in targets.values() for option in target.takes}):
        default = type(how).model_fields[name].default
        if name in targets[how.format].takes or getattr(how, name) == default:
            continue
        able = {n: target.takes[name] for n, target in targets.items() if name in target.takes}
        limits = " or ".join(f"{target}{limit}" for target, limit in able.items())
        raise ConfigError(f"{name} only works with format {limits}.")
