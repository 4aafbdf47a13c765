"""Least-squares refit: without training, a network that lost blocks (or heads and MLP features) is
led back to what the whole one computed.

y_k is linear in the output layers of block k (what attention and MLP write into the stream), so
each of these writers is solved for in closed form, block after block, on a few examples:

    minimise over W, b   sum over tokens  w * |y_k - t_k|^2  +  ridge * |W - W_0|^2

The goal t_k is the whole network's y before the block that follows k among the kept ones, and
behind the last block for the last. There, tokens weigh as much as the answer depends on them: a
head that reads one token needs that one. The ridge is what does best on a quarter of the examples
held out; a layer that cannot be bettered there stays. In a post-norm network t_k is brought through
the inverse of the norm behind the block, whose weights become those of the norm behind t_k; only
the MLP is solved for. Nothing is added: the refitted layers have the shapes they had.

Reconstruction by least squares after pruning: He et al., arXiv 1707.06168; in place of removed
blocks: Shopkhoev et al., arXiv 2505.02819.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from acn_compress.architectures import Cut
from acn_compress.compression.least_squares import Rows, Solver
from acn_compress.errors import ConfigError
from acn_compress.measure.budget import forward_flops
from acn_compress.network import widths
from acn_compress.network.network import Network, first_output
from acn_compress.network.threads import threads_for
from acn_compress.tasks.base import features

EXAMPLES = 2048  # that a refit is solved on
ENOUGH = 32  # rows for every feature that is solved for
BATCH, FEWEST = 32, 8  # examples of a batch, and the fewest batches
# widths whose layers write features of a token; a Mixer's "tokens" write along the other axis
ALONG_FEATURES = ("heads", "mlp")


class Batches(Protocol):
    """All that a refit asks of its data, `data.load.Data` for one; labels are not looked at."""

    def __len__(self) -> int: ...
    def batches(self, size: int, *, device: torch.device) -> Iterator[dict[str, Tensor]]: ...


@dataclass(frozen=True)
class Place:
    """One writer that a refit solves for.

    Args:
        block: its block, by position in the network that is refitted.
        goal: how many blocks of the whole network its block's prefix sum stands for.
        cut: the layer.
        flops: operations per example, at most, of running both networks for it.
    """

    block: int
    goal: int
    cut: Cut
    flops: float


def refit_(net: Network, whole: Network, data: Batches) -> float:
    """Solve the writers of `net` so that its prefix sums follow `whole`'s, in place. Blocks in
    front of the first that lost something stay as they are.

    Args:
        net: what is left of `whole`: some of its blocks, or blocks with some of their heads and
            features, in any form (post-norm families: residual); both in evaluation mode.
        whole: the network it was cut from; it may share the parameters of `net`, which are
            replaced, not written to.
        data: a few examples.
    Returns:
        The floating-point operations it took.
    Raises:
        ConfigError: if `net` was not cut from `whole`, has zeros to keep, or is a hybrid of a
            post-norm family.
    """
    if (why := refused(net)) is not None:
        raise ConfigError(why)
    with threads_for(net):
        return sum(refit_layer_(net, whole, data, place) for place in places(net, whole))


def refused(net: Network) -> str | None:
    """Why a network cannot be refitted, or None."""
    own = net.structure
    if own.sparsity > 0:
        return "a refit would fill the zeros of a pruned model. Refit first, prune then."
    if own.form != "residual" and net.norm_behind(0) is not None:
        return (
            "a post-norm network is refitted in residual form; "
            f"this one is in {own.form} form. Refit first, convert then."
        )
    return None


def price(net: Network, whole: Network) -> float:
    """Floating-point operations per example of running both networks for a refit, at most; solving
    comes on top. 0 where there is nothing to refit."""
    return sum(place.flops for place in places(net, whole))


def refit_layer_(net: Network, whole: Network, data: Batches, place: Place) -> float:
    """Solve for one writer, in place. Returns the floating-point operations it took."""
    if (norm := net.norm_behind(place.block)) is not None:
        _adopt_norm_(norm, cast(nn.Module, whole.norm_behind(place.goal - 1)))
    solver, spent = Solver(), 0.0
    for examples, rows in _rows(net, whole, data, place):
        solver.add(rows)
        spent += examples * place.flops
    _write_(net.blocks[place.block].get_submodule(place.cut.path), solver)
    return spent + solver.flops


# what is solved for, and what for


def places(net: Network, whole: Network, first: int | None = None) -> list[Place]:
    """What a refit solves for, in order.

    Args:
        first: the block to begin with; None is the first whose prefix sum is not the whole
            network's already.
    Raises:
        ConfigError: if `net` was not cut from `whole`.
    """
    goals = _goals(net, whole)
    first = _first_gap(net, whole, goals) if first is None else first
    outside, block = forward_flops(whole)
    return [
        Place(k, goals[k], cut, 2 * outside + (k + 1 + goals[k]) * block)
        for k in range(first, len(goals))
        for cut in _writers(net, k)
    ]


def _goals(net: Network, whole: Network) -> tuple[int, ...]:
    """For every block of `net`: how many blocks of `whole` its prefix sum stands for."""
    own, all_ = net.structure, whole.structure
    positions = {source: i for i, source in enumerate(all_.blocks)}
    if own.source_blocks != all_.source_blocks or not set(own.blocks) <= set(positions):
        raise ConfigError("a refit needs the network that the model was cut from.")
    return (*(positions[b] for b in own.blocks[1:]), len(all_.blocks))


def _first_gap(net: Network, whole: Network, goals: tuple[int, ...]) -> int:
    """The first block whose prefix sum is not the whole network's already."""
    own, all_ = net.structure, whole.structure
    if own.layer != all_.layer and (own.form, all_.form) != ("residual", "residual"):
        return 0
    units, all_units = widths.counts(net), widths.counts(whole)
    same = (
        goal == k + 1 and own.alphas_of(k) == all_.alphas_of(k) and units[k] == all_units[k]
        for k, goal in enumerate(goals)
    )
    return next((k for k, right in enumerate(same) if not right), len(goals))


