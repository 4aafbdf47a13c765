"""What this package must know about a model family: where its blocks are, what their residual
branches compute, and which inner widths can be made smaller. One frozen object per family, in a
file of its own; importing it imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

    from acn_compress.form import Branch


Modality: TypeAlias = Literal["image", "text", "audio"]  # of what a model reads


@dataclass(frozen=True)
class Cut:
    """Where one width lies in one weight matrix of a block.

    Args:
        path: the linear layer inside the block.
        size: features of this layer that belong to one unit (head_dim, or 1 for an MLP).
        parts: equal parts of the layer's features that each hold all units (3 for a fused
            query-key-value layer).
        scale: of a layer that writes into the stream: what multiplies what it writes, a parameter
            of the block (LayerScale) or a number.
        norm: of a layer that writes into the stream: the block's RMS norm that stands between the
            two.
        along_tokens: of a layer that writes into the stream: its features are the tokens, so that
            what it writes has to be transposed (a Mixer's token mixing).
    """

    path: str
    size: int = 1
    parts: int = 1
    scale: str | float | None = None
    norm: str | None = None
    along_tokens: bool = False


@dataclass(frozen=True)
class Width:
    """A prunable inner width: `outputs` produce its features, `inputs` consume them. Unit u is
    removed from all of them."""

    units: int
    outputs: tuple[Cut, ...]
    inputs: tuple[Cut, ...]

    def written(self, **fields: Any) -> Width:
        """The same, with more said of the layers that consume it (fields of `Cut`)."""
        return replace(self, inputs=tuple(replace(cut, **fields) for cut in self.inputs))


def _model_base(model: PreTrainedModel) -> nn.Module:
    base: nn.Module = model.base_model
    return base


def _no_fix(block: nn.Module) -> None:
    """Most blocks read their widths from the weights."""


def said_by(field: str) -> Callable[[PreTrainedConfig, int], None]:
    """For `Architecture.says`: one field of the config is the number of units."""
    return lambda config, units: setattr(config, field, units)


def _no_init(model: PreTrainedModel) -> None:
    """Most models are made with the random weights of their family."""


def _no_record(config: PreTrainedConfig, depth: int) -> None:
    """Most configs count their blocks in `depth_fields`."""


@dataclass(frozen=True, eq=False)
class Architecture:
    """One family.

    Args:
        model_type: transformers' `config.model_type`.
        block: class name (or names) of a block; anything else in the list is refused.
        blocks: attribute path from the base model to the block list.
        branches: (block, *args, **kwargs as the model's loop passes them) -> the residual branches
            in order.
        widths: block -> its prunable widths by name; "heads" (in groups that share keys and values)
            and "mlp".
        modality: "image", "text" or "audio".
        base: the module `blocks` starts from.
        fix_widths_: repairs attributes of a block that repeat a width, after its weights were cut.
        depth_fields: config fields that count blocks; list-valued ones hold one entry per block.
        embeds: its own pooled output is the embedding of a text, not the mean of its hidden states.
        first_stays: the first block is not built as the others are, and cannot go without them.
        says: by the name of a width, what writes into a config that every block has so many units;
            it raises ValueError for a number that no config can say. What is not here the config
            says in no way.
        leftovers: ends of the names of constants that old versions of the library saved with the
            weights; they are passed over.
        record_depth_: (config, depth), where the number of blocks is written elsewhere.
        init_: gives a model (not wrapped) the random weights of its family, where its constructor
            does not.
        tuples: the model's loop takes a tuple from a block, of which the stream is the first.
        checkpointing: gradient checkpointing works: a block is a layer that transformers knows to
            recompute.
        refuse: config -> why a model of this family is not supported, or None.
    """

    model_type: str
    block: str | tuple[str, ...]
    blocks: str
    branches: Callable[..., tuple[Branch, ...]]
    widths: Callable[[Any], Mapping[str, Width]]
    modality: Modality
    base: Callable[[PreTrainedModel], nn.Module] = _model_base
    fix_widths_: Callable[[Any], None] = _no_fix
    depth_fields: tuple[str, ...] = ("num_hidden_layers",)
    embeds: bool = False
    first_stays: bool = False
    says: Mapping[str, Callable[[PreTrainedConfig, int], None]] = field(default_factory=dict)
    leftovers: tuple[str, ...] = ()
    record_depth_: Callable[[PreTrainedConfig, int], None] = _no_record
    init_: Callable[[PreTrainedModel], None] = _no_init
    tuples: bool = False
    checkpointing: bool = True
    refuse: Callable[[PreTrainedConfig], str | None] = field(default=lambda config: None)
