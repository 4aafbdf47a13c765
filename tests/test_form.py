"""The equation itself, on plain tensors: every statement of form.py's docstring."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from acn_compress.form import LAYER_KINDS, Branch, carry, hold, run_block, total

DEPTH, WIDTH = 4, 8


def _network(post_norm: bool) -> list[tuple[Branch, Branch]]:
    torch.manual_seed(0)

    def branch() -> Branch:
        linear, norm = nn.Linear(WIDTH, WIDTH).double(), nn.LayerNorm(WIDTH).double()
        if post_norm:
            return Branch(lambda h: torch.tanh(linear(h)), norm)
        return Branch(lambda h: torch.tanh(linear(norm(h))))

    return [(branch(), branch()) for _ in range(DEPTH)]


def _prefixes(
    network: list[tuple[Branch, Branch]], x: Tensor, alphas: list[tuple[float, ...]], layer: str
) -> tuple[list[Tensor], list[Tensor]]:
    """The streams h_0..h_L and the prefix sums y_0..y_L."""
    h, held = x, None
    hs, ys = [h], [h]
    for branches, alpha in zip(network, alphas, strict=True):
        h, held = run_block(h, held, branches, alpha, layer)  # type: ignore[arg-type]
        hs.append(h)
        ys.append(total(h, held))
    return hs, ys


def _alphas(value: float, layer: str) -> list[tuple[float, ...]]:
    return [(value,) * (2 if layer == "branch" else 1)] * DEPTH


@pytest.mark.parametrize("layer", LAYER_KINDS)
def test_alpha_one_is_the_residual_network_bit_for_bit(layer: str) -> None:
    x = torch.randn(3, WIDTH, dtype=torch.double)
    pre, post = _network(False), _network(True)
    h = x
    for attention, mlp in pre:
        h = h + attention.f(h)
        h = h + mlp.f(h)
    assert torch.equal(_prefixes(pre, x, _alphas(1.0, layer), layer)[1][-1], h)
    h = x
    for attention, mlp in post:
        assert attention.norm is not None and mlp.norm is not None
        h = attention.norm(h + attention.f(h))
        h = mlp.norm(h + mlp.f(h))
    assert torch.equal(_prefixes(post, x, _alphas(1.0, layer), layer)[1][-1], h)


def test_alpha_zero_is_the_sum_of_every_layers_output() -> None:
    network, x = _network(False), torch.randn(3, WIDTH, dtype=torch.double)
    for layer, block in (
        ("block", lambda a, m, h: a.f(h) + m.f(h + a.f(h))),
        ("plain", lambda a, m, h: m.f(a.f(h))),  # the paper's block: no skip inside either
    ):
        h = y = x
        for attention, mlp in network:
            h = block(attention, mlp, h)  # type: ignore[no-untyped-call]
            y = y + h
        torch.testing.assert_close(
            _prefixes(network, x, _alphas(0.0, layer), layer)[1][-1], y, rtol=0, atol=1e-14
        )
    h = y = x
    for attention, mlp in network:
        for branch in (attention, mlp):
            h = branch.f(h)
            y = y + h
    torch.testing.assert_close(
        _prefixes(network, x, _alphas(0.0, "branch"), "branch")[1][-1], y, rtol=0, atol=1e-14
    )


def test_alpha_zero_post_norm_is_the_papers_bert() -> None:
    network, x = _network(True), torch.randn(3, WIDTH, dtype=torch.double)
    h = y = x
    for attention, mlp in network:
        assert attention.norm is not None and mlp.norm is not None
        a = attention.norm(attention.f(h))
        h = mlp.norm(mlp.f(a))
        y = y + h
    torch.testing.assert_close(
        _prefixes(network, x, _alphas(0.0, "plain"), "plain")[1][-1], y, rtol=0, atol=1e-14
    )


@pytest.mark.parametrize(
    ("layer", "post_norm"), list(itertools.product(LAYER_KINDS, (False, True)))
)
def test_every_prefix_is_the_stream_plus_what_is_held(layer: str, post_norm: bool) -> None:
    """y_k = h_k + sum (1 - alpha_i) h_{i-1} = x_0 + sum F_i, with another alpha in every layer."""
    network, x = _network(post_norm), torch.randn(3, WIDTH, dtype=torch.double)
    n = 2 if layer == "branch" else 1
    alphas = [tuple(0.1 + 0.2 * i + 0.05 * j for j in range(n)) for i in range(DEPTH)]
    hs, ys = _prefixes(network, x, alphas, layer)
    if n == 1:
        for k in range(DEPTH + 1):
            written = hs[k] + sum(
                ((1 - a[0]) * hs[i] for i, a in enumerate(alphas[:k])), torch.zeros(())
            )
            contributions = x + sum(
                (hs[i + 1] - a[0] * hs[i] for i, a in enumerate(alphas[:k])), torch.zeros(())
            )
            torch.testing.assert_close(ys[k], written, rtol=0, atol=1e-13)
            torch.testing.assert_close(ys[k], contributions, rtol=0, atol=1e-13)
    for k in range(1, DEPTH):  # a prefix does not know what follows it
        assert torch.equal(_prefixes(network[:k], x, alphas[:k], layer)[1][-1], ys[k])


def test_hybrid_plain_block_is_the_hybrid_papers() -> None:
    """Hybrid ACNs: a = attn(h), m = mlp(alpha h + a) on the way; passes on m + alpha (h + a)."""
    attention, mlp = _network(False)[0]
    h, alpha = torch.randn(3, WIDTH, dtype=torch.double), 0.3
    a = attention.f(h)
    out, held = run_block(h, None, (attention, mlp), (alpha,), "plain")
    torch.testing.assert_close(out, mlp.f(alpha * h + a) + alpha * (h + a), rtol=0, atol=1e-14)
    torch.testing.assert_close(held, 0.7 * h, rtol=0, atol=1e-14)


def test_the_ends_are_written_without_a_product() -> None:
    h, f = torch.tensor([float("inf")]), torch.tensor([1.0])
    assert carry(0.0, h, f) is f  # 0 * inf would be nan
    assert hold(None, h, 1.0) is None
    assert hold(None, h, 0.0) is h


def test_trained_alphas_carry_gradients() -> None:
    network, x = _network(False), torch.randn(3, WIDTH, dtype=torch.double)
    alpha = torch.full((1,), 0.5, dtype=torch.double, requires_grad=True)
    h, held = run_block(x, None, network[0], tuple(alpha.unbind()), "block")
    h, held = run_block(h, held, network[1], tuple(alpha.unbind()), "block")
    total(h, held).square().sum().backward()
    assert alpha.grad is not None and alpha.grad.abs().item() > 0
