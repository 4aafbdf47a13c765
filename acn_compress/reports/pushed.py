"""What push reports."""

from __future__ import annotations

from collections.abc import Iterator

from acn_compress.checkpoint.files import size
from acn_compress.checkpoint.push import Uploaded
from acn_compress.reports.base import Report
from acn_compress.reports.blocks import Block, Pairs


class Pushed(Report, Uploaded):
    """A directory on the Hub."""

    source: str
    """The directory."""

    def display(self) -> Iterator[Block]:
        """A list."""
        rows: list[tuple[str, object]] = [
            ("from", self.source),
            ("to", f"{self.url} ({'private' if self.private else 'public'})"),
            ("files", f"{len(self.files)}, {size(self.bytes)}"),
            ("left out", ", ".join(self.left_out) or None),
        ]
        yield Pairs(self.step, rows)
