"""The walk of a refit: the whole network and the cut one are run block by block, for all examples
side by side, and each writer of the cut one is solved for on the way (`refit`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from acn_compress import processes
from acn_compress.compression.calibration import FEWEST, Batches, batch_size, spread
from acn_compress.compression.goals import Goal, first_changed, goals, narrowed
from acn_compress.compression.head import End
from acn_compress.compression.least_squares import HELD_OUT, Rows, Solver
from acn_compress.compression.readers import Readers, lead_, readers
from acn_compress.compression.writers import (
    Seen,
    Stopped,
    Writer,
    rows_that_count,
    watching_layers,
    write_,
    writers,
    writers_of,
)
from acn_compress.form import LayerKind
from acn_compress.measure.budget import forward_flops
from acn_compress.network import widths
from acn_compress.network.network import Network, first_output
from acn_compress.network.stack import Call, State
from acn_compress.network.structure import Structure
from acn_compress.tasks.base import features

ENOUGH = 32  # rows for every feature that is solved for
MEMORY = 1 << 30  # bytes that the streams of all examples may take
STREAMS = 8  # of every example, that are held at a time

Change = Callable[[Writer, Solver], "Tensor | None"]
"""What a writer is changed by, from the rows gathered for it: [features + 1, width], the last row
that of its bias; or None for nothing."""


def price(net: Network, whole: Network) -> float:
    """Floating-point operations per example of running both networks for a refit, at most; solving
    comes on top. 0 where there is nothing to refit."""
    if (first := first_changed(net, whole)) == net.depth:
        return 0.0
    outside, block = forward_flops(whole)
    _, own = forward_flops(net)
    runs = 2 if narrowed(net, whole) else 1
    again = sum(1 + runs * len(writers_of(net, k)) for k in range(first, net.depth))
    return 2 * outside + whole.depth * block + again * own


def _price_of_head(net: Network, whole: Network, anew: bool) -> float:
    """The same for the layer that answers; `anew`: both networks are run for it."""
    outside, block = forward_flops(whole)
    return 2 * outside + anew * (whole.depth * block + net.depth * forward_flops(net)[1])


@dataclass
class _Lane:
    """One batch on its way through both networks, and what is known of the block it is at.

    Args:
        given: what the models are called with.
        number: of the batch.
        whole, net: where it is.
        whole_calls, net_calls: what their blocks are called with.
        mask: [batch, length], 1 where there is no padding; None where there is none at all.
        wrote: what each writer of the whole network's block wrote; none in front of a gap.
        read: what is read there for each of them, by its number, where layers that read are solved
            for.
        normed: in a post-norm block what came out of its first norm there.
        goal: in front of a gap, y of the whole network behind it.
        weight: [batch, length], what each token counts for; None is the same for all.
    """

    given: dict[str, Tensor]
    number: int
    whole: State
    net: State
    whole_calls: list[Call]
    net_calls: list[Call]
    mask: Tensor | None
    wrote: list[Tensor] = field(default_factory=list)
    read: dict[int, Tensor] = field(default_factory=dict)
    before: State | None = None
    normed: Tensor | None = None
    goal: Tensor | None = None
    weight: Tensor | None = None

    @property
    def examples(self) -> int:
        return len(next(iter(self.given.values())))


class _Ran(NamedTuple):
    """A block that was run: where it leads, and what was seen in it."""

    state: State
    seen: list[Seen]
    normed: Tensor | None
    in_front: Tensor | None
    """What went into the norm behind the block."""


@dataclass
class Walk:
    """Both networks, and all batches side by side."""

    net: Network
    whole: Network
    goals: list[Goal]
    structure: Structure
    lanes: list[_Lane]
    stride: int
    """Of how many batches one is used."""
    every: int
    """Of how many of those one is enough for what reads."""
    change: Change
    flops: float
    readers: list[dict[int, Readers]]
    """Of every block, by the number of the writer; none where they stay."""

    @classmethod
    def begin(
        cls,
        net: Network,
        whole: Network,
        data: Batches,
        rows: int,
        change: Change,
        reads: bool,
    ) -> Walk:
        """At h_0, with the batches of this process; `reads`: what reads is solved for, too."""
        # where tokens are weighted a head may read one of each example, so none is passed over
        enough = ENOUGH if net.depth == whole.depth else None
        tokens = _tokens(net, data)
        stride = _stride(net, data, tokens, enough)
        own = _own(spread(net, data, rows, stride))
        lanes = [_lane(net, whole, given, number) for number, given in own]
        examples = sum(lane.examples for lane in lanes)
        flops = examples * price(net, whole)
        led = readers(net) if reads and narrowed(net, whole) else [{} for _ in range(net.depth)]
        every = _every(lanes, int(tokens / stride / (ENOUGH * net.width)))
        found = goals(net, whole)
        return cls(net, whole, found, net.structure, lanes, stride, every, change, flops, led)

    def refit_(self, first: int) -> None:
        """All the way."""
        for k in range(self.net.depth):
            self._lead_whole(k, solved=k >= first)
            for at, writer in enumerate(writers_of(self.net, k) if k >= first else []):
                self._lead_readers_(writer, at)
                self._solve_(writer, at)
            self._advance(k, solved=k >= first)

    def _lead_whole(self, k: int, solved: bool) -> None:
        """Take the whole network to where block k of the other one has to lead."""
        place, to, gap = self.goals[k]
        norm = self.net.norm_behind(k)
        if solved and gap and norm is not None:
            _adopt_norm_(norm, cast(nn.Module, self.whole.norm_behind(to - 1)))
        found = [] if gap or not solved else writers_of(self.whole, place)
        wrote, block = [writer.layer for writer in found], self.whole.blocks[place]
        led = self.readers[k] if found else {}
        read = [block.get_submodule(paths[0]) for paths in led.values()]
        weighted = solved and to == self.whole.depth and self.net.depth < self.whole.depth
        for lane in self.lanes:
            for i in range(0 if k == 0 else place, place):  # in front of the first that was kept
                lane.whole = _run(self.whole, i, lane.whole, lane.whole_calls[i]).state
            lane.before = lane.whole
            for i in range(place, to):
                ran = _run(self.whole, i, lane.whole, lane.whole_calls[i], [*wrote, *read])
                lane.whole, lane.normed = ran.state, ran.normed
                lane.wrote = [seen.out for seen in ran.seen[: len(wrote)]]
                behind = ran.seen[len(wrote) :]
                lane.read = {at: seen.x for at, seen in zip(led, behind, strict=True)}
            lane.goal = lane.whole.y if gap else None
            lane.weight = _attention_to(self.whole, lane) if weighted else None

    def _lead_readers_(self, writer: Writer, at: int) -> None:
        """Solve for what reads the branch of a writer, in place."""
        k = writer.block
        paths = self.readers[k].get(at)
        if paths is None or self.goals[k].gap:
            return
        layers, solver = [self.net.blocks[k].get_submodule(path) for path in paths], Solver()
        for lane in (lane for lane in self.lanes if lane.number % self.every == 0):
            (seen,) = _run(self.net, k, lane.net, lane.net_calls[k], layers[:1], stops=True).seen
            solver.add(_rows(seen.x, lane.read[at] - seen.x, lane, writer), lane.number)
        self.flops += solver.flops
        inputs = widths.by_inputs(layers[0]).shape[0]
        solver.share_(inputs, inputs, self.net.device)
        lead_(layers, solver)

    def _solve_(self, writer: Writer, at: int) -> None:
        """Solve for one writer, in place."""
        k = writer.block
        gap, post = self.goals[k].gap, self.net.norm_behind(k) is not None
        if gap and (writer.cut.along_tokens or (post and writer.branch == 0)):
            return
        solver, found = Solver(), writers_of(self.net, k)
        # the branches behind this one do not matter to it
        watched = [w.layer for w in (found if gap else found[: at + 1])]
        for lane in self.lanes:
            ran = _run(self.net, k, lane.net, lane.net_calls[k], watched, stops=not gap)
            missing = (
                _missing_before_gap(self.net, k, lane, ran)
                if gap
                else self._missing(found, at, lane, ran)
            )
            wrote = ran.seen[at].out
            lack = writer.from_stream(missing, wrote, wrote if gap else lane.wrote[at])
            solver.add(_rows(ran.seen[at].x, lack, lane, writer), lane.number)
        self.flops += solver.flops
        width, inputs = writer.weight.shape
        solver.share_(inputs, width, self.net.device)
        write_(writer.layer, self.change(writer, solver))

    def _missing(self, found: Sequence[Writer], at: int, lane: _Lane, ran: _Ran) -> Tensor:
        """What the branch of a writer has to add to what it does, in the stream's layout."""
        assert lane.before is not None
        k, second = found[at].block, found[at].branch > 0
        alphas, layer = self.structure.alphas_of(k), self.structure.layer
        own = [
            writer.into_stream(there, here.out)
            for writer, there, here in zip(found, lane.wrote, ran.seen, strict=False)
        ]
        h = lane.before.h - lane.net.h
        if self.net.norm_behind(k) is None:
            in_front = [o for w, o in zip(found, own, strict=False) if w.branch < found[at].branch]
            done = sum(in_front, torch.zeros_like(h))
            carried = _carried(alphas, layer, h, done if second else None)
            return own[at] + (carried + (lane.before.y - lane.net.y) + done) / 2
        if not second:
            return own[at] + alphas[0] * h
        assert lane.normed is not None and ran.normed is not None
        skip = 1.0 if layer == "block" else alphas[-1]
        return own[at] + skip * (lane.normed - ran.normed)

    def _advance(self, k: int, solved: bool) -> None:
        """Take the cut network through block k, where another one follows. In front of what was
        solved for it is where the whole one is."""
        for lane in self.lanes if k < self.net.depth - 1 else []:
            ran = _run(self.net, k, lane.net, lane.net_calls[k]) if solved else None
            lane.net = lane.whole if ran is None else ran.state

    def ends(self, data: Batches, rows: int) -> Iterator[End]:
        """Where both lead with every batch of this process. Where some were passed over they are
        run for all of them anew: a head may read one token of each example."""
        anew, k = self.stride > 1, self.net.depth - 1
        price = _price_of_head(self.net, self.whole, anew)
        for number, given in _own(spread(self.net, data, rows)) if anew else ():
            self.flops += price * len(next(iter(given.values())))
            yield End(number, given)
        for lane in () if anew else self.lanes:
            self.flops += price * lane.examples
            state = _run(self.net, k, lane.net, lane.net_calls[k]).state
            yield End(lane.number, lane.given, state.y, lane.whole.y)


