"""Names of version 0.1.0 that work for one release more."""

from __future__ import annotations

from acn_compress.surface import note


class Job(dict[str, object]):
    """Data and training options in one object: give them to the function by name instead."""

    def __init__(self, data: object, recipe: object = None, **options: object) -> None:
        note("Job goes with the next release: give its options to the function by name.")
        training: dict[str, object] = getattr(recipe, "given", dict)()
        super().__init__(data=data, **training, **options)
