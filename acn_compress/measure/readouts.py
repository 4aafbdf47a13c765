"""What every depth is worth and what every block adds, from ONE pass over the data.

The stack's prefix sums y_0 .. y_L are recorded while the model runs, and each y_k is then read
through the model's own norm, pooling and head: one forward pass and L cheap readouts per batch.
Further measures are options; those that need more passes say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from acn_compress import processes
from acn_compress.found import Found
from acn_compress.measure.intervals import (
    RESAMPLES,
    difference,
    examples_until,
    mean_intervals,
)
from acn_compress.measure.quality import Scores, measure, summary
from acn_compress.network.device import exact
from acn_compress.network.threads import threads_for
from acn_compress.quality import Drop, Quality
from acn_compress.tasks.base import Scored, divergence, features

if TYPE_CHECKING:
    from acn_compress.data.load import Data
    from acn_compress.network.network import Network
    from acn_compress.options import Bound


def readout(net: Network, y: Tensor, batch: dict[str, Tensor]) -> Any:
    """The model's output for y_k ([batch, ..., width]), through its own norm, pooling and head."""
    given = features(batch)
    if (
        "attention_mask" not in given
    ):  # what follows the stack does not look at the input: embed one
        given = {name: tensor[:1] for name, tensor in given.items()}
    with net.injecting(y):
        return net(**given)


def compiled_readout(net: Network, y: Tensor, batch: dict[str, Tensor]) -> Callable[..., Tensor]:
    """The logits of `readout` as a function of (y, batch) for tensors of these shapes: a graph of
    only what follows the stack, so that neither the embedding nor the model's own code runs
    again."""
    from torch.fx.experimental.proxy_tensor import make_fx

    def read(y: Tensor, batch: dict[str, Tensor]) -> Tensor:
        logits: Tensor = readout(net, y, batch).logits
        return logits

    with (
        torch.inference_mode(False),
        torch.no_grad(),
    ):  # tensors of inference mode cannot be traced, their copies can
        given = y.clone(), {k: v.clone() for k, v in features(batch).items()}
        graph = make_fx(read, tracing_mode="fake", _allow_non_fake_inputs=True)(*given)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


class Depth(Found):
    """What the network is worth at one depth."""

    depth: int
    """Blocks kept; 0 is the embedding alone."""
    value: float
    low: float
    high: float
    loss: float
    drop: float
    """To the full depth, paired, with its 95 % interval."""
    drop_low: float
    drop_high: float
    agreement: float | None = None
    """Share of the answers that are those of the full depth."""
    kl: float | None = None
    """Of the answers at this depth from those of the full one, in nats."""
    mse: float | None = None
    """Where the answers are numbers: squared error to those of the full depth."""

    @property
    def lost(self) -> Drop:
        """To the full depth."""
        return Drop(drop=self.drop, low=self.drop_low, high=self.drop_high)


class Contribution(Found):
    """What one block adds to the output; block 0 is the embedding."""

    block: int
    share: float
    """Of the summed norms."""
    cosine: float
    """To the output."""
    influence: float | None = None
    angle: float | None = None
    cka: float | None = None
    leave_one_out: float | None = None
    taylor: float | None = None
    without: float | None = None
    """Of a block: what the loss is foreseen to rise by without it and those that are missed less,
    in nats per example."""
    heads: float | None = None
    """Likewise, without its heads,"""
    mlp: float | None = None
    """without its MLP features,"""
    tokens: float | None = None
    """without the features of its token mixing."""


class Readouts(Found):
    """Quality at every depth and contribution of every block."""

    full: Quality
    depths: tuple[Depth, ...]
    """0 to L."""
    blocks: tuple[Contribution, ...]
    """0 (the embedding) to L."""
    resamples: int
    """Of the bootstraps."""
    from_original: tuple[Drop, ...] | None = None
    """Of every depth, how far it lies below the original of the chain, where that was measured."""


def profile_model(
    net: Network,
    data: Data,
    *,
    extras: tuple[str, ...] = (),
    batch_size: int = 256,
    seed: int = 0,
    original: Scores | None = None,
) -> Readouts:
    """Quality at every depth and contribution of every block.

    Args:
        net: in any form.
        data: to measure on.
        extras: any of `options.Measure`: "influence" (block influence, arXiv 2403.03853, and
            angular distance, arXiv 2403.17887), "cka" (linear CKA of y_k with y_L), "leave-one-out"
            (one more pass per block), "taylor" (one more pass, with gradients). "worth" is the
            step's.
        seed: of the bootstrap.
        original: of the chain, on the same rows; not used if it reads other examples out of them.
    """
    scores, sums = processes.together(_read_out, net, data, batch_size, extras)
    with net.evaluating(), threads_for(net):
        further = _extra_measures(net, data, extras, sums, batch_size, scores[-1].mean_loss)
    if original is not None and len(original.score) != len(scores[-1].score):
        original = None
    return _summarise(scores, original, sums, further, data, seed)


