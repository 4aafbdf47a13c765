"""Equal training budgets: floating-point operations of training, so that routes of different depth
can be compared.

A training step costs three forward passes of the student (one forward, two for the backward pass),
one of the teacher if there is one, and three readouts more for every prefix readout. Optimizer and
data loading are not counted; seconds are reported beside it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from acn_compress.network.network import Network
from acn_compress.tasks.base import features


def forward_flops(net: Network) -> tuple[float, float]:
    """Of one example: everything but the blocks, and one block (the mean)."""
    inputs = net.example_inputs()
    with torch.no_grad(), net.evaluating():
        whole = flops_per_example(net, inputs)
        with net.bypassing(range(net.depth)):
            outside = flops_per_example(net, inputs)
    return outside, (whole - outside) / net.depth


def training_flops(
    net: Network, *, depth: int | None = None, teacher_depth: int | None = None, prefixes: int = 0
) -> float:
    """Of one training example.

    Args:
        net: the student at any depth; blocks are taken to cost the same.
        depth: of the student while it trains; None is the model's own.
        teacher_depth: blocks of the teacher; None is no teacher.
        prefixes: prefix readouts per step.
    """
    outside, block = forward_flops(net)
    own = net.depth if depth is None else depth
    student = 3 * (outside + own * block) + 3 * outside * prefixes
    return student + (0.0 if teacher_depth is None else outside + teacher_depth * block)


def equal_epochs(
    net: Network,
    epochs: float,
    *,
    depth: int,
    teacher: bool = True,
    prefixes: int = 0,
    spent: float = 0.0,
) -> float:
    """Epochs that a network cut to `depth` may train for the price of `epochs` of the whole one,
    `model` (both with the same teacher), less what is `spent` already (operations per training
    example)."""
    whole = net.depth
    price = training_flops(net, teacher_depth=whole if teacher else None)
    return (epochs * price - spent) / training_flops(
        net, depth=depth, teacher_depth=whole if teacher else None, prefixes=prefixes
    )


def flops_per_example(net: Network, example: dict[str, Tensor]) -> float:
    """Multiply-adds times two of one forward pass, per example."""
    return flops(lambda: net.answer(**features(example))) / len(next(iter(example.values())))


def flops(call: Callable[[], object]) -> float:
    """Multiply-adds times two of a call (torch's FlopCounterMode)."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # fused attention kernels of the CPU are invisible to the counter; the plain one is made of
    # products it sees
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())
