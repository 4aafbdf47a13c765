"""What a trained network says about its own layers: what every writer reads, and how much its
answers move with what it writes. One pass, no labels: answers drawn from the network's own stand in
their place, so that the squared gradients estimate the Fisher information (Martens, arXiv
1412.1193).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from acn_compress.compression.calibration import FEW, Batches, spread
from acn_compress.compression.writers import Writer, rows_that_count, watching
from acn_compress.errors import UnsupportedError, VerificationError
from acn_compress.network.device import exact
from acn_compress.network.network import Network, first_output
from acn_compress.network.threads import threads_for
from acn_compress.tasks import task_of
from acn_compress.tasks.base import Batch, features

# rows that blocks are weighed on, times blocks: 64 rows of a network of 12
PASSES = 768
CHECKED = 4  # blocks, of which one is taken out


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
    """Per batch, what it says about every writer.

    Args:
        rows: about how many examples, evenly spread over the data.
        seed: what answers are drawn from.
    Raises:
        VerificationError: if the network answers with what is no number.
    """
    generator, (read, numbers) = torch.Generator().manual_seed(seed), _answers_of(net)
    with net.evaluating(), _frozen(net), threads_for(net):
        for batch in spread(net, data, rows):
            given = features(batch)
            with torch.enable_grad(), watching(found) as seen:
                loss = drawn(read(net, given), numbers, generator)
            gradients = torch.autograd.grad(loss, [slot.out for slot in seen])
            mask = net.counted(given)
            yield [
                Flow(slot.x.float(), gradient.float(), mask)
                for slot, gradient in zip(seen, gradients, strict=True)
            ]


def moments(
    net: Network, data: Batches, found: Sequence[Writer], rows: int = FEW, seed: int = 0
) -> Iterator[Moments]:
    """Of every writer, in one pass. Each is handed over: nothing here keeps its memory."""
    inputs, outputs, examples = _sums(net, data, found, rows, seed)
    while inputs:
        yield Moments(inputs.pop(0).div_(examples), _of_trace_one_(outputs.pop(0)))


def _sums(
    net: Network, data: Batches, found: Sequence[Writer], rows: int, seed: int
) -> tuple[list[Tensor], list[Tensor], int]:
    """What moments are means of, and over how many examples."""
    inputs: list[Tensor | float] = [0.0] * len(found)
    outputs: list[Tensor | float] = [0.0] * len(found)
    examples = 0
    for batch in flows(net, data, found, rows, seed):
        examples += len(batch[0].x)
        for i, flow in enumerate(batch):
            x, gradient = (rows_that_count(part, flow.mask) for part in flow[:2])
            x = torch.cat([x, x.new_ones(len(x), 1)], 1)
            weighted = x * gradient.square().sum(-1, keepdim=True)
            inputs[i] += exact(weighted.T @ x)
            outputs[i] += exact(gradient.T @ gradient)
    return [torch.as_tensor(a) for a in inputs], [torch.as_tensor(b) for b in outputs], examples


def weighed_on(net: Network) -> int:
    """Rows that blocks are weighed on: fewer of a deeper network, so that the block forwards of it
    all grow as its depth, and not as the square of it."""
    return max(1, PASSES // net.depth)


class Spent(NamedTuple):
    """What weighing blocks takes, per row: passes of all that lies outside of the blocks, and
    blocks that are run."""

    passes: int
    blocks: int


def weighing(depth: int, may_go: int, gone: int) -> Spent:
    """What `least_missed` takes of a network of so many blocks, of which so many may go and so many
    are taken out."""
    checked = [(depth - n - 1, min(CHECKED, may_go - n)) for n in range(gone)]
    passes = 1 + gone + sum(sets for _, sets in checked)
    return Spent(passes, depth + sum(left * sets for left, sets in checked))


def least_missed(
    net: Network,
    data: Batches,
    may_go: Sequence[int],
    gone: int | None = None,
    pick: Pick | None = None,
) -> list[tuple[int, float]]:
    """Blocks in the order in which they are missed least, each found while those before it are gone
    (they interact: two that are worth little alone may be worth all together).

    One pass says how far every block turns the stream. Of those that are left, the answers without
    each of the `CHECKED` that turn it least are compared with the whole network's: a choice among
    all takes as many passes as there are pairs of blocks, and is no better (docs/method.md).

    Args:
        data: `weighed_on` of it are looked at, evenly spread; labels are not.
        may_go: blocks to order.
        gone: how many of them; None is all.
        pick: decides among all sets with one block more, the one that turns the stream least first;
            by default by what the answers of the first `CHECKED` change by.
    Returns:
        Each with the divergence of the answers without it and those before it from the whole
        network's, in nats per example.
    """
    found: list[tuple[int, float]] = []
    seen, turns = _seen(net, data)
    left = sorted(may_go, key=turns.__getitem__)
    for _ in range(len(left) if gone is None else gone):
        before = [block for block, _ in found]
        at, rise = (pick or _pick)(net, seen, [[*before, block] for block in left])
        found.append((left.pop(at), rise))
    return found


class Looked(NamedTuple):
    """A batch, and y of the whole network behind its last block, which is all that its answers are
    read from: those of a language model are larger by far."""

    given: Batch
    y: Tensor

    @property
    def examples(self) -> int:
        return len(self.y)


def _seen(net: Network, data: Batches) -> tuple[list[Looked], list[float]]:
    """The batches, and of every block the sum over tokens of one less the cosine between y in front
    of it and behind (ShortGPT: arXiv 2403.03853)."""
    seen, turns = [], [0.0] * net.depth
    with net.evaluating(), threads_for(net), torch.inference_mode():
        for batch in spread(net, data, weighed_on(net)):
            given = features(batch)
            with net.recording() as prefixes:
                net(**given)
            for i, (before, behind) in enumerate(pairwise(prefixes)):
                turned = 1 - F.cosine_similarity(before.float(), behind.float(), dim=-1)
                turns[i] += float(rows_that_count(turned[..., None], net.counted(given)).sum())
            seen.append(Looked(given, prefixes[-1]))
    return seen, turns


Sets = Sequence[Sequence[int]]
Pick = Callable[[Network, "Sequence[Looked]", Sets], tuple[int, float]]
"""(network, what it was seen to do, sets of blocks): which set is missed least, and what the loss
is foreseen to rise by without it, in nats per example."""


def _pick(net: Network, seen: Sequence[Looked], sets: Sets) -> tuple[int, float]:
    """Of blocks that add nothing, while the others stay as they are."""
    rises = rises_without(net, seen, sets[:CHECKED])
    at = min(range(len(rises)), key=rises.__getitem__)
    return at, rises[at]


def rises_without(net: Network, seen: Sequence[Looked], sets: Sets) -> list[float]:
    """Of every set of blocks that add nothing, the divergence of the answers."""
    return divergences(net, seen, [(net, gone) for gone in sets])


def divergences(
    net: Network, seen: Sequence[Looked], others: Sequence[tuple[Network, Sequence[int]]]
) -> list[float]:
    """Of the answers of other networks, of which some blocks add nothing, from those of the one
    that was seen, in nats per example."""
    rises = [0.0] * len(others)
    read, numbers = _answers_of(net)
    with net.evaluating(), threads_for(net), torch.inference_mode():
        for batch in seen:
            with net.injecting(batch.y):
                whole = read(net, batch.given).float()
            for number, (other, gone) in enumerate(others):
                with other.evaluating(), other.bypassing(gone):
                    now = read(other, batch.given).float()
                rises[number] += float(_apart(now, whole, numbers))
    examples = sum(batch.examples for batch in seen)
    return [rise / examples for rise in rises]


def _apart(answers: Tensor, whole: Tensor, numbers: bool) -> Tensor:
    """The divergence of answers [rows, classes] from those of the whole network, summed."""
    if numbers:
        return (answers - whole).square().sum() / 2
    return F.kl_div(
        answers.log_softmax(-1), whole.log_softmax(-1), reduction="sum", log_target=True
    )


def _of_trace_one_(square: Tensor) -> Tensor:
    return square.div_(square.diagonal().sum().clamp_min(torch.finfo(square.dtype).tiny))


def _answers_of(net: Network) -> tuple[Callable[[Network, Batch], Tensor], bool]:
    """How the answers of this network are read, [rows, classes], and whether they are numbers: as
    its task has it; where its head is for none, what it puts out are numbers."""
    try:
        task = task_of(net)
    except UnsupportedError:
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
    # where a uniform number falls among the chances: classes without a chance change no draw
    below = exact(answers.detach()).softmax(-1).cpu().cumsum(-1)
    at = torch.rand(len(below), 1, generator=generator, dtype=torch.float64) * below[:, -1:]
    target = torch.searchsorted(below, at, right=True)[:, 0].clamp(max=below.shape[-1] - 1)
    return F.cross_entropy(answers, target.to(answers.device), reduction="sum")


@contextmanager
def _frozen(net: Network) -> Iterator[None]:
    """Inside, no parameter takes a gradient."""
    trained = [p for p in net.model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
