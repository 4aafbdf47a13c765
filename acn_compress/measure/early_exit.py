"""Early exit: an example leaves the network at the first depth whose own readout is sure enough
(arXiv 2506.09714, section on early exit).

Sure enough: the softmax of y_k's logits, read through the model's own norm, pooling and head, has
    an entropy of at most a threshold, in
nats (natural logarithm): 0 is certainty, log(classes) is indifference, and a negative threshold is
    never met. What has left nowhere is
answered by the whole network. A batch leaves when all of its examples are sure. `onnx_exit.py`
builds the same into an ONNX file.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from acn_compress.errors import ConfigError, UnsupportedError
from acn_compress.found import Found
from acn_compress.measure.budget import flops, flops_per_example
from acn_compress.measure.intervals import Array, interval
from acn_compress.measure.quality import Scores, outputs, paired, summary
from acn_compress.measure.readouts import compiled_readout, readout
from acn_compress.network.threads import threads_for
from acn_compress.quality import Drop, Quality
from acn_compress.tasks import task_of
from acn_compress.tasks.base import features

if TYPE_CHECKING:
    from acn_compress.data.load import Data, Noise
    from acn_compress.network.network import Network

TIMED = 100  # examples whose seconds are measured, at most
ROUNDS = 3  # measurements of each


class Leaving(Found):
    """Who leaves at one depth."""

    depth: int
    share: float
    """Of the examples."""


class ExitFlops(Found):
    """Floating-point operations per example, readouts included."""

    full: float
    early: float
    speedup: float


class ExitSeconds(Found):
    """Seconds per example at batch size 1, stopping for real, against the plain forward pass."""

    full: float
    """Mean over the examples of each one's median of `ROUNDS`."""
    early: float
    speedup: float
    """Their ratio, with its 95 % interval (bootstrap over examples)."""
    low: float
    high: float
    examples: int
    threads: int


class Exits(Found):
    """What early exit costs and saves."""

    entropy: float
    """The threshold, in nats."""
    result: Quality
    drop: Drop
    """To the full depth."""
    mean_depth: float
    depths: tuple[Leaving, ...]
    """1 to L."""
    flops: ExitFlops
    seconds: ExitSeconds


def entropy(logits: Tensor) -> Tensor:
    """Of the softmax, in nats: [..., classes] to [...]."""
    log_share = logits.float().log_softmax(-1)
    return -(log_share.exp() * log_share).sum(-1)


def check_exit(net: Network, threshold: float, name: str) -> None:
    """Refuse a threshold that no entropy can be under, and a model without one class per example.

    Raises:
        ConfigError, UnsupportedError: in one line.
    """
    if not 0 <= threshold < math.inf:
        raise ConfigError(
            f"exit_entropy is {threshold}, expected a number of nats, for example 0.7 (0 is "
            "certainty)."
        )
    if not (task := task_of(net)).one_class:
        raise UnsupportedError(
            f"exit_entropy needs a classifier of images or of texts, but {name} is for "
            f"{task.name}. Leave the option out."
        )


