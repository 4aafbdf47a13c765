"""The equation (Auto-Compressing Networks, arXiv 2506.09714; hybrid form: OpenReview ORSclmXC6X).

A stack of L layers; layer i adds F_i to the stream, and one scalar alpha_i scales its short skip
connection:

    h_0 = x_0 (the embedding)        h_i = alpha_i * h_{i-1} + F_i(h_{i-1})
    y_k = h_k + sum_{i<=k} (1 - alpha_i) * h_{i-1}  =  x_0 + sum_{i<=k} F_i(h_{i-1})

alpha = 1 everywhere is the residual network bit for bit (y_k = h_k); alpha = 0 is the
Auto-Compressing Network, whose output is the plain sum x_0 + x_1 + ... + x_L over long connections;
anything between is hybrid. y_k, read through the model's own norm, pooling and head, is the
sub-network of depth k: cutting blocks k+1..L drops exactly their terms.

This file is only the arithmetic of one block. `held` is the part of y that is no longer in the
stream, sum (1 - alpha_i) h_{i-1}, and is None while it is zero. `stack.py` puts it into a torch
model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

if TYPE_CHECKING:
    from torch import Tensor

Alpha: TypeAlias = "float | Tensor"
LayerKind: TypeAlias = Literal["block", "branch", "plain"]
LAYER_KINDS: tuple[LayerKind, ...] = get_args(LayerKind)


def layers_in_a_block(kind: LayerKind) -> int:
    """One, or one for each of the two branches that every block has."""
    return 2 if kind == "branch" else 1


class Branch(NamedTuple):
    """One residual branch of a block: what it adds, and (post-norm families) the norm applied after
    the addition."""

    f: Callable[[Tensor], Tensor]
    norm: Callable[[Tensor], Tensor] | None = None


def carry(alpha: Alpha, h: Tensor, f: Tensor) -> Tensor:
    """alpha * h + f. The two ends are written without a product: exact at 1, nothing left in an
    exported graph at 0."""
    if isinstance(alpha, float):
        if alpha == 1.0:
            return h + f
        if alpha == 0.0:
            return f
    return alpha * h + f


def hold(held: Tensor | None, h: Tensor, alpha: Alpha) -> Tensor | None:
    """The held part of y after a layer with input `h`: held + (1 - alpha) * h."""
    if isinstance(alpha, float) and alpha == 1.0:
        return held
    term = h if isinstance(alpha, float) and alpha == 0.0 else (1 - alpha) * h
    return term if held is None else held + term


def total(h: Tensor, held: Tensor | None) -> Tensor:
    """y_k from the stream and what is held beside it."""
    return h if held is None else h + held


def run_block(
    h: Tensor,
    held: Tensor | None,
    branches: Sequence[Branch],
    alphas: Sequence[Alpha],
    layer: LayerKind,
) -> tuple[Tensor, Tensor | None]:
    """Run one block.

    Args:
        h: [batch, ..., width], the stream before the block.
        held: like `h`, or None while every alpha so far is 1.
        branches: the residual branches of the block in order (attention, MLP); all pre-norm or all
            post-norm.
        alphas: one per layer of this block: one, or with layer "branch" one per branch.
        layer: "block" keeps the skips inside the block, "plain" scales them by alpha as well (the
            paper's blocks at alpha 0), "branch" makes every branch a layer of its own.
    Returns:
        The stream and the held part after the block.
    """
    if layer == "branch":
        for branch, alpha in zip(branches, alphas, strict=True):
            held = hold(held, h, alpha)
            h = carry(alpha, h, branch.f(h))
            h = h if branch.norm is None else branch.norm(h)
        return h, held
    (alpha,) = alphas
    inner: Alpha = alpha if layer == "plain" else 1.0
    if branches[0].norm is None:
        return _pre_norm(h, branches, alpha, inner), hold(held, h, alpha)
    return _post_norm(h, branches, alpha, inner), hold(held, h, alpha)


def _pre_norm(h: Tensor, branches: Sequence[Branch], alpha: Alpha, inner: Alpha) -> Tensor:
    """a = attn(h), m = mlp(inner * h + a). Block: alpha * h + a + m. Plain: alpha * (h + a) + m."""
    full = read = h  # the residual stream inside the block, and what the next branch reads
    out: Tensor | None = (
        None  # alpha * h + the branches so far, kept beside the stream only where they differ
    )
    for branch in branches:
        added = branch.f(read)
        if not (isinstance(inner, float) and inner == 1.0):
            read = carry(inner, full, added)
            full = full + added
        elif isinstance(alpha, float) and alpha == 1.0:
            full = read = full + added
        else:
            out = carry(alpha, h, added) if out is None else out + added
            full = read = full + added
    return read if out is None else out


def _post_norm(h: Tensor, branches: Sequence[Branch], alpha: Alpha, inner: Alpha) -> Tensor:
    """a = norm(alpha * h + attn(h)), out = norm(inner * a + mlp(a))."""
    for i, branch in enumerate(branches):
        assert branch.norm is not None
        h = branch.norm(carry(alpha if i == 0 else inner, h, branch.f(h)))
    return h
