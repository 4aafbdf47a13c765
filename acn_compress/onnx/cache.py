"""The keys and values of a language model as inputs and outputs of its graph, under the names that
optimum and transformers.js know:

    past_key_values.{block}.key, .value    [batch, heads, past, width]: of the tokens before
    position_ids                           [batch, tokens]: of the tokens that are read now
    present.{block}.key, .value            [batch, heads, past + tokens, width]: of both

`attention_mask` is [batch, past + tokens]. The past may be empty, so one graph reads a whole text
at once and goes on behind one. Heads are those that each block has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from acn_compress.network.network import Network
from acn_compress.network.plain import plain_class
from acn_compress.tasks import head_named

if TYPE_CHECKING:
    from onnxscript import ir

    from acn_compress.onnx.session import Array, Input

PAST, PRESENT = "past_key_values", "present"
POSITIONS = "position_ids"


@dataclass(frozen=True)
class Cache:
    """What a network keeps of the tokens it has read.

    Args:
        shapes: heads and width of every tensor: keys and values of the first block, of the second
            and so on.
    """

    shapes: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, net: Network) -> Cache | None:
        """That of a language model; None for anything else, which has nothing to go on with."""
        task = head_named(plain_class(type(net.model)).__name__, net.modality)
        both_ways = getattr(net.config, "use_bidirectional_attention", False)
        if task is None or task.name != "causal-lm" or not net.uncached or both_ways:
            return None
        with torch.inference_mode():
            found = net.model(**net.example_inputs(batch=1), use_cache=True).past_key_values
        return cls(tuple((t.shape[1], t.shape[3]) for t in _tensors(found)))

    def names(self, side: str) -> list[str]:
        """Of the tensors, `side` being PAST or PRESENT."""
        return [f"{side}.{i // 2}.{('key', 'value')[i % 2]}" for i in range(len(self.shapes))]

    def begun(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs of a text [batch, tokens] that is read from its beginning."""
        mask = inputs["attention_mask"]
        empty = [torch.zeros(len(mask), heads, 0, width) for heads, width in self.shapes]
        positions = {POSITIONS: (mask.cumsum(1) - 1).clamp_min(0)}
        return {**inputs, **positions, **dict(zip(self.names(PAST), empty, strict=True))}

    def read(self, model: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Logits [batch, tokens, vocabulary], then keys and values of all tokens so far."""
        from transformers import DynamicCache

        given = {name: value for name, value in inputs.items() if not is_past(name)}
        past = [inputs[name] for name in self.names(PAST)]
        # of no config: one with a window would keep no more than its tokens
        cache = DynamicCache([*zip(past[::2], past[1::2], strict=True)])
        found = model(**given, past_key_values=cache, use_cache=True)
        return found.logits, *_tensors(found.past_key_values)

    def split(
        self, model: Any, inputs: Mapping[str, Tensor], before: int
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
        """The same text read in two parts: the inputs of the second, behind the first `before`
        tokens, and what it has to say, which is what reading the whole at once says."""
        whole = self.begun(inputs)
        _, *past = self.read(
            model, self.begun({name: value[:, :before] for name, value in inputs.items()})
        )
        rest = {name: whole[name][:, before:] for name in ("input_ids", POSITIONS)}
        logits, *present = self.read(model, whole)
        second = {**whole, **rest, **dict(zip(self.names(PAST), past, strict=True))}
        return second, (logits[:, before:], *present)


def take_any_empty_past_(graph: ir.Graph, cache: Cache) -> None:
    """Let an empty past have any number of heads of any width: optimum makes it of what the config
    says, which knows no heads per block, and no width beside Qwen3's."""
    from onnxscript import ir

    first = graph[0]
    sizes = dict(zip(cache.names(PAST), cache.shapes, strict=True))
    for past in [i for i in graph.inputs if i.name in sizes]:
        heads, width = sizes[str(past.name)]
        shape = ir.tensor([0, heads, 0, width], ir.DataType.INT64, name=f"{past.name}.shape")
        wanted = ir.Value(name=shape.name, const_value=shape, type=ir.TensorType(shape.dtype))
        graph.register_initializer(wanted)
        node = ir.node("Reshape", [past, wanted])  # a 0 keeps the size
        found = node.outputs[0]
        found.name, found.shape, found.type = f"{past.name}.found", past.shape, past.type
        ir.convenience.replace_all_uses_with(past, found)
        node.replace_input_with(0, past)
        graph.insert_before(first, node)
        assert past.shape is not None
        past.shape = ir.Shape([past.shape[0], None, past.shape[2], None])


def _tensors(cache: Any) -> list[Tensor]:
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


def is_past(name: str) -> bool:
    """Whether an input holds what was read before."""
    return name.startswith(f"{PAST}.")


def is_present(name: str) -> bool:
    """Whether an output is there to be given back as an input."""
    return name.startswith(f"{PRESENT}.")


def own_inputs(inputs: Sequence[Input]) -> list[Input]:
    """Those that a decoder's graph has beside the text itself; none of any other graph."""
    names = {i.name for i in inputs}
    decoder = "input_ids" in names and any(map(is_past, names))
    return [i for i in inputs if decoder and (is_past(i.name) or i.name == POSITIONS)]


def from_the_beginning(feeds: Mapping[str, Array], inputs: Sequence[Input]) -> dict[str, Array]:
    """`feeds`, with what a decoder's graph takes beside a text and was not given: an empty past,
    and positions that do not count padding."""
    asked = [i for i in own_inputs(inputs) if i.name not in feeds]
    if not asked:
        return dict(feeds)
    ids = feeds["input_ids"]
    mask = feeds.get("attention_mask", np.ones_like(ids))
    positions = np.maximum(np.cumsum(mask, 1) - 1, 0)[:, -ids.shape[1] :]
    found = dict(feeds)
    for i in asked:
        empty = np.zeros((len(ids), *(size or 0 for size in i.shape[1:])))
        found[i.name] = (empty if is_past(i.name) else positions).astype(i.dtype)
    return found


def in_short(names: Sequence[str]) -> str:
    """Names in one line, those of the blocks' keys and values together."""
    said = []
    for blocks, group in groupby(names, lambda name: is_past(name) or is_present(name)):
        found = list(group)
        if blocks:
            side, last, _ = found[-1].split(".")
            said.append(f"{side}.{{0..{last}}}.key/value")
        else:
            said += found
    return ", ".join(said)
