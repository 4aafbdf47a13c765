"""ONNX files in fewer bits beside a float one, judged by what changes in their answers.

The judge is the float file, which has been compared with torch already; the rows are the user's
data where there are any, or random ones. What would hide a change is taken out first: a number that
all rows share and, among the scores of classes, a number that all classes share. What is left must
point the same way (its cosine). Numbers (a regression, an embedding) have no direction to compare:
their mean error must be small against their own spread over the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from acn_compress.data.load import Data
from acn_compress.errors import DataError, VerificationError
from acn_compress.found import Found
from acn_compress.network.network import Network
from acn_compress.onnx.compare import LENGTHS, of_tokens
from acn_compress.onnx.inputs import inputs_for
from acn_compress.onnx.layout import FILES
from acn_compress.onnx.precision import folded, write_precision
from acn_compress.onnx.session import Array, Input, Session, taken
from acn_compress.options import Quantize

COSINE = 0.98  # the smallest that lets scores of classes through
ERROR = 0.2  # the largest mean error, over the spread, that lets numbers through
ROWS = 256  # examples of the user's data that are judged, at most, evenly spread over it
RANDOM = 16, 8  # batches of random inputs, and their rows, where there is no data
GRAINS = (1, 2, 4, 8, 1000)  # areas along a side of a random image; 1000 is fine noise
FEWEST = 20  # examples that can tell


class Judged(Found):
    """What fewer bits change in the answers."""

    judged_on: str
    """The data, or that the inputs were random."""
    examples: int
    """Inputs it was judged on."""
    cosine: float | None = None
    """Of the centred scores with the source's; None for numbers."""
    error: float
    """Mean absolute error over the standard deviation of the source's outputs."""
    agreement: float | None = None
    """Share of answers that are the source's; None for numbers, and on random inputs."""

    def __str__(self) -> str:
        cosine = "" if self.cosine is None else f"cosine {self.cosine:.4f}, "
        same = "" if self.agreement is None else f", same answer {self.agreement:.1%}"
        return f"{cosine}mean error {self.error:.1%} of the outputs' spread{same}"

    def complaint(self, precision: Quantize) -> str | None:
        """What is wrong with a file in this precision; None if its answers stay."""
        if self.cosine is None:
            passed = self.error <= ERROR
            said = f"the numbers are off by {self.error:.2f} of their own spread, allowed {ERROR}"
        else:
            passed = self.cosine >= COSINE
            same = "" if self.agreement is None else f"; {self.agreement:.1%} same answers"
            said = f"the scores have a cosine of {self.cosine:.4f} with the source's "
            said += f"(centred{same}), expected at least {COSINE}"
        where = f"on {self.examples} examples of {self.judged_on}"
        return None if passed else f"{precision}: {where} {said}"


@dataclass(frozen=True)
class Kind:
    """How the rows of an output are to be read.

    Args:
        answers: [rows, width] to what each row answers, [rows, ...]; None for numbers.
        centred: a number added to a whole row changes nothing, as under a softmax.
        places: a row's entries are places in a text, not the same thing in every row.
    """

    answers: Callable[[Array], Array] | None
    centred: bool = False
    places: bool = False

    def values(self, rows: Array) -> Array:
        """[rows, width] without what changes nothing, as [rows, things that are compared]."""
        values = rows.astype("float64")
        if self.centred:
            values -= values.mean(-1, keepdims=True)
        return values.reshape(-1, 1) if self.places else values


NUMBERS = Kind(None)
CLASSES = Kind(lambda rows: rows.argmax(-1), centred=True)
LABELS = Kind(lambda rows: rows > 0)  # each label on its own
PLACES = Kind(lambda rows: rows.argmax(-1), centred=True, places=True)


def kind_of(net: Network, output: str, width: int) -> Kind:
    """What an output with rows of `width` numbers is."""
    if output in {"start_logits", "end_logits"}:
        return PLACES
    problem = getattr(net.config, "problem_type", None)
    if output != "logits" or width == 1 or problem == "regression":
        return NUMBERS
    return LABELS if problem == "multi_label_classification" else CLASSES


class Likeness:
    """How alike two streams of rows are, from running sums: the rows of a language model's scores
    would not fit in memory."""

    def __init__(self, kind: Kind, width: int) -> None:
        self.kind = kind
        self.count = self.answers = self.same = 0
        self.off = self.aa = self.bb = self.ab = 0.0
        self.a = self.b = np.zeros(1 if kind.places else width)

    def add(self, ours: Array, theirs: Array) -> None:
        """Rows of the source and of the other, [rows, width] each."""
        a, b = self.kind.values(ours), self.kind.values(theirs)
        self.count += len(a)
        self.a, self.b = self.a + a.sum(0), self.b + b.sum(0)
        self.aa += float((a * a).sum())
        self.bb += float((b * b).sum())
        self.ab += float((a * b).sum())
        self.off += float(np.abs(a - b).sum())
        if self.kind.answers is not None:
            said = self.kind.answers(ours) == self.kind.answers(theirs)
            self.same += int(said.reshape(len(ours), -1).all(-1).sum())
            self.answers += len(ours)

    @property
    def cosine(self) -> float | None:
        """Of all values about the source's mean, as one vector; None for numbers."""
        if self.kind.answers is None:
            return None
        mean = self.a / self.count
        aa = self.aa - float(mean @ self.a)
        bb = self.bb - 2 * float(mean @ self.b) + float(mean @ self.a)
        ab = self.ab - float(mean @ self.b)
        return 1.0 if self.off == 0 else ab / math.sqrt(max(aa * bb, 1e-24))

    @property
    def error(self) -> float:
        """Mean absolute error over the standard deviation of the source's values."""
        values = self.count * len(self.a)
        spread = max(self.aa - float(self.a @ self.a) / self.count, 0.0) / values
        return self.off / values / max(math.sqrt(spread), 1e-12)

    @property
    def agreement(self) -> float | None:
        """Share of rows with the same answer; None for numbers."""
        return self.same / self.answers if self.answers else None


