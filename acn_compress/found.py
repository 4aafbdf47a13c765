"""What is found out: closed, frozen models. As JSON they hold null where a number is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict


class Found(BaseModel):
    """What a step, or a part of one, found. Read by attribute; by key, as its JSON is read, works
    as well."""

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
        found = dict(self._items())
        if key not in found:
            raise KeyError(f"no {key!r} in {type(self).__name__}. There are: {', '.join(found)}")
        return found[key]

    def __contains__(self, key: object) -> bool:
        """Whether something was found under this key."""
        return any(key == name and value is not None for name, value in self._items())

    def get(self, key: str, default: Any = None) -> Any:
        """What was found under a key, or `default`."""
        value = dict(self._items()).get(key)
        return default if value is None else value

    def keys(self) -> list[str]:
        """The keys under which something was found."""
        return [name for name, value in self._items() if value is not None]

    def _items(self) -> Iterator[tuple[str, Any]]:
        for name, field in type(self).model_fields.items():
            yield field.alias or name, getattr(self, name)
        yield from (self.model_extra or {}).items()