def _own(batches: Iterator[dict[str, Tensor]]) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """What the models are called with for the batches of this process, and their numbers."""
    part = processes.part()
    for number, batch in islice(enumerate(batches), part.start, None, part.step):
        yield number, features(batch)


def _carried(alphas: Sequence[float], layer: LayerKind, h: Tensor, done: Tensor | None) -> Tensor:
    """What the next layer's input lacks, but for the branch itself, where the stream in front of a
    pre-norm block lacks `h`, and the branch in front, if there is one, `done` (see `form`)."""
    if done is None:
        return h if layer == "block" else alphas[0] * h
    if layer == "block":
        return alphas[0] * h + done
    return alphas[-1] * ((h if layer == "plain" else alphas[0] * h) + done)


def _lane(net: Network, whole: Network, given: dict[str, Tensor], number: int) -> _Lane:
    of_whole, of_net = whole.calls(**given), net.calls(**given)
    states = State(of_whole[0].stream), State(of_net[0].stream)
    return _Lane(given, number, *states, of_whole, of_net, net.counted(given))


def _every(lanes: Sequence[_Lane], enough: int) -> int:
    """Of how many batches one is used for what reads, where one of so many is `enough`: an odd
    number, and four are left at least, so that one of them is held out."""
    batches = 1 + processes.largest(max((lane.number for lane in lanes), default=0))
    return max(1, (min(enough, batches // HELD_OUT) - 1) | 1)


def _tokens(net: Network, data: Batches) -> float:
    """That count in all examples."""
    tokens = 0.0
    for batch in data.batches(batch_size(data), device=net.device):
        mask = net.counted(batch)
        if mask is None:
            stream = net.calls(**features(batch))[0].stream
            return len(data) * stream.shape[1:-1].numel()
        tokens += float(mask.sum())
    return tokens


def _stride(net: Network, data: Batches, tokens: float, enough: int | None) -> int:
    """Of how many batches one is used: where every example gives many rows there would be more than
    `enough` for every feature, or than memory holds."""
    most = max(w.weight.shape[1] for w in writers(net))
    held = MEMORY / (STREAMS * 4 * max(1, net.width))
    wanted = held if enough is None else min(enough * most, held)
    return max(1, min(int(tokens / wanted), -(-len(data) // batch_size(data)) // FEWEST))


def _run(
    net: Network,
    k: int,
    state: State,
    call: Call,
    found: Sequence[nn.Module] = (),
    stops: bool = False,
) -> _Ran:
    """Run block k of a network on one batch and see what goes through some layers; `stops`: no
    further than to the last of them, and the state stays."""
    block, norms = net.blocks[k], [b.norm for b in net.family.branches(net.blocks[k])]
    seen_norms: list[tuple[Tensor, Tensor]] = []
    hooks = [
        cast(nn.Module, norm).register_forward_hook(
            lambda m, x, y: seen_norms.append((x[0].detach(), y.detach()))
        )
        for norm in norms
        if norm is not None
    ]
    h, held = state.h, state.held
    try:
        with watching_layers(found, stops) as seen:
            h, held = block(h, held, *call.args, **call.kwargs)
    except Stopped:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    if not seen_norms:
        return _Ran(State(h, held), seen, None, None)
    normed, in_front = seen_norms[0][1], seen_norms[-1][0]
    return _Ran(State(h, held), seen, normed, in_front)


def _missing_before_gap(net: Network, k: int, lane: _Lane, ran: _Ran) -> Tensor:
    """What the stream lacks behind block k for y to be the whole network's behind the gap."""
    assert lane.goal is not None
    norm = net.norm_behind(k)
    if norm is None:
        return lane.goal.float() - ran.state.y.float()
    assert ran.in_front is not None
    return _before_norm(norm, ran.in_front.float(), lane.goal.float())


def _before_norm(norm: nn.Module, z: Tensor, target: Tensor) -> Tensor:
    """What z, the input of a norm, lacks to come out at the target, as large as it is."""
    standard = (target - norm.get_parameter("bias")) / norm.get_parameter("weight")
    return z.std(-1, correction=0, keepdim=True) * standard + z.mean(-1, keepdim=True) - z


def _rows(x: Tensor, missing: Tensor, lane: _Lane, writer: Writer) -> Rows:
    """Of one batch: one row for every token that counts."""
    mask, weight = lane.mask, lane.weight
    if writer.cut.along_tokens:
        mask = weight = None
    if weight is None:
        return Rows(rows_that_count(x, mask).float(), rows_that_count(missing, mask).float())
    if mask is not None and mask.shape == weight.shape:
        weight = weight * mask
    counts = weight > 1e-6 * weight.max()
    return Rows(x[counts].float(), missing[counts].float(), weight[counts].float())


def _attention_to(whole: Network, lane: _Lane) -> Tensor:
    """How much the answer moves with each token of y_L: the squared gradient of a fixed mixture of
    its numbers, [batch, ...]."""
    y = lane.whole.y.detach().requires_grad_()
    with torch.enable_grad(), whole.injecting(y):
        answer = first_output(whole(**lane.given)).float()
        mixture = torch.linspace(1, 2, answer.shape[-1], device=y.device)
        (gradient,) = torch.autograd.grad((answer * mixture).sum(), y)
    return gradient.float().square().sum(-1)


def _adopt_norm_(norm: nn.Module, other: nn.Module) -> None:
    """Give a norm the weights of another."""
    for name, parameter in other.named_parameters():
        copy = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
        norm.register_parameter(name, copy)
