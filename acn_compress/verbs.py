"""The verbs as Python functions, made from their options. What a type checker knows of them stands
in `verbs.pyi`, which is written from the same classes (`make docs`)."""

from __future__ import annotations

from acn_compress.options import VERBS
from acn_compress.surface import function

for _name, _verb in VERBS.items():
    globals()[_name] = function(_verb)

__all__ = list(VERBS)
