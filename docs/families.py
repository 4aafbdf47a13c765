"""The page of families, from the models of the contract test (tests/tiny.py)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from test_contract import ALWAYS, NAMES
from tiny import KINDS, tiny

from acn_compress.compression.prune.structured import UNITS
from acn_compress.network import widths
from acn_compress.network.network import Network
from acn_compress.network.plain import plain_class
from acn_compress.network.sayable import can_say

HEAD = """# Families

Made from the models of `tests/tiny.py` by `make docs`: do not edit. Each row is one tiny model,
every parameter random, for which the laws of `tests/test_contract.py` hold: alpha = 1 is the
original bit for bit, with every kind of layer; the stack is the written-out loop; saved and loaded,
cut, and pruned models are what they should be; plain transformers loads what is plain; gradients
reach every parameter; half precision stays half; and ONNX gives the same answers (compared in every
run of `make test` and `make test-long`, or with `-m slow`).

- *pruned*: what `prune` and `compress` take out of a block; **bold** where a config can say that
  all blocks have fewer, so that with `--uniform` plain transformers may load the result. Whether it
  does, and answers the same bit for bit, is proven before it is said.
- *blocks*: any may go, in a post-norm network in residual form only; or the first one stays.
- *forms*: all seven combinations of alpha and layer, or one of them in turn.

| model | type | norms | blocks | pruned | forms | ONNX |
|---|---|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(f"| {' | '.join(_row(name))} |\n" for name in NAMES)


def _row(name: str) -> Iterator[str]:
    net = tiny(name)
    yield f"`{plain_class(type(net.model)).__name__}` ({name})"
    yield f"`{net.family.model_type}`"
    yield "pre" if net.norm_behind(0) is None else "post"
    yield "first stays" if net.family.first_stays else "any"
    yield ", ".join(_width(net, width) for width in widths.counts(net)[0]) or "nothing"
    yield "all" if name in KINDS else "one"
    yield "every run" if name in ALWAYS else "slow"


def _width(net: Network, name: str) -> str:
    units = widths.counts(net)[0][name]
    return f"**{UNITS[name]}**" if units > 1 and can_say(net, name, units // 2) else UNITS[name]
