"""The licence of a model, which goes with everything that is made of it."""

from __future__ import annotations

import re

from acn_compress.checkpoint.source import Source

CARD = "README.md"
MOST = 1 << 16  # characters of a card that are read: the header stands at its top
# in the Hub's header, between two lines of dashes
HEADER = re.compile(r"\s*---\n(.*?)\n---", re.DOTALL)
LICENCE = re.compile(r"^license:[ \t]*[\"']?([\w.+-]+)[\"']?[ \t]*$", re.MULTILINE)


def licence(source: Source | None) -> str | None:
    """The licence that the card of a source names, by the Hub's short name ("apache-2.0"); None if
    it names none."""
    if source is None or source.loose:
        return None
    try:
        with (source.directory / CARD).open(encoding="utf-8", errors="replace") as file:
            header = HEADER.match(file.read(MOST))
    except OSError:
        return None
    found = LICENCE.search(header[1]) if header else None
    return found[1] if found else None
