"""Something done when a library is imported, without importing it here."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

Act = Callable[[ModuleType], None]
_waiting: dict[str, Act] = {}
_sought: set[str] = set()  # while the other finders are asked


def when_imported(name: str) -> Callable[[Act], Act]:
    """Decorates what is called with module `name` as soon as that has run, at once if it has."""

    def register(act: Act) -> Act:
        if name in sys.modules:
            act(sys.modules[name])
        else:
            _waiting[name] = act
        return act

    return register


class _Finder:
    """Asks the finders behind it, and has what they find act once it has run."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _waiting or name in _sought:
            return None
        _sought.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            _sought.discard(name)
        if spec is not None and spec.loader is not None:
            _act_after(spec.loader, name)
        return spec


def _act_after(loader: object, name: str) -> None:
    run: Act = loader.exec_module  # type: ignore[attr-defined]

    def exec_module(module: ModuleType) -> None:
        run(module)
        if (act := _waiting.pop(name, None)) is not None:
            act(module)

    loader.exec_module = exec_module  # type: ignore[attr-defined]


sys.meta_path.insert(0, _Finder)
