"""What a file that was made of a network says beside what torch said to the same inputs: at several
batch sizes and lengths, other than those it was traced with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from acn_compress.errors import VerificationError
from acn_compress.found import Found
from acn_compress.onnx import exit as onnx_exit
from acn_compress.onnx.cache import is_present
from acn_compress.onnx.session import Array

if TYPE_CHECKING:
    from acn_compress.onnx.trace import Traced

# the outputs that are named, for inputs by name
Run = Callable[[Sequence[str], Mapping[str, Array]], Sequence[Array]]

BATCHES = (1, 2, 3, 5)  # batch sizes compared; the graph is traced with 2
LENGTHS = (7, 12, 19)  # text lengths compared; traced with 12


@dataclass(frozen=True)
class Expected:
    """One set of inputs, what it is, and torch's outputs for it."""

    what: str
    inputs: dict[str, Array]
    outputs: Sequence[Array]


class Compared(Found):
    """How a file compares with torch."""

    max_difference: float
    """Largest difference of any output, over max(1, largest value)."""
    agreement: float | None = None
    """Share of rows of the first output with the same answer; None for a single number."""
    compared: list[str]
    """The inputs, in words."""


def expected(traced: Traced, seed: int) -> list[Expected]:
    """Torch's outputs for several batch sizes and lengths, and with early exit at several
    thresholds."""
    found: list[Expected] = []
    for number, batch in enumerate(BATCHES):
        found += _said(traced, batch, LENGTHS[number % len(LENGTHS)], seed + number)
    return found


def _said(traced: Traced, batch: int, length: int, seed: int) -> Iterator[Expected]:
    inputs = traced.inputs_for(batch, length, seed)
    free = next(iter(inputs.values())).shape[1] if 1 in traced.free else None
    long = "" if free is None else f" x length {free}"
    what, arrays = f"batch {batch}{long}", {k: v.numpy() for k, v in inputs.items()}
    if traced.exit_entropy is None:
        with torch.inference_mode():
            yield Expected(what, arrays, [t.numpy() for t in traced(*inputs.values())])
            if traced.cache is not None:
                yield _behind(traced, batch, length, seed)
        return
    for threshold, outputs in onnx_exit.expected(traced.net, inputs, traced.exit_entropy):
        given = np.asarray(threshold, dtype="float32")
        yield Expected(what, arrays | {onnx_exit.INPUT: given}, outputs)


def _behind(traced: Traced, batch: int, length: int, seed: int) -> Expected:
    """The end of a text, behind the keys and values of what comes before; from one token, as in
    generation, to four."""
    last = 1 + seed % 4
    inputs, outputs = traced.split(batch, length, seed, length - last)
    what = f"batch {batch} x length {length - last} + {last}"
    return Expected(what, {k: v.numpy() for k, v in inputs.items()}, [t.numpy() for t in outputs])


def compare(
    cases: Iterable[Expected],
    run: Run,
    names: Sequence[str],
    *,
    tolerance: float,
    made: str = "the ONNX model",
) -> Compared:
    """Compare what was made of a model with what the model said to several inputs.

    Args:
        run: it, in what runs it.
        made: what it is called.
    Raises:
        VerificationError: at the first output beyond `tolerance`.
    """
    worst, same, compared = 0.0, [], []
    for case in cases:
        theirs = run(names, case.inputs)
        pairs = list(of_tokens(case.inputs, names, case.outputs, theirs))
        for name, (ours, found) in zip(names, pairs, strict=True):
            difference = _difference(ours, found)
            if not difference <= tolerance:
                raise VerificationError(
                    f"{made} differs from the source: {name} at {case.what} "
                    f"by {difference:.1e}, allowed {tolerance:.1e}. Nothing was written."
                )
            worst = max(worst, difference)
        same += _same(*pairs[0])
        compared.append(case.what)
    return Compared(
        max_difference=worst,
        agreement=float(np.mean(same)) if same else None,
        compared=list(dict.fromkeys(compared)),
    )


def _difference(ours: Array, theirs: Array) -> float:
    """The largest, over max(1, largest value); infinite between different shapes."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float(np.abs(ours - theirs).max()) / max(1.0, float(np.abs(ours).max()))


def _same(ours: Array, theirs: Array) -> list[bool]:
    """Per row, whether the largest entry is the same one; nothing where a row has one entry."""
    if ours.shape[-1] == 1:
        return []
    return list((ours.argmax(-1) == theirs.argmax(-1)).ravel())


def of_tokens(
    inputs: dict[str, Array], names: Sequence[str], *sides: Sequence[Array]
) -> Iterator[tuple[Array, ...]]:
    """The outputs of both sides, in pairs, without what they say at padding: that means nothing,
    and under a sliding window not even the same nothing. Of clips, whose frames the mask does not
    count, all is compared."""
    mask = None if "input_values" in inputs else inputs.get("attention_mask")
    for name, *pair in zip(names, *sides, strict=True):
        yield tuple(a if mask is None else _at(mask != 0, name, a) for a in pair)


def _at(mask: Array, name: str, output: Array) -> Array:
    if is_present(name):
        return np.where(mask[:, None, :, None], output, 0)
    if output.ndim == 3:
        mask = mask[:, -output.shape[1] :]  # of the tokens that are read behind others
    if output.shape[:2] != mask.shape:
        return output
    if output.ndim == 3:
        kept: Array = output[mask]
        return kept
    return np.where(mask, output, 0) if name in {"start_logits", "end_logits"} else output