class EarlyExit:
    """A classifier (in evaluation mode) that stops as soon as it is sure: the blocks behind the
    exit do not run.

    Args:
        net: in any form.
        threshold: nats; the largest entropy with which an example leaves. A batch leaves when all
            of its examples do.
    """

    def __init__(self, net: Network, threshold: float) -> None:
        self.net, self.threshold = net, threshold
        self._depth = net.depth
        self._readouts: dict[tuple[Any, ...], Callable[..., Tensor]] = {}

    def __call__(self, inputs: dict[str, Tensor]) -> tuple[Any, int]:
        """The model's output for `inputs` (what it is called with, without labels), and the depth
        (1 to L) it was read at."""
        asked: list[int] = []

        def leave(k: int, y: Tensor) -> bool:
            asked.append(k)
            return k < self._depth and bool(
                (entropy(self._read(y, inputs)) <= self.threshold).all()
            )

        with torch.inference_mode(), self.net.leaving(leave):
            output = self.net(**inputs)
        return output, asked[-1]

    def _read(self, y: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        shapes = (y.shape, *(v.shape for v in inputs.values()))
        if shapes not in self._readouts:
            self._readouts[shapes] = compiled_readout(self.net, y, inputs)
        return self._readouts[shapes](y, inputs)


def exits(entropies: Tensor, threshold: float) -> Tensor:
    """Where each example leaves, as an index from 0: [L, batch] (of y_1 to y_L, nats) to
    [batch]."""
    sure = entropies <= threshold
    sure[-1] = True
    return sure.int().argmax(0)


def first_sure(readouts: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Each example's logits where it leaves, and the depth: [L, batch, classes] (y_1 to y_L) to
    [batch, classes] and [batch], from 1."""
    index = exits(entropy(readouts), threshold)
    return readouts[index, torch.arange(len(index), device=index.device)], index + 1


def measure_exits(
    net: Network, data: Data, threshold: float, *, batch_size: int = 256, noise: Noise | None = None
) -> tuple[Scores, Array]:
    """Score every example where it leaves on its own, in the order of `quality.measure`, and its
    depth ([examples]): one pass in which the prefixes are recorded and read out."""
    scored: list[Scores] = []
    depths: list[Tensor] = []
    with net.recording() as prefixes:
        for output, batch in outputs(net, data, batch_size=batch_size, noise=noise):
            with torch.inference_mode():
                early = [readout(net, y, batch).logits for y in prefixes[1:-1]]
                logits, depth = first_sure(torch.stack([*early, output.logits]), threshold)
                left = data.task.score(SimpleNamespace(logits=logits), batch)
            scored.append(Scores.of(left, data.task.reach))
            depths.append(depth.cpu())
            prefixes.clear()
    return Scores.joined(scored), torch.cat(depths).numpy()


def exit_flops(net: Network, batch: dict[str, Tensor]) -> tuple[Array, float]:
    """Of one example as `EarlyExit` runs it, by the depth it leaves at ([L], depth 1 first), and of
    the plain forward pass.

    Every depth tried costs a readout, and the one that answers is the model's own: leaving at k < L
    is k readouts and one more.
    """
    depth = net.depth
    given, found = features(batch), []
    with torch.no_grad(), net.recording() as prefixes:
        net(**given)
        head = flops(partial(compiled_readout(net, prefixes[-1], given), prefixes[-1], given))
    for k in range(1, depth + 1):
        with net.leaving(lambda at, y, k=k: at == k):  # type: ignore[misc]
            found.append(flops_per_example(net, given))
    tried = np.minimum(np.arange(1, depth + 1), depth - 1)
    return np.asarray(found) + tried * head / len(prefixes[-1]), found[-1]


def time_exits(
    net: Network, data: Data, threshold: float, *, noise: Noise | None = None, seed: int = 0
) -> ExitSeconds:
    """Seconds per example at batch size 1, stopping for real, against the plain forward pass: side
    by side on the same examples.

    Returns:
        full, early (mean over examples of each one's median of `ROUNDS`), speedup (their ratio)
        with low and high (95 %, bootstrap over examples), examples, threads.
    """
    run, device = EarlyExit(net, threshold), net.device
    batches = [features(batch) for batch in data.sample(TIMED, device=device, noise=noise)]
    # the copy to the processor waits for an accelerator to finish
    calls = (lambda batch: net(**batch).logits.cpu(), lambda batch: run(batch)[0].logits.cpu())
    seconds = np.zeros((2, ROUNDS, len(batches)))
    with threads_for(net), torch.inference_mode():
        for batch in batches:  # compiles the readouts of every shape, and warms up
            run(batch)
        for at, i in np.ndindex(ROUNDS, len(batches)):
            for which in (0, 1) if (at + i) % 2 else (1, 0):
                started = time.perf_counter()
                calls[which](batches[i])
                seconds[which, at, i] = time.perf_counter() - started
        threads = torch.get_num_threads()
    full, early = np.median(seconds, 1)
    low, high = interval(full, early, seed=seed)
    return ExitSeconds(
        full=float(full.mean()),
        early=float(early.mean()),
        speedup=float(full.sum() / early.sum()),
        low=low,
        high=high,
        examples=len(batches),
        threads=threads,
    )


def evaluate_exits(
    net: Network,
    data: Data,
    threshold: float,
    full: Scores,
    *,
    batch_size: int = 256,
    noise: Noise | None = None,
    seed: int = 0,
) -> Exits:
    """What early exit costs and saves.

    Args:
        net: a classifier.
        threshold: nats.
        full: the whole network's scores on the same examples.
        seed: of the bootstraps.
    """
    scores, depths = measure_exits(net, data, threshold, batch_size=batch_size, noise=noise)
    shares = np.bincount(depths, minlength=net.depth + 1)[1:] / len(depths)
    batches = list(data.sample(TIMED, device=net.device))
    middle = batches[len(batches) // 2]  # of a middle length, where texts differ
    cost, plain = exit_flops(net, middle)
    early = float(cost @ shares)
    return Exits(
        entropy=threshold,
        result=summary(scores, data.task, seed=seed),
        drop=paired(scores, full, seed=seed),
        mean_depth=float(depths.mean()),
        depths=tuple(Leaving(depth=k, share=float(s)) for k, s in enumerate(shares, 1)),
        flops=ExitFlops(full=plain, early=early, speedup=plain / early),
        seconds=time_exits(net, data, threshold, noise=noise, seed=seed),
    )
