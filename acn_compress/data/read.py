"""What was read of data: a report, so that a user sees which split, columns, labels and rows it was
and what became of them."""

from __future__ import annotations

from pydantic import Field

from acn_compress.found import Found

SHOWN = 10  # labels in a line
FEW = 3  # labels in a line of a screen


class Lengths(Found):
    """Texts in tokens."""

    limit: int
    """Most tokens of a text; longer ones are cut, or read in windows."""
    longest: int
    """Of the texts as they are read."""
    mean: float
    """Of the texts as they are read."""
    cut: int
    """Texts of which the end was not read."""
    windows: int | None = None
    """Where long texts are read in parts: how many parts of all texts."""

    def __str__(self) -> str:
        parts = "" if self.windows is None else f", read in {self.windows} windows"
        cut = f", {self.cut} cut at {self.limit}" if self.cut else ""
        return f"texts of up to {self.longest} tokens, {self.mean:.0f} on average{parts}{cut}"


class Clips(Found):
    """Clips as the model hears them."""

    rate: int
    """Samples per second."""
    longest: float
    """In seconds."""
    mean: float
    """In seconds."""
    resampled: int
    """Clips that were recorded at another rate."""
    stereo: int
    """Clips of two channels, of which the mean is heard."""

    def __str__(self) -> str:
        other = f", {self.resampled} resampled" if self.resampled else ""
        mixed = f", {self.stereo} of two channels (their mean is heard)" if self.stereo else ""
        return (
            f"clips of up to {self.longest:.3g} s, {self.mean:.3g} on average, at "
            f"{self.rate:,} Hz{other}{mixed}"
        )


class Read(Found):
    """What was read of data."""

    data: str
    """What the user called it, with the split."""
    split: str
    """Its name."""
    rows: int
    """Rows of the split."""
    used: int
    """Rows that were read; fewer where a limit drew a sample."""
    examples: int
    """Examples made of them."""
    columns: dict[str, str]
    """By what it holds: text, image, label."""
    labels: dict[str, str] | None = None
    """Every class that occurs in the data, and the model's name of it."""
    matched: str | None = None
    """How: by name, by case (a name that differs in case alone), or by number."""
    missing: list[str] | None = None
    """The model's classes that no row has."""
    lengths: Lengths | None = None
    """Of texts."""
    size: list[int] | None = None
    """Of images as the model gets them: height, width."""
    clips: Clips | None = None
    """Of clips."""
    notes: list[str] = Field(default_factory=list)
    """What one should know about it, a sentence each."""

    def __str__(self) -> str:
        return "; ".join(self.lines())

    def brief(self) -> list[str]:
        """It for a screen: one line of what was read, one of what became of it, and what one should
        know."""
        columns = ", ".join(f"{kind} from {column}" for kind, column in self.columns.items())
        made = "" if self.examples == self.used else f", {self.examples:,} examples"
        first = f"split {self.split}: {self.used:,} of {self.rows:,} rows{made}; {columns}"
        parts = [self._matching(), self._sizes()]
        told = [first, "; ".join(p for p in parts if p), *self.notes]
        return [text for text in told if text]

    def _matching(self) -> str:
        """How labels became the model's classes; names that are the same need no list."""
        if self.labels is None:
            return ""
        other = [f"{ours} = {theirs}" for ours, theirs in self.labels.items() if ours != theirs]
        more = ", ..." if len(other) > FEW else ""
        pairs = f" ({', '.join(other[:FEW])}{more})" if other else ""
        count = "1 label" if len(self.labels) == 1 else f"{len(self.labels)} labels"
        return f"{count} by {self.matched}{pairs}"

    def _sizes(self) -> str:
        """Of images, clips or texts."""
        if self.clips is not None:
            return str(self.clips)
        if self.size is not None:
            return f"images of {self.size[0]} x {self.size[1]}"
        return "" if self.lengths is None else str(self.lengths)

    def lines(self) -> list[str]:
        """It in a few lines: rows and columns, labels, sizes, and what one should know."""
        columns = ", ".join(f"{kind} from '{column}'" for kind, column in self.columns.items())
        found = [f"{self.data}: {self.used} of {self.rows} rows, {columns}"]
        if self.labels is not None:
            pairs = [f"{ours} = {theirs}" for ours, theirs in self.labels.items()]
            more = f", and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
            found.append(f"labels by {self.matched}: {', '.join(pairs[:SHOWN])}{more}")
        if self.size is not None:
            found.append(f"images of {self.size[0]} x {self.size[1]}")
        found += [str(sizes) for sizes in (self.lengths, self.clips) if sizes is not None]
        return found + self.notes
