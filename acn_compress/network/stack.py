"""Puts the equation into a torch model: the classes of the blocks and of their list are swapped in
place.

No parameter, module or hook is added and no state-dict key changes. A block becomes a subclass of
its own class whose forward is `form.run_block` over the branches its architecture names; the
model's own loop over the block list runs one block per turn, with the arguments it means for that
block, and gets y_L from the last. The swap is undone by `unwrap_`, which is how every load proves
alpha = 1 bit-equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, cast

from torch import Tensor, nn

from acn_compress.errors import UnsupportedError
from acn_compress.form import Alpha, LayerKind, run_block, total

if TYPE_CHECKING:
    from acn_compress.architectures.base import Architecture


BYPASSED = (
    "the blocks were called one by one, which leaves out the long connections of the stack: "
    "timm's gradient checkpointing, hidden states and attention masks do that. Turn them off."
)


class Call(NamedTuple):
    """What a model's own loop calls a block with, behind the stream and what is held beside it."""

    stream: Tensor
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class State(NamedTuple):
    """What flows between two blocks: the stream, and what is held beside it."""

    h: Tensor
    held: Tensor | None = None

    @property
    def y(self) -> Tensor:
        """What the head would read there."""
        return total(self.h, self.held)


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

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        """For pickle and copy, which would look for the class by its name: it is made, not
        written."""
        plain = type(self).__mro__[2]
        return _new_block, (plain, self.acn_architecture), self.__dict__


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
    acn_calls: list[Call] | None = None

    # nn.ModuleList's repr iterates, and the ONNX exporter calls repr
    __repr__ = nn.Module.__repr__

    def __iter__(self) -> Iterator[Any]:
        return iter(self.acn_steps())

    def __getitem__(self, index: int | slice) -> Any:
        if (
            isinstance(index, slice)
            and not index.start
            and index.step in (None, 1)
            and (index.stop is None or index.stop >= len(self))
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

    def acn_steps(self) -> list[Callable[..., Any]]:
        """What a loop over the blocks calls, in order."""
        return _Pass(self).steps(1 if self.acn_inject is not None else len(self))

    def acn_note(self, h: Tensor, held: Tensor | None) -> None:
        if self.acn_record is not None:
            self.acn_record.append(total(h, held))


class Step:
    """A block's turn in one pass, as the model's own loop sees it: it is called as the block is,
    returns what the loop expects of one, and has the block's attributes (ModernBERT's loop reads
    the kind of attention of each)."""

    def __init__(self, turns: _Pass, i: int, block: AcnBlock) -> None:
        self.turns, self.i, self.block = turns, i, block

    def __call__(self, h: Tensor, *args: Any, **kwargs: Any) -> Any:
        h = self.turns.step(self.i, h, *args, **kwargs)
        return (h, None) if self.block.acn_architecture.tuples else h

    def __getattr__(self, name: str) -> Any:
        return getattr(self.block, name)


class _Pass:
    """One pass through a stack: what is held beside the stream so far, and a step per block."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.held: Tensor | None = None
        self.left = False

    def steps(self, count: int) -> list[Callable[..., Any]]:
        """One for each of the first blocks. They hold the pass, never it them: a cycle would keep
        its tensors until the collector comes."""
        blocks = cast("dict[str, AcnBlock]", self.stack._modules)
        return [Step(self, i, blocks[str(i)]) for i in range(count)]

    def step(self, i: int, h: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Block i on the stream; the further arguments are what the model's loop passes to that
        block."""
        stack = self.stack
        if stack.acn_inject is not None:
            return stack.acn_inject
        if stack.acn_calls is not None:
            stack.acn_calls.append(Call(h, args, kwargs))
            return h
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


def current_alphas(block: nn.Module) -> tuple[Alpha, ...]:
    """The alphas of a wrapped block's layers: numbers, or tensors while they are trained."""
    learned = block._parameters.get("acn_learned")  # [layers of this block] while alpha is trained
    return (
        cast(AcnBlock, block).acn_alphas if learned is None else tuple(learned.clamp(0, 1).unbind())
    )


@cache
def block_class(cls: Any, architecture: Architecture) -> type[nn.Module]:
    return type(
        f"Acn{cls.__name__}",
        (AcnBlock, cls),
        {"acn_architecture": architecture, "__module__": __name__},
    )


def _new_block(cls: type[nn.Module], architecture: Architecture) -> nn.Module:
    """An empty block, to be given its state."""
    made = block_class(cast(Any, cls), architecture)
    return made.__new__(made)