def _writers(net: Network, k: int) -> list[Cut]:
    """The layers of block k that write into the stream, in order; only what stands right before its
    norm in a post-norm block."""
    found = net.family.widths(net.blocks[k])
    names = ALONG_FEATURES if net.norm_behind(k) is None else ALONG_FEATURES[1:]
    return [cut for name in names if name in found for cut in found[name].inputs]


# the rows


def _rows(net: Network, whole: Network, data: Batches, place: Place) -> Iterator[tuple[int, Rows]]:
    """Per batch its examples and rows. Where every example gives many rows, batches are passed
    over, evenly."""
    size = min(BATCH, max(1, len(data) // FEWEST))
    stride, batches = 1, -(-len(data) // size)
    for number, batch in enumerate(data.batches(size, device=net.device)):
        if number % stride:
            continue
        given = features(batch)
        rows = _rows_of(net, whole, given, place)
        if number == 0:
            enough = ENOUGH * rows.x.shape[-1]
            stride = max(1, min(len(rows.x) * batches // enough, batches // FEWEST))
        yield len(next(iter(given.values()))), rows


def _rows_of(net: Network, whole: Network, given: dict[str, Tensor], place: Place) -> Rows:
    """Of one batch: one row for every token that counts."""
    with torch.no_grad():
        target = _prefix(whole, given, place.goal)
        x, missing = _lacking(net, given, place, target)
    weight = _weight(whole, given, target, last=place.goal == whole.depth)
    counts = weight > 1e-6 * weight.max()
    return Rows(x[counts].double(), missing[counts].double(), weight[counts].double())


def _lacking(
    net: Network, given: dict[str, Tensor], place: Place, target: Tensor
) -> tuple[Tensor, Tensor]:
    """The inputs of the layer [batch, ..., features], and what its output lacks for y_k to be
    `target` [batch, ..., width]."""
    block, norm = net.blocks[place.block], net.norm_behind(place.block)
    seen: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        _catch(hooks, block.get_submodule(place.cut.path), seen, "x")
        if norm is not None:
            _catch(hooks, norm, seen, "z")
        y = _prefix(net, given, place.block + 1)
    missing = (
        target.float() - y.float()
        if norm is None
        else _before_norm(norm, seen["z"].float(), target.float())
    )
    if place.cut.scale is not None:
        missing = missing / block.get_parameter(place.cut.scale)
    return seen["x"], missing


def _before_norm(norm: nn.Module, z: Tensor, target: Tensor) -> Tensor:
    """What z, the input of a norm, lacks to come out at the target, as large as it is."""
    standard = (target - norm.get_parameter("bias")) / norm.get_parameter("weight")
    return z.std(-1, correction=0, keepdim=True) * standard + z.mean(-1, keepdim=True) - z


def _prefix(net: Network, given: dict[str, Tensor], depth: int) -> Tensor:
    """y_depth, [batch, ..., width]; no block behind it runs."""
    with net.leaving(lambda k, y: k == depth), net.recording() as prefixes:
        net(**given)
    return prefixes[depth]


def _catch(hooks: ExitStack, module: nn.Module, seen: dict[str, Tensor], name: str) -> None:
    """Until `hooks` close, what goes into a module is seen under a name."""

    def catch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[name] = inputs[0].detach()

    hooks.callback(module.register_forward_pre_hook(catch).remove)


def _weight(whole: Network, given: dict[str, Tensor], target: Tensor, last: bool) -> Tensor:
    """What each token counts for, [batch, ...]; padding for nothing."""
    weight = (
        _attention_to(whole, given, target)
        if last
        else torch.ones(target.shape[:-1], device=target.device)
    )
    mask = given.get("attention_mask")
    return weight if mask is None or mask.shape != weight.shape else weight * mask


def _attention_to(whole: Network, given: dict[str, Tensor], y: Tensor) -> Tensor:
    """How much the answer moves with each token of y_L: the squared gradient of a fixed mixture of
    its numbers, [batch, ...]."""
    y = y.detach().requires_grad_()
    with torch.enable_grad(), whole.injecting(y):
        answer = first_output(whole(**given)).float()
        mixture = torch.linspace(1, 2, answer.shape[-1], device=y.device)
        (gradient,) = torch.autograd.grad((answer * mixture).sum(), y)
    return gradient.float().square().sum(-1)


# the weights


def _write_(layer: Any, solver: Solver) -> None:
    """Give a linear layer (nn.Linear, or transformers' Conv1D, which stores [in, out]) its new
    weights."""
    change = solver.best(layer.bias is not None)
    if change is None:
        return
    weight = change[:-1] if widths.dim(layer, output=True) == 1 else change[:-1].T
    layer.weight = _plus(layer.weight, weight)
    if layer.bias is not None:
        layer.bias = _plus(layer.bias, change[-1])


def _plus(parameter: nn.Parameter, change: Tensor) -> nn.Parameter:
    """Another parameter in its place; a twin of the network keeps its own."""
    now = (parameter.detach().double() + change).to(parameter.dtype)
    return nn.Parameter(now, parameter.requires_grad)


def _adopt_norm_(norm: nn.Module, other: nn.Module) -> None:
    """Give a norm the weights of another."""
    for name, parameter in other.named_parameters():
        copy = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
        norm.register_parameter(name, copy)
