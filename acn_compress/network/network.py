"""A network: the user's own transformers model and its family as one object. It is what moves
through steps, compression, measuring and training; `acn_compress.load` hands out the plain
transformers model inside it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from acn_compress.architectures import wav2vec2
from acn_compress.errors import ConfigError, UnsupportedError, VerificationError
from acn_compress.form import LayerKind
from acn_compress.network.pickled import forget_collecting_, let_pickle_
from acn_compress.network.sentence import SentenceHead
from acn_compress.network.stack import (
    AcnBlock,
    Call,
    Stack,
    StackList,
    StackSequential,
    block_class,
    current_alphas,
)
from acn_compress.network.structure import Structure

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from acn_compress.architectures.base import Architecture, Modality

ENDLESS = 1 << 31  # tokens
STREAM = (
    "hidden_size",
    "n_embd",
    "dim",
    "num_features",
)  # what configs call the features of the stream
ANSWERS = ("logits", "image_embeds", "text_embeds")  # of an output, what a model is about


@dataclass(frozen=True, eq=False)
class Network:
    """A transformers model and its family.

    Args:
        model: called as in transformers; its block list is (or is to be) wrapped (`stack.py`), its
            structure lies in its config.
        family: the adapter.
        fresh: tensors of its head that were not in the checkpoint and began at random.
        sentence: what makes an embedding of its last hidden states, if that is not their mean.
        remarks: sentences about the checkpoint it was read from: what was left out of it, or is not
            as its config says.
        named: the classes of its head are those of the training data, not the checkpoint's.
        told: of clips, which samples are padding: what the checkpoint's feature extractor says;
            None is what is usual for the config.
    """

    model: PreTrainedModel
    family: Architecture
    fresh: tuple[str, ...] = ()
    sentence: SentenceHead | None = None
    remarks: tuple[str, ...] = ()
    named: bool = False
    told: bool | None = None

    def __call__(self, **inputs: Tensor) -> Any:
        """The model's own output, as transformers gives it."""
        return self.model(**self.cast(inputs))

    def __getstate__(self) -> dict[str, Any]:
        forget_collecting_(self.model)
        return dict(self.__dict__)

    def __repr__(self) -> str:
        return f"Network({type(self.model).__name__}, {self.depth} blocks)"

    # what it is

    @property
    def config(self) -> PreTrainedConfig:
        """Of the model."""
        return self.model.config

    @property
    def configs(self) -> list[PreTrainedConfig]:
        """Of the model, and what copies its parts hold."""
        configs = {id(m.config): m.config for m in self.model.modules() if hasattr(m, "config")}
        return list(configs.values())

    @property
    def device(self) -> torch.device:
        """Where its parameters lie."""
        return self.a_parameter.device

    @property
    def dtype(self) -> torch.dtype:
        """Of its parameters."""
        return self.a_parameter.dtype

    @property
    def a_parameter(self) -> Tensor:
        """Any one of its parameters."""
        return cast(Tensor, next(iter(self.model.parameters())))

    @property
    def parameters(self) -> int:
        """Number of parameters, tied ones once."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def stack(self) -> nn.Module:
        """The block list, wrapped or not."""
        return cast(nn.Module, attrgetter(self.family.blocks)(self.family.base(self.model)))

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks themselves, in order; a wrapped list yields what a pass calls."""
        return list(cast("dict[str, nn.Module]", self.stack._modules).values())

    @property
    def depth(self) -> int:
        """Blocks it has."""
        return len(self.stack._modules)

    @property
    def width(self) -> int:
        """Features of the stream, as the config calls them."""
        config = of_images(self.config)
        found = [getattr(config, name, None) for name in STREAM]
        found.append(getattr(self.model.base_model, "num_features", None))  # timm's own
        return next((int(n) for n in found if n), 0)

    @property
    def modality(self) -> Modality:
        """Of its input."""
        return self.family.modality

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images it takes."""
        return image_size(self.config)

    @property
    def longest_text(self) -> int:
        """Tokens it has positions for; `ENDLESS` where it needs none. Some families count them from
        the number of the padding token on."""
        embeddings = getattr(self.model.base_model, "embeddings", None)
        first = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
        positions = int(getattr(self.config, "max_position_embeddings", None) or ENDLESS)
        return positions - (0 if first is None else first + 1)

    @property
    def channels(self) -> int:
        """Colour channels of the images it takes."""
        return channels(self.config)

    @property
    def masks(self) -> bool:
        """Of clips: whether it is told which samples are padding."""
        return wav2vec2.masks(self.config) if self.told is None else self.told

    @property
    def structure(self) -> Structure:
        """What it is beyond its weights."""
        return Structure.model_validate(self.config.acn)

    @property
    def uncached(self) -> dict[str, bool]:
        """What a decoder is told so that it keeps no cache; nothing to an encoder."""
        keeps = getattr(self.config, "use_cache", None) is not None
        return {"use_cache": False} if keeps and getattr(self.config, "is_decoder", True) else {}

    def norm_behind(self, k: int) -> nn.Module | None:
        """The norm behind block k of a post-norm network; None in a pre-norm one."""
        return cast("nn.Module | None", self.family.branches(self.blocks[k])[-1].norm)

    @property
    def fresh_head(self) -> str | None:
        """One sentence about the tensors of its head that began at random; None if it had them
        all."""
        if not self.fresh:
            return None
        shown = ", ".join(self.fresh[:3]) + (", ..." if len(self.fresh) > 3 else "")
        return (
            f"The checkpoint has no such head: {len(self.fresh)} tensors began at random ({shown})."
        )

    @property
    def removable(self) -> range:
        """Blocks that may go while later ones stay."""
        return range(1 if self.family.first_stays else 0, self.depth)

    def check_depth(self, depth: int, where: str) -> None:
        """Refuse a depth the network does not have.

        Raises:
            ConfigError: naming the range.
        """
        if not 1 <= depth <= self.depth:
            raise ConfigError(
                f"depth is {depth}, but {where} has {self.depth} blocks. Choose 1 to {self.depth}."
            )

    def check_blocks(self) -> None:
        """Refuse a model with other blocks than its adapter was written for.

        Raises:
            UnsupportedError: naming the block.
        """
        known = (self.family.block,) if isinstance(self.family.block, str) else self.family.block
        for i, block in enumerate(self.blocks):
            if (found := type(block).__name__.removeprefix("Acn")) not in known:
                raise UnsupportedError(
                    f"block {i} is a {found}, expected {' or '.join(known)}: this adapter does "
                    "not know it."
                )

    # how it is run

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Inside, the model is in evaluation mode; afterwards in the one it was in."""
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)

    def example_inputs(
        self,
        batch: int = 2,
        length: int = 12,
        seed: int = 0,
        size: tuple[int, int] | None = None,
    ) -> dict[str, Tensor]:
        """Random inputs that the model accepts: [batch, channels, height, width] pixels, of `size`
        where it is not the config's; [batch, length] tokens with a mask; or [batch, samples] of
        clips that become `length` frames, with a mask if it takes one."""
        generator = torch.Generator().manual_seed(seed)
        if self.modality == "image":
            height, width = size or self.image_size
            pixels = torch.randn(batch, self.channels, height, width, generator=generator)
            return {"pixel_values": pixels.to(self.device, self.dtype)}
        if self.modality == "audio":
            samples, step = wav2vec2.frame(self.config)
            wave = torch.randn(batch, samples + (length - 1) * step, generator=generator)
            inputs = {"input_values": wave.to(self.device, self.dtype)}
            told = torch.ones_like(wave, dtype=torch.long).to(self.device)
            return inputs | ({"attention_mask": told} if self.masks else {})
        vocabulary = self.config.vocab_size
        shape = (batch, min(length, self.longest_text))
        ids = torch.randint(5 if vocabulary > 16 else 0, vocabulary, shape, generator=generator).to(
            self.device
        )
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def counted(self, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """Which positions of the stream (tokens, or the frames of clips) are no padding: [batch,
        length] of 1 and 0, or None where all are."""
        mask = inputs.get("attention_mask")
        if mask is None or self.modality != "audio":
            return mask
        frames = wav2vec2.frames(self.config, mask.shape[1])
        counts: Tensor = wav2vec2.frames(self.config, mask.sum(1))
        return (torch.arange(frames, device=mask.device) < counts[:, None]).to(mask.dtype)

    def cast(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Inputs in the model's own precision: models of images see to that themselves, those of
        clips do not."""
        wave = inputs.get("input_values")
        return inputs if wave is None else {**inputs, "input_values": wave.to(self.dtype)}

    def answer(self, **inputs: Tensor) -> Tensor:
        """The tensor the model is about (`first_output`), for `inputs`."""
        return first_output(self(**inputs))

    def twin(self) -> Network:
        """A copy that shares the parameters; blocks, alphas and probes are its own."""
        return Network(
            copy.deepcopy(self.model, {id(p): p for p in self.model.parameters()}),
            self.family,
            sentence=self.sentence,
            told=self.told,
        )

    def copy(self) -> Network:
        """A copy that shares nothing."""
        copied = copy.deepcopy(self.model)
        return Network(copied, self.family, sentence=self.sentence, told=self.told)

    # its form

    def wrap_(self) -> None:
        """Swap the stack to our classes, in place; alphas are set by `set_alphas_`."""
        stack = self.stack
        if isinstance(stack, Stack):
            return
        for block in self.blocks:
            block.__class__ = block_class(cast(Any, type(block)), self.family)
        stack.__class__ = StackSequential if isinstance(stack, nn.Sequential) else StackList
        let_pickle_(self.model)

    def unwrap_(self) -> None:
        """Undo `wrap_`: the family's own classes and forward again."""
        stack = self.stack
        if not isinstance(stack, Stack):
            return
        for block in self.blocks:
            block.__class__ = type(block).__mro__[2]  # Acn<Block>, AcnBlock, <Block>
        stack.__class__ = nn.Sequential if isinstance(stack, nn.Sequential) else nn.ModuleList  # type: ignore[assignment]

    def set_structure_(self, structure: Structure) -> None:
        """Give the layers the alphas of `structure` and record it in the config; the depth must
        match."""
        assert self.depth == len(structure.blocks)
        self.set_alphas_(structure.alpha, structure.layer)
        self.config.acn = structure.model_dump(mode="json")

    def set_alphas_(self, alphas: Sequence[float], layer: LayerKind) -> None:
        """Give every layer its alpha. `alphas` has one value per layer: per block, or per branch
        with layer "branch"."""
        blocks = cast("list[AcnBlock]", self.blocks)
        n = len(alphas) // len(blocks)
        for i, block in enumerate(blocks):
            block.acn_alphas = tuple(float(a) for a in alphas[n * i : n * (i + 1)])
            block.acn_layer = layer
            if "acn_learned" in block._parameters:
                with torch.no_grad():
                    cast(Tensor, block.acn_learned).copy_(torch.tensor(block.acn_alphas))

    def current_alphas(self) -> list[float]:
        """One per layer, as they are now, while they are trained too."""
        with torch.no_grad():
            return [float(a) for block in self.blocks for a in current_alphas(block)]

    @contextmanager
    def alphas(self, values: Sequence[float], layer: LayerKind | None = None) -> Iterator[None]:
        """Inside, the network runs with other alphas; its structure comes back afterwards."""
        structure = self.structure
        self.set_alphas_(values, layer or structure.layer)
        try:
            yield
        finally:
            self.set_alphas_(structure.alpha, structure.layer)

    def verify_alpha_one(self, where: str = "this model") -> None:
        """Prove that with alpha = 1 the swapped stack equals the family's own forward bit for bit.

        Raises:
            VerificationError: with the largest difference.
        """
        inputs = self.example_inputs()
        with torch.inference_mode(), self.evaluating():
            with self.alphas((1.0,) * len(self.structure.alpha)):
                ours = self.answer(**inputs)
            self.unwrap_()
            try:
                theirs = self.answer(**inputs)
            finally:
                self.wrap_()
        if not torch.allclose(ours, theirs, rtol=0.0, atol=0.0, equal_nan=True):
            raise VerificationError(
                f"{where}: alpha = 1 differs from the original by "
                f"{(ours - theirs).abs().max():.1e}, expected 0. "
                "Please report this."
            )

    # alphas as trained parameters

    def learned_alphas(self) -> list[Tensor]:
        """The alphas that are trained, one parameter per block ([layers of the block]); none unless
        `learn_alphas_` made them."""
        return [cast(Tensor, b.acn_learned) for b in self.blocks if "acn_learned" in b._parameters]

    def clamp_learned_(self) -> None:
        """Bring trained alphas back into [0, 1]; beyond it a clamp would stop their gradient for
        good."""
        for alphas in self.learned_alphas():
            alphas.clamp_(0, 1)

    def learn_alphas_(self, learn: bool) -> tuple[float, ...]:
        """Turn every alpha into a trained parameter (learn=True), or back into the number it has
        become. Returns the alphas."""
        alphas: list[float] = []
        for block in cast("list[AcnBlock]", self.blocks):
            if learn:
                start = torch.tensor(block.acn_alphas, device=self.device)
                block.register_parameter("acn_learned", nn.Parameter(start))
            elif "acn_learned" in block._parameters:
                learned = cast(Tensor, block.acn_learned).detach().clamp(0, 1)
                block.acn_alphas = tuple(round(float(a), 6) for a in learned)
                del block.acn_learned
            alphas += block.acn_alphas
        return tuple(alphas)

    # fewer blocks

    def truncate_(self, depth: int) -> None:
        """Cut to the first `depth` blocks, physically, in place: exact."""
        self.keep_(tuple(range(depth)))

    def keep_(self, positions: Sequence[int]) -> None:
        """Keep only the blocks at `positions`, physically, and mend what counts or numbers blocks.
        Only a prefix is exact; anything else makes another network (the plain baseline).

        Raises:
            ConfigError: if the first block goes and has to stay.
        """
        if self.family.first_stays and positions[0] != 0:
            raise ConfigError(
                f"block 0 would go, but in {self.family.model_type} the first block is not built "
                "as the others are. Keep it."
            )
        structure, stack = self.structure, self.stack
        kept = [self.blocks[i] for i in positions]
        stack._modules.clear()
        for i, block in enumerate(kept):
            stack.add_module(str(i), block)
            for module in block.modules():
                if isinstance(getattr(module, "layer_idx", None), int):
                    module.layer_idx = i  # type: ignore[assignment]
        for config in self.configs:
            for field in self.family.depth_fields:
                value = getattr(config, field, None)
                if isinstance(value, (list, tuple)):
                    setattr(config, field, [value[i] for i in positions])
                elif value is not None:
                    setattr(config, field, len(positions))
            self.family.record_depth_(config, len(positions))
        self.set_structure_(structure.kept(tuple(positions)))

    # probes: set for a context, never saved

    @contextmanager
    def _probe(self, name: str, value: object) -> Iterator[None]:
        """Inside, the stack's probe `name` is `value`; afterwards it is what it was."""
        stack = self.stack
        before = getattr(stack, name)
        setattr(stack, name, value)
        try:
            yield
        finally:
            setattr(stack, name, before)

    @contextmanager
    def recording(self) -> Iterator[list[Tensor]]:
        """Collects y_0 .. y_L ([batch, ..., width] each) of the forward passes inside the
        context."""
        record: list[Tensor] = []
        with self._probe("acn_record", record):
            yield record

    def injecting(self, y: Tensor) -> AbstractContextManager[None]:
        """Inside, the stack returns `y` without running a block: the model's own norm, pooling and
        head read it out."""
        return self._probe("acn_inject", y)

    def leaving(self, leave: Callable[[int, Tensor], bool]) -> AbstractContextManager[None]:
        """Inside, `leave(k, y_k)` is asked after block k (y_k [batch, ..., width]); once it says
        yes, no later block runs in
        that pass and the stack returns y_k: the model's own norm, pooling and head read it out."""
        return self._probe("acn_leave", leave)

    def calls(self, **inputs: Tensor) -> list[Call]:
        """What the model's own loop calls every block with for `inputs`; no block runs, so that all
        are given h_0."""
        calls: list[Call] = []
        with self._probe("acn_calls", calls), torch.no_grad(), self.evaluating():
            self.model(**self.cast(inputs), **self.uncached)
        return calls

    def bypassing(self, positions: Sequence[int]) -> AbstractContextManager[None]:
        """Inside, the blocks at `positions` add nothing and pass their input on."""
        return self._probe("acn_bypass", frozenset(positions))

    @contextmanager
    def gating(self) -> Iterator[Tensor]:
        """Inside, block i's contribution to y is multiplied by gate i; the gates ([L], ones) carry
        gradients."""
        gates = torch.ones(self.depth, requires_grad=True, device=self.device)
        with self._probe("acn_gates", gates):
            yield gates


def first_output(output: Any) -> Tensor:
    """The tensor a model is about: its logits or embeddings, or start/end logits joined, or the
    last hidden state."""
    for name in ANSWERS:
        if getattr(output, name, None) is not None:
            return cast(Tensor, getattr(output, name))
    if getattr(output, "start_logits", None) is not None:
        return torch.stack((output.start_logits, output.end_logits), -1)
    return cast(
        Tensor, output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0]
    )


def of_images(config: PreTrainedConfig) -> PreTrainedConfig:
    """The part of a config that the blocks were made from, where it has parts (CLIP)."""
    return cast("PreTrainedConfig", getattr(config, "vision_config", config))


def image_size(config: PreTrainedConfig) -> tuple[int, int]:
    """Height and width the model expects."""
    size = getattr(of_images(config), "image_size", None) or _input_size(config)[1:]
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def channels(config: PreTrainedConfig) -> int:
    """Colour channels the model expects."""
    return int(getattr(of_images(config), "num_channels", None) or _input_size(config)[0])


def _input_size(config: PreTrainedConfig) -> tuple[int, int, int]:
    """Of timm's models: channels, height, width."""
    return tuple((getattr(config, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224)))