def _read_out(
    net: Network, data: Data, batch_size: int, extras: tuple[str, ...]
) -> tuple[list[Scores], _Sums]:
    """The scores at every depth, and what is summed over the data; several processes share the
    batches."""
    depths = net.depth + 1
    scored: list[list[Scores]] = []  # by batch, then depth
    sums = _Sums(depths, "cka" in extras, "influence" in extras)
    with torch.inference_mode(), net.evaluating(), threads_for(net):
        for batch in data.batches(batch_size, device=net.device, part=processes.part()):
            with net.recording() as prefixes:
                full = data.task.score(net(**features(batch)), batch)
            scored.append([])
            for k in range(depths):
                read = (
                    full
                    if k == depths - 1
                    else data.task.score(readout(net, prefixes[k], batch), batch)
                )
                scored[-1].append(Scores.of(read, data.task.reach))
                sums.add_readout(k, read, full)
            sums.add_prefixes(prefixes, net.counted(batch))
        sums.share_()
    whole = zip(*processes.joined(scored), strict=True)
    return [Scores.joined(list(parts)) for parts in whole], sums


@dataclass
class _Sums:
    """Running sums over the data; weights are rows of logits for readouts, tokens for prefixes."""

    depths: int
    similarity: bool
    """What CKA needs is gathered,"""
    turns: bool
    """and what block influence does."""

    def __post_init__(self) -> None:
        self.rows, self.tokens, self.numbers = 0.0, 0.0, False
        self.agree, self.apart = np.zeros(self.depths), np.zeros(self.depths)
        self.norm, self.cosine = np.zeros(self.depths), np.zeros(self.depths)
        self.turn, self.angle = np.zeros(self.depths), np.zeros(self.depths)
        self.pooled: list[list[Tensor]] = [[] for _ in range(self.depths)]

    def share_(self) -> None:
        """Add up what all processes have."""
        kept = (self.agree, self.apart, self.norm, self.cosine, self.turn, self.angle)
        counts, sums = processes.summed(
            torch.tensor([self.rows, self.tokens], dtype=torch.float64),
            torch.from_numpy(np.stack(kept)),
        )
        self.rows, self.tokens = counts.tolist()
        self.agree, self.apart, self.norm, self.cosine, self.turn, self.angle = sums.numpy()
        self.numbers = bool(processes.largest(int(self.numbers)))
        self.pooled = [processes.joined(parts) for parts in self.pooled]

    def add_readout(self, depth: int, read: Scored, full: Scored) -> None:
        if depth == 0:
            self.rows += len(read.logits)
        self.numbers = read.numbers
        self.agree[depth] += float((read.prediction == full.prediction).sum())
        self.apart[depth] += float(divergence(read, full).sum())

    def add_prefixes(self, prefixes: list[Tensor], mask: Tensor | None) -> None:
        """y_0 .. y_L, each [batch, ..., width]; of text only the tokens that `mask` ([batch,
        length]) keeps."""
        if self.similarity:
            for k, y in enumerate(prefixes):
                self.pooled[k].append(_pooled(y, mask))
        if mask is not None:
            prefixes = [y[mask.bool()] for y in prefixes]
        last = prefixes[-1].float()
        self.tokens += last[..., 0].numel()
        before: Tensor | None = None
        for k, y in enumerate(prefixes):
            now = y.float()
            added = now if before is None else now - before
            self.norm[k] += float(added.norm(dim=-1).sum())
            self.cosine[k] += float(F.cosine_similarity(added, last, dim=-1).sum())
            if before is not None and self.turns:
                turned = F.cosine_similarity(before, now, dim=-1).clamp(-1, 1)
                self.turn[k] += float((1 - turned).sum())
                self.angle[k] += float(turned.arccos().sum() / torch.pi)
            before = now

    def answers(self, depth: int) -> dict[str, float]:
        """How the answers at a depth compare with the whole network's: agreement and KL of classes,
        or the squared error of numbers."""
        if self.numbers:
            return {"mse": self.apart[depth] / self.rows}
        return {"agreement": self.agree[depth] / self.rows, "kl": self.apart[depth] / self.rows}

    def cka(self) -> list[float]:
        """Linear CKA (arXiv 1905.00414) of the mean-pooled y_k with y_L."""
        centred = [torch.cat(p) - torch.cat(p).mean(0) for p in self.pooled]
        last = centred[-1]
        own = [(c.T @ c).norm() for c in centred]
        return [
            float((c.T @ last).norm() ** 2 / (own[k] * own[-1]).clamp(min=1e-30))
            for k, c in enumerate(centred)
        ]


