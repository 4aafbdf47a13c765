"""Puts the equation into a torch model: the classes of the blocks and of their list are swapped in
place.

No parameter, module or hook is added and no state-dict key changes. A block becomes a subclass of
its own class whose forward is `form.run_block` over the branches its architecture names; the
model's own loop over the block list runs one block per turn, with the arguments it means for that
block, and gets y_L from the last. The swap is undone by `unwrap_`, which is how every load proves
alpha = 1 bit-equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from acn_compress.errors import UnsupportedError
from acn_compress.form import Alpha, LayerKind, run_block, total

if TYPE_CHECKING:
    from acn_compress.architectures import Architecture


BYPASSED = (
    "the blocks were called one by one, which leaves out the long connections of the stack: "
    "timm's gradient checkpointing, hidden states and attention masks do that. Turn them off."
)


class AcnBlock(nn.Module):
    """Mixin in front of a family's block class. Takes the held part as second argument and returns
    (h, held)."""

    acn_architecture: Architecture
    acn_alphas: tuple[float, ...]
    acn_layer: LayerKind

    def forward(
        self, h: Tensor, held: Any = BYPASSED, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        if isinstance(held, str):
            raise UnsupportedError(held)
        branches = self.acn_architecture.branches(self, *args, **kwargs)
        return run_block(h, held, branches, current_alphas(self), self.acn_layer)


class Stack(nn.Module):
    """Mixin in front of the block list. Iterating yields one callable per block; the last returns
    y_L instead of the stream.

    What is held beside the stream belongs to one pass, so passes do not know each other. The
    attributes are probes, set through the context managers below and never saved.
    """

    acn_record: list[Tensor] | None = None
    acn_inject: Tensor | None = None
    acn_bypass: frozenset[int] = frozenset()
    acn_gates: Tensor | None = None
    acn_leave: Callable[[int, Tensor], bool] | None = None

    # nn.ModuleList's repr iterates, and the ONNX exporter calls repr
    __repr__ = nn.Module.__repr__

    def __iter__(self) -> Iterator[Any]:
        return iter(self.acn_steps())

    def __getitem__(self, index: Any) -> Any:
        if (
            isinstance(index, slice)
            and not index.start
            and index.step in (None, 1)
            and (index.stop or len(self)) >= len(self)
        ):
            return self  # `layers[: config.num_hidden_layers]` keeps its probes
        return super().__getitem__(index)  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self._modules)

    def forward(self, h: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """y_L for h_0 = `h`, for models that call their blocks as one module."""
        for step in self.acn_steps():
            h = step(h, *args, **kwargs)
        return h

    def acn_steps(self) -> list[Callable[..., Tensor]]:
        """What a loop over the blocks calls, in order."""
        return [self.acn_injected] if self.acn_inject is not None else _Pass(self).steps()

    def acn_injected(self, *args: Any, **kwargs: Any) -> Tensor:
        """What `injecting` put in the place of the whole stack."""
        assert self.acn_inject is not None
        return self.acn_inject

    def acn_note(self, h: Tensor, held: Tensor | None) -> None:
        if self.acn_record is not None:
            self.acn_record.append(total(h, held))


class _Pass:
    """One pass through a stack: what is held beside the stream so far, and a step per block."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.held: Tensor | None = None
        self.left = False

    def steps(self) -> list[Callable[..., Tensor]]:
        """One per block. They hold the pass, never it them: a cycle would keep its tensors until
        the collector comes."""
        return [partial(self.step, i) for i in range(len(self.stack))]

    def step(self, i: int, h: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Block i on the stream; the further arguments are what the model's loop passes to that
        block."""
        stack = self.stack
        if self.left:
            return h
        if i == 0:
            stack.acn_note(h, None)
        if i not in stack.acn_bypass:
            before = h, self.held
            h, self.held = cast(AcnBlock, stack._modules[str(i)])(h, self.held, *args, **kwargs)
            if stack.acn_gates is not None:
                h, self.held = _gate(stack.acn_gates[i], before, (h, self.held))
        stack.acn_note(h, self.held)
        if stack.acn_leave is not None and stack.acn_leave(i + 1, total(h, self.held)):
            self.left, h, self.held = True, total(h, self.held), None
        return total(h, self.held) if i == len(stack) - 1 else h


class StackList(Stack, nn.ModuleList):
    """The stack of a transformers model."""


class StackSequential(Stack, nn.Sequential):  # type: ignore[misc]  # a wider forward
    """The stack of a timm model, which calls its blocks as one module; what loops over them would
    end up with y_L for each."""

    def __iter__(self) -> Iterator[Any]:
        raise UnsupportedError(BYPASSED)


def _gate(
    gate: Tensor, before: tuple[Tensor, Tensor | None], after: tuple[Tensor, Tensor | None]
) -> tuple[Tensor, Tensor | None]:
    """Scale what a block adds to y by `gate` (at 1 nothing changes); its stream is left alone."""
    added = total(*after) - total(*before)
    held = (gate - 1) * added
    return after[0], held if after[1] is None else after[1] + held


def current_alphas(block: Any) -> tuple[Alpha, ...]:
    """The alphas of a wrapped block's layers: numbers, or tensors while they are trained."""
    learned = block._parameters.get("acn_learned")  # [layers of this block] while alpha is trained
    return (
        cast(AcnBlock, block).acn_alphas if learned is None else tuple(learned.clamp(0, 1).unbind())
    )


@cache
def _block_class(cls: type[nn.Module], architecture: Architecture) -> type[nn.Module]:
    return type(
        f"Acn{cls.__name__}",
        (AcnBlock, cls),
        {"acn_architecture": architecture, "__module__": __name__},
    )


def stack_of(model: nn.Module, architecture: Architecture) -> nn.Module:
    """The block list of `model`, wrapped or not."""
    return cast(nn.Module, attrgetter(architecture.blocks)(architecture.base(model)))


def blocks_of(model: nn.Module, architecture: Architecture) -> list[nn.Module]:
    """The blocks in order. A wrapped list must not be iterated: it would yield one callable."""
    return list(cast("dict[str, nn.Module]", stack_of(model, architecture)._modules).values())


def norm_behind(model: nn.Module, architecture: Architecture, k: int) -> Any:
    """The norm behind block k of a post-norm network; None in a pre-norm one."""
    return architecture.branches(blocks_of(model, architecture)[k])[-1].norm


def wrap_(model: nn.Module, architecture: Architecture) -> None:
    """Swap the stack of `model` to ACN classes, in place; alphas are set by `set_alphas_`."""
    stack = stack_of(model, architecture)
    if isinstance(stack, Stack):
        return
    for block in blocks_of(model, architecture):
        block.__class__ = _block_class(cast(Any, type(block)), architecture)
    stack.__class__ = StackSequential if isinstance(stack, nn.Sequential) else StackList


def unwrap_(model: nn.Module, architecture: Architecture) -> None:
    """Undo `wrap_`: the family's own classes and forward again."""
    stack: Any = stack_of(model, architecture)
    if not isinstance(stack, Stack):
        return
    for block in blocks_of(model, architecture):
        block.__class__ = type(block).__mro__[2]  # Acn<Block>, AcnBlock, <Block>
    stack.__class__ = cast(
        Any, nn.Sequential if isinstance(stack, nn.Sequential) else nn.ModuleList
    )


def set_alphas_(
    model: nn.Module, architecture: Architecture, alphas: Sequence[float], layer: LayerKind
) -> None:
    """Give every layer its alpha. `alphas` has one value per layer: per block, or per branch with
    layer "branch"."""
    blocks = blocks_of(model, architecture)
    n = len(alphas) // len(blocks)
    for i, block in enumerate(cast("list[AcnBlock]", blocks)):
        block.acn_alphas = tuple(float(a) for a in alphas[n * i : n * (i + 1)])
        block.acn_layer = layer
        if "acn_learned" in block._parameters:
            with torch.no_grad():
                cast(Tensor, block.acn_learned).copy_(torch.tensor(block.acn_alphas))


def keep_blocks_(model: nn.Module, architecture: Architecture, positions: Sequence[int]) -> None:
    """Remove every block not at `positions`, physically, in place; renumber what numbers itself."""
    stack = stack_of(model, architecture)
    kept = [blocks_of(model, architecture)[i] for i in positions]
    stack._modules.clear()
    for i, block in enumerate(kept):
        stack.add_module(str(i), block)
        for module in block.modules():
            if isinstance(getattr(module, "layer_idx", None), int):
                module.layer_idx = i  # type: ignore[assignment]


def learned_alphas(model: nn.Module, architecture: Architecture) -> list[Tensor]:
    """The alphas that are trained, one parameter per block ([layers of the block]); none unless
    `learn_alphas_` made them."""
    return [
        cast(Tensor, b.acn_learned)
        for b in blocks_of(model, architecture)
        if "acn_learned" in b._parameters
    ]


def clamp_learned_(model: nn.Module, architecture: Architecture) -> None:
    """Bring trained alphas back into [0, 1]; beyond it a clamp would stop their gradient for
    good."""
    for alphas in learned_alphas(model, architecture):
        alphas.clamp_(0, 1)


@contextmanager
def _probe(model: nn.Module, architecture: Architecture, name: str, value: Any) -> Iterator[None]:
    """Inside, the stack's probe `name` is `value`; afterwards it is what it was."""
    stack = stack_of(model, architecture)
    before = getattr(stack, name)
    setattr(stack, name, value)
    try:
        yield
    finally:
        setattr(stack, name, before)


@contextmanager
def recording(model: nn.Module, architecture: Architecture) -> Iterator[list[Tensor]]:
    """Collects y_0 .. y_L ([batch, ..., width] each) of the forward passes inside the context."""
    record: list[Tensor] = []
    with _probe(model, architecture, "acn_record", record):
        yield record


def injecting(
    model: nn.Module, architecture: Architecture, y: Tensor
) -> AbstractContextManager[None]:
    """Inside, the stack returns `y` without running a block: the model's own norm, pooling and head
    read it out."""
    return _probe(model, architecture, "acn_inject", y)


def leaving(
    model: nn.Module, architecture: Architecture, leave: Callable[[int, Tensor], bool]
) -> AbstractContextManager[None]:
    """Inside, `leave(k, y_k)` is asked after block k (y_k [batch, ..., width]); once it says yes,
    no later block runs in that pass and
    the stack returns y_k: the model's own norm, pooling and head read it out."""
    return _probe(model, architecture, "acn_leave", leave)


def bypassing(
    model: nn.Module, architecture: Architecture, positions: Sequence[int]
) -> AbstractContextManager[None]:
    """Inside, the blocks at `positions` add nothing and pass their input on."""
    return _probe(model, architecture, "acn_bypass", frozenset(positions))


@contextmanager
def gating(model: nn.Module, architecture: Architecture) -> Iterator[Tensor]:
    """Inside, block i's contribution to y is multiplied by gate i; the gates ([L], ones) carry
    gradients."""
    gates = torch.ones(
        len(cast(Stack, stack_of(model, architecture))),
        requires_grad=True,
        device=next(model.parameters()).device,
    )
    with _probe(model, architecture, "acn_gates", gates):
        yield gates


def learn_alphas_(model: nn.Module, architecture: Architecture, learn: bool) -> tuple[float, ...]:
    """Turn every alpha into a trained parameter (learn=True), or back into the number it has
    become. Returns the alphas."""
    alphas: list[float] = []
    for block in cast("list[AcnBlock]", blocks_of(model, architecture)):
        if learn:
            device = next(block.parameters()).device
            block.register_parameter(
                "acn_learned", nn.Parameter(torch.tensor(block.acn_alphas, device=device))
            )
        elif "acn_learned" in block._parameters:
            block.acn_alphas = tuple(
                round(float(a), 6) for a in cast(Tensor, block.acn_learned).detach().clamp(0, 1)
            )
            del block.acn_learned
        alphas += block.acn_alphas
    return tuple(alphas)
