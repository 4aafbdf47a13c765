"""Moments of a network that has more of them than memory holds: some blocks at a time, from the
last to the first. What flows into them was kept on the way up, and the gradient of what flows out
is known from the blocks behind, so that a block runs twice forward and once back whatever the
depth. What a pass keeps for the way back is that of those blocks alone.

Where what flows into all of them would be too much, too, they are run from the first block anew for
as many as may be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from acn_compress.compression.calibration import FEW, Batches
from acn_compress.compression.statistics import (
    Flow,
    Moments,
    answers_of,
    drawn,
    flows_of,
    means,
    moments,
    parts,
    untrained,
)
from acn_compress.compression.writers import Writer, watching, writers, writers_of
from acn_compress.network.network import Network
from acn_compress.network.stack import Call, State
from acn_compress.tasks.base import Batch

MEMORY = 1 << 30  # bytes of what flows between blocks that are kept


class _Lane:
    """One part of a batch.

    Attributes:
        states: in front of the blocks that will be run again.
        gradient: of the loss by what flows out of the last of them.
    """

    def __init__(self, given: Batch) -> None:
        self.given = given
        self.states: list[State] = []
        self.gradient: State | None = None

    def lead_(self, net: Network, stages: Sequence[range]) -> None:
        """Run the blocks in front of these stages and between them, and keep what flows into
        each."""
        calls, at = net.calls(**self.given), 0
        state = State(calls[0].stream)
        with torch.no_grad():
            for stage in stages:
                state, at = _run(net, range(at, stage.start), state, calls), stage.start
                self.states.append(state)

    def answer_(self, net: Network, last: range, generator: torch.Generator) -> None:
        """Begin the way back behind the last stage: an answer is drawn, and the gradient of its
        loss is that of y."""
        read, numbers = answers_of(net)
        with torch.no_grad():
            end = _run(net, last, self.states[-1], net.calls(**self.given))
        y = end.y.detach().requires_grad_()
        with torch.enable_grad(), net.injecting(y):
            loss = drawn(read(net, self.given), numbers, generator)
        (gradient,) = torch.autograd.grad(loss, y)
        self.gradient = State(gradient, None if end.held is None else gradient)

    def back_(self, net: Network, stage: range, found: Sequence[Writer]) -> list[Flow]:
        """Go back through the last of the stages, whose writers are `found`."""
        calls, behind, kept = net.calls(**self.given), self.gradient, self.states.pop()
        assert behind is not None
        begin = [s.detach().requires_grad_(stage.start > 0) for s in kept if s is not None]
        state = State(*(s.clone() for s in begin))  # a block may write into what it is given
        with torch.enable_grad(), watching(found) as seen:
            state = _run(net, stage, state, calls)
        # what is held behind the first block is h_0, which nothing wrote
        ends = [(s, g) for s, g in zip(state, behind, strict=True) if s is not None]
        ends = [(s, g) for s, g in ends if s.requires_grad]
        wanted = [*(slot.out for slot in seen), *(begin if stage.start > 0 else [])]
        gradients = torch.autograd.grad([s for s, _ in ends], wanted, [g for _, g in ends])
        self.gradient = State(*gradients[len(seen) :]) if stage.start > 0 else None
        return flows_of(seen, gradients[: len(seen)], net.counted(self.given))


def _run(net: Network, blocks: range, state: State, calls: Sequence[Call]) -> State:
    for k in blocks:
        state = State(*net.blocks[k](*state, *calls[k].args, **calls[k].kwargs))
    return state


def moments_of(
    net: Network, data: Batches, stages: Sequence[range], rows: int = FEW, seed: int = 0
) -> Iterator[tuple[list[Writer], Iterator[Moments]]]:
    """Of the writers of the blocks of every stage, the last stage first. Each is to be used up
    before the next is asked for.

    Args:
        stages: all blocks, in order.
        rows, seed: as in `statistics.flows`.
    """
    if not (whole := writers(net)):
        return
    if len(stages) == 1:
        yield whole, moments(net, data, whole, rows, seed)
        return
    lanes, generator = [_Lane(given) for given in parts(net, data, rows)], torch.Generator()
    generator.manual_seed(seed)
    size = 2 * sum(net.calls(**lane.given)[0].stream.nbytes for lane in lanes)
    some = max(1, int(MEMORY / size))
    for at in reversed(range(0, len(stages), some)):
        group = stages[at : at + some]
        with untrained(net):
            for lane in lanes:
                lane.lead_(net, group)
                if lane.gradient is None:
                    lane.answer_(net, group[-1], generator)
        for stage in reversed(group):
            found = [writer for k in stage for writer in writers_of(net, k)]
            with untrained(net):
                yield found, means((lane.back_(net, stage, found) for lane in lanes), len(found))
