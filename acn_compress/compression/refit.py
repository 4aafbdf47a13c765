"""Least-squares refit: without training, a network that lost blocks is led back to what the whole
one computed.

y_k is linear in the output layers of block k (what attention and MLP write into the stream), so
each of them is solved for in closed form, block after block, on a few examples:

    minimise over W, b   sum over tokens  w * |y_k - t_k|^2  +  ridge * |W - W_0|^2

t_k is the whole network's y before the block that follows k among the kept ones, and behind the
last block for the last. There, tokens weigh
as much as the answer depends on them: a head that reads one token needs that one. The ridge is what
    does best on a quarter of the examples held out; a
layer that cannot be bettered there stays. In a post-norm network t_k is brought through the inverse
of the norm behind the block, whose weights become those of the norm behind t_k; only the MLP is
solved for. Nothing is added: the refitted layers have the shapes they had.

Reconstruction by least squares after pruning: He et al., arXiv 1707.06168; in place of removed
blocks: Shopkhoev et al., arXiv 2505.02819.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from acn_compress.architectures import Cut
from acn_compress.data.load import Data
from acn_compress.errors import ConfigError
from acn_compress.measure.budget import forward_flops
from acn_compress.measure.quality import threads_for
from acn_compress.network.network import Network, first_output
from acn_compress.network.widths import dim
from acn_compress.tasks import features

EXAMPLES = 2048  # that a refit is solved on
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # as shares of the mean square of the layer's inputs
ENOUGH = 32  # rows for every feature that is solved for
BATCH, FEWEST = 32, 8  # examples of a batch, and the fewest batches
HELD_OUT = 4  # every 4th batch
ALONG_FEATURES = (
    "heads",
    "mlp",
)  # widths whose layers write features of a token; a Mixer's "tokens" write along the other axis


def refit_(net: Network, whole: Network, data: Data) -> float:
    """Solve the output layers of `model`'s blocks so that its prefix sums follow `whole`'s, in
    place. Blocks in front of the first gap stay as they are.

    Args:
        net: some of `whole`'s blocks, in any form (post-norm families: residual); both in
            evaluation mode.
        whole: the network it was cut from; it may share the parameters of `model`, which are
            replaced, not written to.
        data: unlabelled as far as this is concerned.
    Returns:
        The floating-point operations it took.
    Raises:
        ConfigError: if `model` was not cut from `whole`, has zeros to keep, or is a hybrid of a
            post-norm family.
    """
    if (why := refused(net)) is not None:
        raise ConfigError(why)
    spent = 0.0
    with threads_for(net):
        for k, goal, cut, flops in _plan(net, whole):
            if (norm := net.norm_behind(k)) is not None:
                _adopt_norm_(norm, cast(nn.Module, whole.norm_behind(goal - 1)))
            solver = _Solver()
            for examples, (x, missing, weight) in _rows(net, whole, data, k, goal, cut):
                solver.add(x, missing, weight)
                spent += examples * flops
            _write_(net.blocks[k].get_submodule(cut.path), solver)
            spent += solver.flops
    return spent


def refused(net: Network) -> str | None:
    """Why a model cannot be refitted, or None."""
    own = net.structure
    if own.sparsity > 0:
        return "a refit would fill the zeros of a pruned model. Refit first, prune then."
    if own.form != "residual" and net.norm_behind(0) is not None:
        return f"a post-norm network is refitted in residual form; this one is in {own.form} form. Refit first, convert then."
    return None


def price(net: Network, whole: Network) -> float:
    """Floating-point operations per example of running both networks for a refit, at most; solving
    comes on top. 0 where there is nothing to refit."""
    return sum(flops for *_, flops in _plan(net, whole))


def _plan(net: Network, whole: Network) -> list[tuple[int, int, Cut, float]]:
    """What a refit solves, in order: block of `model`, blocks of `whole` that its prefix sum stands
    for, layer, operations per example."""
    goals = _goals(net, whole)
    outside, block = forward_flops(whole)
    return [
        (k, goals[k], cut, 2 * outside + (k + 1 + goals[k]) * block)
        for k in range(_first_gap(net, whole, goals), len(goals))
        for cut in _writers(net, k)
    ]


def _goals(net: Network, whole: Network) -> tuple[int, ...]:
    """For every block of `model`: how many blocks of `whole` its prefix sum stands for."""
    own, all_ = net.structure, whole.structure
    places = {source: i for i, source in enumerate(all_.blocks)}
    if own.source_blocks != all_.source_blocks or not set(own.blocks) <= set(places):
        raise ConfigError("a refit needs the network that the model was cut from.")
    return (*(places[b] for b in own.blocks[1:]), len(all_.blocks))


def _first_gap(net: Network, whole: Network, goals: tuple[int, ...]) -> int:
    """The first block whose prefix sum is not the whole network's already."""
    own, all_ = net.structure, whole.structure
    if own.layer != all_.layer and (own.form, all_.form) != ("residual", "residual"):
        return 0
    same = (own.alphas_of(k) == all_.alphas_of(k) and goal == k + 1 for k, goal in enumerate(goals))
    return next((k for k, right in enumerate(same) if not right), len(goals))


