"""What a trained network says about its own layers: what every writer reads, and how much its
answers move with what it writes. One pass, no labels: answers drawn from the network's own stand in
their place, so that the squared gradients estimate the Fisher information (Martens, arXiv
1412.1193).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from acn_compress.compression.calibration import FEW, Batches, spread
from acn_compress.compression.writers import Seen, Writer, rows_that_count, watching
from acn_compress.errors import VerificationError
from acn_compress.network.device import exact, plus_
from acn_compress.network.network import Network, first_output
from acn_compress.network.threads import threads_for
from acn_compress.tasks import task_or_none
from acn_compress.tasks.base import Batch, features

MEMORY = 1 << 30  # bytes that may be kept for the way back, about
KEPT = 56  # of a token in every block, per unit of width
SCORED = 24  # of a token per word that it may be, where its answer is a word
CHANCES = 1 << 22  # that are added up at a time


class Flow(NamedTuple):
    """What one batch says about one writer.

    Args:
        x: [batch, length, in], what it read.
        gradient: [batch, length, out], of the loss of every example by what it wrote.
        mask: [batch, length], 1 where there is no padding; None where there is none at all.
    """

    x: Tensor
    gradient: Tensor
    mask: Tensor | None


class Moments(NamedTuple):
    """Second moments of one writer.

    Args:
        inputs: [in + 1, in + 1], of what it reads, with a one behind it: the mean over examples of
            the sum over tokens, each weighted by its squared gradient. float64.
        outputs: [out, out], of the gradients of what it writes, of trace 1. float64.
    """

    inputs: Tensor
    outputs: Tensor


def flows(
    net: Network, data: Batches, found: Sequence[Writer], rows: int = FEW, seed: int = 0
) -> Iterator[list[Flow]]:
    """Per batch, what it says about every writer; per part of one, where that would take more than
    `MEMORY`.

    Args:
        rows: about how many examples, evenly spread over the data.
        seed: what answers are drawn from.
    Raises:
        VerificationError: if the network answers with what is no number.
    """
    generator, (read, numbers) = torch.Generator().manual_seed(seed), answers_of(net)
    with untrained(net):
        for given in parts(net, data, rows):
            with torch.enable_grad(), watching(found) as seen:
                loss = drawn(read(net, given), numbers, generator)
            gradients = torch.autograd.grad(loss, [slot.out for slot in seen])
            yield flows_of(seen, gradients, net.counted(given))


def flows_of(seen: Sequence[Seen], gradients: Sequence[Tensor], mask: Tensor | None) -> list[Flow]:
    """Of what was seen and the gradients of what was written."""
    return [
        Flow(slot.x.float(), gradient.float(), mask)
        for slot, gradient in zip(seen, gradients, strict=True)
    ]


def parts(net: Network, data: Batches, rows: int) -> Iterator[Batch]:
    """What the network is called with, as many examples at a time as there is memory for."""
    return (part for batch in spread(net, data, rows) for part in _split(net, batch))


def _split(net: Network, batch: Batch) -> Iterator[Batch]:
    """The parts of one batch."""
    given, mask = features(batch), net.counted(batch)
    if mask is None:
        one = {name: values[:1] for name, values in given.items()}
        tokens = net.calls(**one)[0].stream.shape[1:-1].numel()
    else:
        tokens = mask.shape[1]
    size = max(1, int(MEMORY / (tokens * kept_of_a_token(net))))
    for at in range(0, len(next(iter(given.values()))), size):
        yield {name: values[at : at + size] for name, values in given.items()}


def kept_of_a_token(net: Network) -> int:
    """Bytes that a pass keeps of a token for the way back, about; no weight takes a gradient."""
    task = task_or_none(net)
    words = net.config.vocab_size if task is not None and task.over_vocabulary else 0
    return KEPT * net.width * net.depth + SCORED * words


def moments(
    net: Network, data: Batches, found: Sequence[Writer], rows: int = FEW, seed: int = 0
) -> Iterator[Moments]:
    """Of every writer, in one pass. Each is handed over: nothing here keeps its memory."""
    return means(flows(net, data, found, rows, seed), len(found))


def means(batches: Iterable[list[Flow]], writers: int) -> Iterator[Moments]:
    """Moments from what every batch says about so many writers."""
    inputs, outputs, examples = _sums(batches, writers)
    while inputs:
        yield Moments(inputs.pop(0).div_(examples), _of_trace_one_(outputs.pop(0)))


def _sums(batches: Iterable[list[Flow]], writers: int) -> tuple[list[Tensor], list[Tensor], int]:
    """What moments are means of, and over how many examples."""
    inputs: list[Tensor | None] = [None] * writers
    outputs: list[Tensor | None] = [None] * writers
    examples = 0
    for batch in batches:
        examples += len(batch[0].x)
        for i, flow in enumerate(batch):
            x, gradient = (rows_that_count(part, flow.mask) for part in flow[:2])
            x = torch.cat([x, x.new_ones(len(x), 1)], 1)
            weighted = x * gradient.square().sum(-1, keepdim=True)
            inputs[i] = plus_(inputs[i], weighted.T @ x)
            outputs[i] = plus_(outputs[i], gradient.T @ gradient)
    return [a for a in inputs if a is not None], [b for b in outputs if b is not None], examples


def _of_trace_one_(square: Tensor) -> Tensor:
    return square.div_(square.diagonal().sum().clamp_min(torch.finfo(square.dtype).tiny))


def answers_of(net: Network) -> tuple[Callable[[Network, Batch], Tensor], bool]:
    """How the answers of this network are read, [rows, classes], and whether they are numbers: as
    its task has it; where its head is for none, what it puts out are numbers."""
    if (task := task_or_none(net)) is None:
        return (lambda net, given: first_output(net(**given))), True
    return (lambda net, given: task.answers(net(**given), given)), task.numbers


def drawn(answers: Tensor, numbers: bool, generator: torch.Generator) -> Tensor:
    """Minus the log-likelihood of an answer that is drawn from the answers themselves.

    Args:
        answers: [rows, classes].
        numbers: they are the means of normal distributions, not scores of classes.
    """
    if not bool(answers.isfinite().all()):
        raise VerificationError("the model's answers are not finite: nothing can be chosen.")
    if numbers:
        return (answers * torch.randn(answers.shape, generator=generator).to(answers)).sum()
    at = torch.rand(len(answers), 1, generator=generator, dtype=torch.float64)
    some = max(1, CHANCES // answers.shape[-1])
    parts = zip(answers.detach().split(some), at.split(some), strict=True)
    target = torch.cat([_class_at(*part) for part in parts])
    return F.cross_entropy(answers, target.to(answers.device), reduction="sum")


def _class_at(answers: Tensor, at: Tensor) -> Tensor:
    """Where numbers between 0 and 1 [rows, 1] fall among the chances: [rows]. Classes without a
    chance change no draw."""
    below = exact(answers).softmax(-1).cpu().cumsum(-1)
    found = torch.searchsorted(below, at * below[:, -1:], right=True)
    return found[:, 0].clamp(max=below.shape[-1] - 1)


@contextmanager
def untrained(net: Network) -> Iterator[None]:
    """Inside, the network is looked at: in evaluation, and no parameter takes a gradient."""
    trained = [p for p in net.model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with net.evaluating(), threads_for(net):
            yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
