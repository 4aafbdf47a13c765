"""int8 in an ONNX file, judged by what changes in its answers.

The judge is the float file, which has been compared with torch already; the rows are the user's
data where there are any, or random ones. What would hide a change is taken out first: a number that
all rows share and, among the scores of classes, a number that all classes share. What is left must
point the same way (its cosine). Numbers (a regression, an embedding) have no direction to compare:
their mean error must be small against their own spread over the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from acn_compress.data.load import Data
from acn_compress.errors import DataError, UnsupportedError, VerificationError
from acn_compress.found import Found
from acn_compress.network.network import Network
from acn_compress.onnx.compare import LENGTHS, of_tokens
from acn_compress.onnx.layout import weights_of
from acn_compress.onnx.session import Array, Session, reason
from acn_compress.onnx.trace import Traced, silence
from acn_compress.tasks.base import features

COSINE = 0.98  # the smallest that lets scores of classes through
ERROR = 0.2  # the largest mean error, over the spread, that lets numbers through
ROWS = 256  # examples of the user's data that are judged, at most, evenly spread over it
RANDOM = 16, 8  # batches of random inputs, and their rows, where there is no data
GRAINS = (1, 2, 4, 8, 1000)  # areas along a side of a random image; 1000 is fine noise
FEWEST = 20  # examples that can tell


class Quantized(Found):
    """What int8 changes."""

    quantized: str = "int8"
    judged_on: str
    """The data, or that the inputs were random."""
    examples: int
    """Inputs it was judged on."""
    cosine: float | None = None
    """Of the centred scores with the source's; None for numbers."""
    error: float
    """Mean absolute error over the standard deviation of the source's outputs."""
    agreement: float | None = None
    """Share of answers that are the source's; None for numbers."""


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
    """Inputs to judge on, in batches, and what they are."""

    name: str
    batches: Iterable[dict[str, Array]]


def random_rows(traced: Traced, seed: int) -> Rows:
    """Random inputs, made at once, while the network still has its weights' device."""
    batches, rows = RANDOM
    drawn = []
    for number in range(batches):
        inputs = traced.inputs_for(rows, LENGTHS[number % len(LENGTHS)], seed + number)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = _coarse(inputs["pixel_values"], GRAINS[number % len(GRAINS)])
        drawn.append({name: tensor.numpy() for name, tensor in inputs.items()})
    return Rows("random inputs (no data was given)", drawn)


def _coarse(pixels: Tensor, grain: int) -> Tensor:
    """Noise [batch, channels, height, width] of the same spread with areas of one colour, `grain`
    a side: fine noise looks all the same to a network that was trained on pictures."""
    if grain > min(pixels.shape[-2:]):
        return pixels
    areas = F.adaptive_avg_pool2d(pixels, grain)
    return F.interpolate(areas / areas.std(), pixels.shape[-2:], mode="bilinear")


def real_rows(data: Data, inputs: Sequence[str]) -> Rows:
    """At most `ROWS` examples of the data, evenly spread over it, one at a time.

    Raises:
        DataError: if there are too few to tell.
    """
    if len(data) < FEWEST:
        raise DataError(
            f"data {data.name} has {len(data)} examples, too few to judge int8 on. "
            f"Give at least {FEWEST}, or none to judge on random inputs."
        )
    return Rows(data.name, (_feeds(batch, inputs) for batch in data.sample(ROWS)))


def _feeds(batch: dict[str, Tensor], inputs: Sequence[str]) -> dict[str, Array]:
    """What a file takes of a batch; token types that a tokenizer leaves out are all 0."""
    given = {k: v.numpy() for k, v in features(batch).items()}
    return {k: given[k] if k in given else np.zeros_like(given["input_ids"]) for k in inputs}


def quantize_(net: Network, path: Path, names: Sequence[str], rows: Rows) -> Quantized:
    """Replace a file by its int8 version (weights per channel, activations on the fly), if its
    answers stay the source's.

    Args:
        net: what it is; its weights are not needed.
        path: the float file.
        names: its outputs.
        rows: to judge on.
    Raises:
        VerificationError, UnsupportedError: in one line; the float file is left as it is.
    """
    small = write_int8(path)
    found = _judge(net, Session(path), Session(small), names, rows)
    _check(found)
    small.replace(path)
    weights_of(path).unlink(missing_ok=True)
    return found


def write_int8(path: Path) -> Path:
    """Write the int8 version of a file beside it, unjudged, and say where.

    Raises:
        UnsupportedError: in one line, if there can be none.
    """
    small = path.with_name("int8.onnx")
    _write(path, small)
    _sign(path, small)
    return small


def _write(path: Path, small: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    try:
        with silence():
            quantize_dynamic(str(path), str(small), per_channel=True, weight_type=QuantType.QInt8)
    except OSError:
        raise  # the disk, which is not the quantiser's fault
    except Exception as error:  # of onnx, onnxruntime and protobuf
        raise UnsupportedError(
            f"ONNX Runtime cannot make int8 of this network ({reason(error)}). "
            "Export without quantize."
        ) from None


def _sign(path: Path, small: Path) -> None:
    """Say of the small file what the float file says of itself: the quantiser signs for its own."""
    import onnx

    whole, made = onnx.load(str(path), load_external_data=False), onnx.load(str(small))
    made.producer_name, made.producer_version = whole.producer_name, whole.producer_version
    said = {p.key: p.value for p in whole.metadata_props}
    onnx.helper.set_model_props(made, said | {"quantized": "int8"})
    onnx.save(made, str(small))


def _judge(
    net: Network, whole: Session, small: Session, names: Sequence[str], rows: Rows
) -> Quantized:
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
    return Quantized(
        judged_on=rows.name,
        examples=examples,
        cosine=_least(found.cosine for found in likeness.values()),
        error=max(found.error for found in likeness.values()),
        agreement=_least(found.agreement for found in likeness.values()),
    )


def _least(values: Iterable[float | None]) -> float | None:
    """Of the worst output; None if none has one."""
    return min((v for v in values if v is not None), default=None)


def _check(found: Quantized) -> None:
    """Raises VerificationError if too much has changed."""
    if found.cosine is None:
        passed = found.error <= ERROR
        said = f"the numbers are off by {found.error:.2f} of their own spread, allowed {ERROR}"
    else:
        passed = found.cosine >= COSINE
        said = (
            f"the scores have a cosine of {found.cosine:.4f} with the source's (centred; "
            f"{found.agreement:.1%} same answers), expected at least {COSINE}"
        )
    if not passed:
        raise VerificationError(
            f"int8: on {found.examples} examples of {found.judged_on} {said}. "
            "Export without quantize."
        )
