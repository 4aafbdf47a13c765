"""What a model's card says that goes with everything that is made of it: the licence, the data, and
the model that it all began with."""

from __future__ import annotations

import re
from typing import Any

from acn_compress.checkpoint.source import Source

CARD = "README.md"
MOST = 1 << 16  # characters of a card that are read: the header stands at its top
# in the Hub's header, between two lines of dashes
HEADER = re.compile(r"\s*---\n(.*?)\n---", re.DOTALL)
LICENCE = re.compile(r"^license:[ \t]*[\"']?([\w.+-]+)[\"']?[ \t]*$", re.MULTILINE)
INHERITED = ("license", "license_name", "license_link", "language", "datasets", "base_model")


def licence(source: Source | None) -> str | None:
    """The licence that the card of a source names, by the Hub's short name ("apache-2.0"); None if
    it names none."""
    found = LICENCE.search(_header(source))
    return found[1] if found else None


def inherited(source: Source | None) -> dict[str, Any]:
    """What the card of a source hands on, by the Hub's names; a source from the Hub is the base
    itself."""
    import yaml

    try:
        header = yaml.safe_load(_header(source))
    except yaml.YAMLError:  # somebody else's, and nothing hangs on it but what the line below reads
        header = {}
    found = {} if not isinstance(header, dict) else {k: header.get(k) for k in INHERITED}
    found["license"] = licence(source)
    if source is not None and source.directory.parent.name == "snapshots":
        found["base_model"] = source.name.partition("@")[0]
    return {k: v for k, v in found.items() if _named(v)}


def _named(value: object) -> bool:
    """Whether a field holds a name, or several."""
    several = value if isinstance(value, list) else [value]
    return bool(several) and all(isinstance(name, str) and name for name in several)


def _header(source: Source | None) -> str:
    if source is None or source.loose:
        return ""
    try:
        with (source.directory / CARD).open(encoding="utf-8", errors="replace") as file:
            header = HEADER.match(file.read(MOST))
    except OSError:
        return ""
    return header[1] if header else ""
