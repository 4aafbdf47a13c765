"""What is found out: closed, frozen models. As JSON they hold null where a number is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict


class Found(BaseModel):
    """What a step, or a part of one, found. Read by attribute; by key, as its JSON is read, works
    as well: a mapping of what was found. A field in which nothing was (None) is no key of it, and
    is read as None all the same; `plain()` has every field."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
        ser_json_inf_nan="null",
    )

    def plain(self) -> dict[str, Any]:
        """As JSON: plain data, null for a number that is none."""
        data: dict[str, Any] = json.loads(self.model_dump_json(by_alias=True))
        return data

    def __getitem__(self, key: str) -> Any:
        fields = dict(self._fields())
        if key not in fields:
            raise KeyError(f"no {key!r} in {type(self).__name__}. There are: {', '.join(fields)}")
        return fields[key]

    def __contains__(self, key: object) -> bool:
        """Whether something was found under this key."""
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]  # pydantic's has pairs
        """The keys, as in any mapping."""
        return iter(self.keys())

    def get(self, key: str, default: Any = None) -> Any:
        """What was found under a key, or `default`."""
        return dict(self.items()).get(key, default)

    def keys(self) -> list[str]:
        """The keys under which something was found."""
        return [name for name, _ in self.items()]

    def values(self) -> list[Any]:
        """What was found."""
        return [value for _, value in self.items()]

    def items(self) -> list[tuple[str, Any]]:
        """Keys, and what was found under them."""
        return [(name, value) for name, value in self._fields() if value is not None]

    def _fields(self) -> Iterator[tuple[str, Any]]:
        for name, field in type(self).model_fields.items():
            yield field.alias or name, getattr(self, name)
        yield from (self.model_extra or {}).items()
