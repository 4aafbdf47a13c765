"""What every report is: a closed, frozen model. `--json` is its dump; a number that is none (NaN, infinity) is null there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict


class Found(BaseModel):
    """What a step or a part of one found. Read by attribute; by key, as the JSON is read, works as well."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, ser_json_inf_nan="null"
    )

    def __getitem__(self, key: str) -> Any:
        if key not in self:
            raise KeyError(f"{type(self).__name__} has no {key!r}. It has: {', '.join(self.keys())}.")
        return getattr(self, key)

    def __contains__(self, key: object) -> bool:
        """Whether there is something under this key: what was not asked for is None."""
        return key in type(self).model_fields and getattr(self, str(key)) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """The value under a key, or `default` where there is none."""
        return self[key] if key in self else default

    def keys(self) -> Iterator[str]:
        """The keys under which there is something."""
        return (name for name in type(self).model_fields if name in self)
