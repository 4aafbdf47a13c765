"""Names of version 0.1.0 that work for one release more."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from acn_compress.options import Options

log = logging.getLogger("acn_compress")


class Job(dict[str, object]):
    """Data and training options in one object: give them to the function by name instead."""

    def __init__(self, data: object, recipe: object = None, **options: object) -> None:
        note("Job goes with the next release: give its options to the function by name.")
        training: dict[str, object] = getattr(recipe, "given", dict)()
        super().__init__(data=data, **training, **options)


def current(cls: type[Options], given: Mapping[str, object]) -> dict[str, object]:
    """The options under the names they have today; an old name is noted."""
    old, gone = renamed(cls), getattr(cls, "dropped", {})
    for name in sorted(given.keys() & gone.keys()):
        note(f"{name} goes with the next release: {gone[name]}.")
    given = {name: value for name, value in given.items() if name not in gone}
    for name in sorted(given.keys() & old.keys()):
        note(f"{name} is called {old[name]} now; the old name goes with the next release.")
    return {old.get(name, name): value for name, value in given.items()}


def note(text: str) -> None:
    """Tell the user one line beside the result (logging shows warnings on stderr by itself)."""
    log.warning("note: %s", text)


def renamed(cls: type[Options]) -> dict[str, str]:
    """Old names of a class's options, those of its groups included."""
    found: dict[str, str] = {}
    for group in reversed(cls.__mro__):
        found |= vars(group).get("renamed", {})
    return {old: new for old, new in found.items() if new in cls.model_fields}
