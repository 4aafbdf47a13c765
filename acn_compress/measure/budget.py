"""Equal training budgets: floating-point operations of training, so that routes of different depth
can be compared.

A training step costs three forward passes of the student (one forward, two for the backward pass),
one of the teacher if there is one, and three readouts more for every prefix readout. Optimizer and
data loading are not counted; seconds are reported beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from acn_compress.network.network import Network
from acn_compress.tasks.base import features

STATE = 16  # bytes for each trained parameter: it, its gradient and AdamW's two moments, float32
HELD = 4  # bytes for each parameter of a teacher


def forward_flops(net: Network, inputs: dict[str, Tensor] | None = None) -> tuple[float, float]:
    """Of one example: everything but the blocks, and one block (the mean). `inputs`: of what
    length or size; None is `Network.example_inputs`."""
    inputs = net.example_inputs() if inputs is None else inputs
    with torch.no_grad(), net.evaluating():
        whole = flops_per_example(net, inputs)
        with net.bypassing(range(net.depth)):
            outside = flops_per_example(net, inputs)
    return outside, (whole - outside) / net.depth


def training_flops(
    net: Network,
    *,
    depth: int | None = None,
    teacher_depth: int | None = None,
    prefixes: int = 0,
    inputs: dict[str, Tensor] | None = None,
) -> float:
    """Of one training example.

    Args:
        net: the student at any depth; blocks are taken to cost the same.
        depth: of the student while it trains; None is the model's own.
        teacher_depth: blocks of the teacher; None is no teacher.
        prefixes: prefix readouts per step.
        inputs: as in `forward_flops`.
    """
    outside, block = forward_flops(net, inputs)
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


class Plan(NamedTuple):
    """What a training takes, on paper.

    Args:
        steps: of the optimizer.
        flops: of all of it.
        seconds: if nothing is waited for but products.
        rate: examples per second that must be read for that.
        bytes: of each device: weights, gradients, optimizer and what is kept for the backward
            pass.
    """

    steps: int
    flops: float
    seconds: float
    rate: float
    bytes: float


def plan(
    net: Network,
    inputs: dict[str, Tensor],
    *,
    examples: int,
    epochs: float,
    batch: int,
    devices: int,
    throughput: float,
    prefixes: int = 0,
) -> Plan:
    """Of a conversion of a whole network beside its teacher, under DDP.

    Args:
        net: on the CPU, in float32.
        inputs: one example or several, as they will be.
        examples: to train on.
        batch: of all devices together.
        devices: that share it.
        throughput: floating-point operations per second that one of them keeps up.
        prefixes: prefix readouts per step.
    """
    price = training_flops(net, teacher_depth=net.depth, prefixes=prefixes, inputs=inputs)
    steps = max(1, round(epochs * (examples // batch)))
    flops = steps * batch * price
    seconds = flops / (devices * throughput)
    held = net.parameters * (STATE + HELD) + batch / devices * saved_bytes(net, inputs)
    return Plan(steps, flops, seconds, steps * batch / seconds, held)


def saved_bytes(net: Network, inputs: dict[str, Tensor]) -> float:
    """What a forward pass keeps for the backward pass, per example, in the network's own precision;
    under bfloat16 autocast it is less."""
    own = {p.data_ptr() for p in net.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.enable_grad(),
        net.evaluating(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        answer = net.answer(**features(inputs))  # alive, so that no storage is used twice
        found = sum(kept.values()) / len(answer)
    return found