def _adopt_norm_(norm: nn.Module, other: nn.Module) -> None:
    for name, parameter in other.named_parameters():
        norm.register_parameter(
            name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
        )


def _writers(net: Network, k: int) -> list[Cut]:
    """The layers of block k that write into the stream, in order; only what stands right before its
    norm in a post-norm block."""
    widths = net.family.widths(net.blocks[k])
    names = ALONG_FEATURES if net.norm_behind(k) is None else ALONG_FEATURES[1:]
    return [cut for name in names if name in widths for cut in widths[name].inputs]


def _rows(
    net: Network, whole: Network, data: Data, k: int, goal: int, cut: Cut
) -> Iterator[tuple[int, tuple[Tensor, Tensor, Tensor]]]:
    """Per batch its examples and: inputs of a layer of block k [rows, features], what its output
    lacks for y_k to be the goal [rows, width], weights [rows]. Where every example gives many rows,
    batches are passed over, evenly."""
    block = net.blocks[k]
    norm, last = net.norm_behind(k), goal == whole.depth
    scale = None if cut.scale is None else block.get_parameter(cut.scale).detach()
    size = min(BATCH, max(1, len(data) // FEWEST))
    stride, batches = 1, -(-len(data) // size)
    for number, batch in enumerate(data.batches(size, device=net.device)):
        if number % stride:
            continue
        given = features(batch)
        seen: dict[str, Tensor] = {}
        with torch.no_grad():
            target = _prefix(whole, given, goal)
            with ExitStack() as hooks:
                _catch(hooks, block.get_submodule(cut.path), seen, "x")
                if norm is not None:
                    _catch(hooks, norm, seen, "z")
                y = _prefix(net, given, k + 1)
            if norm is None:
                missing = target.float() - y.float()
            else:  # the input of the norm that comes out at the target, as large as the one there is
                scaled = target.float() - norm.get_parameter("bias")
                z, standard = seen["z"].float(), scaled / norm.get_parameter("weight")
                missing = (
                    z.std(-1, correction=0, keepdim=True) * standard + z.mean(-1, keepdim=True) - z
                )
            if scale is not None:
                missing = missing / scale
        weight = (
            _attention_to(whole, given, target)
            if last
            else torch.ones(y.shape[:-1], device=y.device)
        )
        if (mask := given.get("attention_mask")) is not None and mask.shape == weight.shape:
            weight = weight * mask
        counts = weight > 1e-6 * weight.max()
        x = seen["x"][counts]
        if number == 0:
            stride = max(1, min(len(x) * batches // (ENOUGH * x.shape[-1]), batches // FEWEST))
        yield len(y), (x.double(), missing[counts].double(), weight[counts].double())


def _prefix(net: Network, given: dict[str, Tensor], depth: int) -> Tensor:
    """y_depth, [batch, ..., width]; no block behind it runs."""
    with (
        net.leaving(lambda k, y: k == depth),
        net.recording() as prefixes,
    ):
        net(**given)
    return prefixes[depth]


def _catch(hooks: ExitStack, module: nn.Module, seen: dict[str, Tensor], name: str) -> None:
    def catch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[name] = inputs[0].detach()

    hooks.callback(module.register_forward_pre_hook(catch).remove)


def _attention_to(whole: Network, given: dict[str, Tensor], y: Tensor) -> Tensor:
    """How much the answer moves with each token of y_L: the squared gradient of a fixed mixture of
    its numbers, [batch, ...]."""
    y = y.detach().requires_grad_()
    with torch.enable_grad(), whole.injecting(y):
        answer = first_output(whole(**given)).float()
        (gradient,) = torch.autograd.grad(
            (answer * torch.linspace(1, 2, answer.shape[-1], device=y.device)).sum(), y
        )
    return gradient.float().square().sum(-1)


@dataclass
class _Normal:
    """The normal equations of weighted rows, inputs with a one behind them."""

    gram: Tensor | float = 0.0
    cross: Tensor | float = 0.0
    square: float = 0.0

    def __add__(self, other: _Normal) -> _Normal:
        return _Normal(self.gram + other.gram, self.cross + other.cross, self.square + other.square)

    def solve(self, ridge: float, bias: bool) -> Tensor:
        """The change [features + 1, width]; its last row is that of the bias."""
        gram, cross = torch.as_tensor(self.gram), torch.as_tensor(self.cross)
        n = len(gram) - (0 if bias else 1)
        penalty = torch.full(
            (n,),
            ridge * float(gram.diagonal()[:-1].mean()) + 1e-12,
            dtype=gram.dtype,
            device=gram.device,
        )
        if bias:
            penalty[-1] = 1e-9 * float(gram[-1, -1])
        found = torch.zeros_like(cross)
        found[:n] = torch.linalg.solve(gram[:n, :n] + penalty.diag(), cross[:n])
        return found

    def error(self, change: Tensor) -> float:
        """What is left of the squares, after a change."""
        gram, cross = torch.as_tensor(self.gram), torch.as_tensor(self.cross)
        return self.square + float((change * (gram @ change - 2 * cross)).sum())


@dataclass
class _Solver:
    """Gathers the rows of one layer."""

    fitted: _Normal = field(default_factory=_Normal)
    held: _Normal = field(default_factory=_Normal)
    batches: int = 0
    flops: float = 0.0

    def add(self, x: Tensor, missing: Tensor, weight: Tensor) -> None:
        self.batches += 1
        x = torch.cat([x, x.new_ones(len(x), 1)], 1)
        weighted = weight[:, None] * missing
        part = _Normal(
            (weight[:, None] * x).T @ x, x.T @ weighted, float((weighted * missing).sum())
        )
        self.flops += 2.0 * len(x) * x.shape[1] * (x.shape[1] + missing.shape[1])
        if self.batches % HELD_OUT == 0:
            self.held += part
        else:
            self.fitted += part

    def best(self, bias: bool) -> Tensor | None:
        """The change with the ridge that leaves least on the rows held out, from all rows; None if
        it is no better there than none."""
        if isinstance(self.held.gram, float):  # one batch: nothing to decide on
            return None
        left = {ridge: self.held.error(self.fitted.solve(ridge, bias)) for ridge in RIDGES}
        ridge = min(left, key=left.__getitem__)
        return (
            (self.fitted + self.held).solve(ridge, bias) if left[ridge] < self.held.square else None
        )


def _write_(layer: Any, solver: _Solver) -> None:
    """Give a linear layer (nn.Linear, or transformers' Conv1D, which stores [in, out]) its new
    weights."""
    change = solver.best(layer.bias is not None)
    if change is None:
        return
    weight = change[:-1] if dim(layer, output=True) == 1 else change[:-1].T
    layer.weight = nn.Parameter(
        (layer.weight.detach().double() + weight).to(layer.weight.dtype), layer.weight.requires_grad
    )
    if layer.bias is not None:
        layer.bias = nn.Parameter(
            (layer.bias.detach().double() + change[-1]).to(layer.bias.dtype),
            layer.bias.requires_grad,
        )