def _pooled(y: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over the tokens: [batch, width]."""
    tokens = exact(y.flatten(1, -2) if y.dim() > 2 else y[:, None])
    weight = torch.ones(tokens.shape[:2]) if mask is None else mask
    weight = weight.to(tokens.device)
    return ((tokens * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)).cpu()


def _summarise(
    scores: list[Scores],
    original: Scores | None,
    sums: _Sums,
    further: dict[str, list[float]],
    data: Data,
    seed: int,
) -> Readouts:
    full = scores[-1]
    values = np.stack([s.score for s in scores], 1)
    low, high = mean_intervals(values, full.weight, full.reach, seed=seed)
    drops = _drops(scores, full, seed)
    drops[-1] = Drop(drop=0.0, low=0.0, high=0.0)
    depths = [
        Depth(
            depth=k,
            **_rounded(
                value=s.value,
                low=low[k],
                high=high[k],
                loss=s.mean_loss,
                drop=drops[k].drop,
                drop_low=drops[k].low,
                drop_high=drops[k].high,
                **sums.answers(k),
            ),
        )
        for k, s in enumerate(scores)
    ]
    share = sums.norm / sums.norm.sum()
    blocks = [
        Contribution(
            block=k,
            **_rounded(share=share[k], cosine=sums.cosine[k] / sums.tokens),
            **_rounded(**{name: values[k] for name, values in further.items()}),
        )
        for k in range(len(scores))
    ]
    return Readouts(
        full=summary(full, data.task, seed=seed),
        depths=tuple(depths),
        blocks=tuple(blocks),
        resamples=RESAMPLES,
        from_original=None if original is None else tuple(_drops(scores, original, seed)),
    )


def _drops(scores: list[Scores], reference: Scores, seed: int) -> list[Drop]:
    """How far every depth lies below a network."""
    apart = reference.score[:, None] - np.stack([s.score for s in scores], 1)
    weight, reach = scores[-1].weight, difference(reference.reach)
    low, high = mean_intervals(apart, weight, reach, seed=seed)
    return [
        Drop(**_rounded(drop=reference.value - s.value, low=low[k], high=high[k]))
        for k, s in enumerate(scores)
    ]


def _rounded(**values: float) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in values.items()}


def _extra_measures(
    net: Network,
    data: Data,
    extras: tuple[str, ...],
    sums: _Sums,
    batch_size: int,
    loss: float,
) -> dict[str, list[float]]:
    """Each measure with one value per row of `blocks`; the embedding's is 0 where it has none."""
    found: dict[str, list[float]] = {}
    if "influence" in extras:
        found["influence"] = [float(v) for v in sums.turn / sums.tokens]
        found["angle"] = [float(v) for v in sums.angle / sums.tokens]
    if "cka" in extras:
        found["cka"] = sums.cka()
    if "leave-one-out" in extras:
        found["leave_one_out"] = [0.0]
        for i in range(sums.depths - 1):
            with net.bypassing((i,)):
                found["leave_one_out"].append(_mean_loss(net, data, batch_size) - loss)
    if "taylor" in extras:
        found["taylor"] = [0.0, *_taylor(net, data, batch_size)]
    return found


def _mean_loss(net: Network, data: Data, batch_size: int) -> float:
    return measure(net, data, batch_size=batch_size).mean_loss


def _taylor(net: Network, data: Data, batch_size: int) -> list[float]:
    """First-order estimate of the loss added when a block's contribution to y is removed: -d loss /
    d gate."""
    total, weight = np.zeros(net.depth), 0.0
    for batch in data.batches(batch_size, device=net.device):
        with net.gating() as gates:
            read = data.task.score(net(**features(batch)), batch)
            (gradient,) = torch.autograd.grad((read.loss * read.weight).sum(), gates)
        total += -gradient.cpu().numpy()
        weight += float(read.weight.sum())
    return [float(v) for v in total / weight]


def cutoff(depths: Sequence[Depth], max_drop: float, bound: Bound = "upper") -> int | None:
    """The smallest depth (at least 1) whose drop is at most `max_drop`; None if there is none below
    the full depth.

    Args:
        bound: "upper": the upper end of the paired 95 % interval must pass; "point": the measured
            drop itself.
    """
    return smallest([d.lost for d in depths], max_drop, bound)


def smallest(drops: Sequence[Drop], max_drop: float, bound: Bound) -> int | None:
    """`cutoff`, of the drops of depths 0 to the full one from any network."""
    inner = range(1, len(drops) - 1)
    return next((k for k in inner if drops[k].within(max_drop, bound)), None)


class Unsettled(Found):
    """A depth below the cutoff whose drop passes as it was measured, but not with its interval."""

    depth: int
    examples: int | None
    """With about so many its interval would pass, if its drop is what was measured; None: with no
    number."""


def unsettled(
    depths: Sequence[Depth], max_drop: float, bound: Bound, examples: int
) -> Unsettled | None:
    """The smallest depth by the measured drop, where so many examples leave it open."""
    depth = cutoff(depths, max_drop, "point")
    if depth is None or depth == cutoff(depths, max_drop, bound):
        return None
    return Unsettled(depth=depth, examples=examples_until(max_drop, depths[depth].lost, examples))