@dataclass(frozen=True)
class Rows:
    """Inputs to judge on, in batches, and what they are; `real` ones are the user's data."""

    name: str
    batches: Iterable[dict[str, Array]]
    real: bool


def random_rows(net: Network, size: tuple[int, int] | None, seed: int) -> Rows:
    """Random inputs, made at once, while the network still has its weights' device; `size` is that
    of images (see `inputs_for`)."""
    batches, rows = RANDOM
    drawn = []
    for number in range(batches):
        inputs = inputs_for(net, rows, LENGTHS[number % len(LENGTHS)], seed + number, size)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = _coarse(inputs["pixel_values"], GRAINS[number % len(GRAINS)])
        drawn.append({name: tensor.cpu().numpy() for name, tensor in inputs.items()})
    return Rows("random inputs (no data was given)", drawn, real=False)


def _coarse(pixels: Tensor, grain: int) -> Tensor:
    """Noise [batch, channels, height, width] of the same spread with areas of one colour, `grain`
    a side: fine noise looks all the same to a network that was trained on pictures."""
    if grain > min(pixels.shape[-2:]):
        return pixels
    areas = F.adaptive_avg_pool2d(pixels, grain)
    return F.interpolate(areas / areas.std(), pixels.shape[-2:], mode="bilinear")


def real_rows(data: Data, inputs: Sequence[Input]) -> Rows:
    """At most `ROWS` examples of the data, evenly spread over it, one at a time.

    Raises:
        DataError: if there are too few to tell.
    """
    if len(data) < FEWEST:
        raise DataError(
            f"data {data.name} has {len(data)} examples, too few to judge fewer bits on. "
            f"Give at least {FEWEST}, or none to judge on random inputs."
        )
    return Rows(data.name, [taken(batch, inputs) for batch in data.sample(ROWS)], real=True)


def quantize(
    net: Network,
    whole: Path,
    precisions: Sequence[Quantize],
    outputs: Sequence[str],
    rows: Rows,
    calibration: Rows | None = None,
) -> dict[Quantize, Judged]:
    """Write files in fewer bits beside a float one, and judge each on `rows`.

    Args:
        net: what they are; its weights are not needed.
        whole: the float file, which has been compared with torch.
        outputs: its outputs.
        calibration: what int8-static takes its ranges from.
    Raises:
        UnsupportedError: in one line, if ONNX Runtime cannot write one.
    """
    found: dict[Quantize, Judged] = {}
    seen = None if calibration is None else calibration.batches
    with folded(whole) as graph:
        for precision in precisions:
            file = whole.with_name(FILES[precision])
            write_precision(whole, graph, file, precision, seen)
            found[precision] = judge(net, Session(whole), Session(file), outputs, rows)
    return found


def check(judged: Mapping[Quantize, Judged]) -> None:
    """Raises VerificationError, in one line, if the answers of a file have changed too much."""
    complain({name: text for name, found in judged.items() if (text := found.complaint(name))})


def complain(complaints: Mapping[Quantize, str]) -> None:
    """Raises VerificationError, in one line, if there is something wrong with a file."""
    if complaints:
        without = " and ".join(complaints)
        raise VerificationError(f"{'; '.join(complaints.values())}. Export without {without}.")


def judge(net: Network, whole: Session, small: Session, names: Sequence[str], rows: Rows) -> Judged:
    """How the outputs `names` of a file differ from those of the float one.

    Args:
        net: what they are; its weights are not needed.
    """
    likeness: dict[str, Likeness] = {}
    examples = 0
    for feeds in rows.batches:
        sides = whole.run(names, feeds), small.run(names, feeds)
        for name, (ours, theirs) in zip(names, of_tokens(feeds, names, *sides), strict=True):
            width = ours.shape[-1]
            kind = kind_of(net, name, width)
            found = likeness.setdefault(name, Likeness(kind, width))
            found.add(ours.reshape(-1, width), theirs.reshape(-1, width))
        examples += len(next(iter(feeds.values())))
    return Judged(
        judged_on=rows.name,
        examples=examples,
        cosine=_least(found.cosine for found in likeness.values()),
        error=max(found.error for found in likeness.values()),
        agreement=_least(found.agreement for found in likeness.values()) if rows.real else None,
    )


def _least(values: Iterable[float | None]) -> float | None:
    """Of the worst output; None if none has one."""
    return min((v for v in values if v is not None), default=None)
