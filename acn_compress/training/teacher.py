"""A teacher is given what it would be given alone, and its answers are read as its student means
them. Both are compared before any work:

    task              must be the same
    classes           matched by name: the same names in another order are reordered, other names
                      are refused; names that say nothing (LABEL_0, ...) go by number,
                      and by position where the others are none
    tokens            the tokenizers must give the same ones; the vocabularies must have one size
                      where tokens are what is answered
    length of texts   the teacher must take the longest text of the data
    token types       left out for a teacher that knows none
    padding           the teacher's own fills its batches up
    clips             the feature extractors must do the same to them
    pixels            size and channels must be the same; another normalisation is put in place of
                      the student's
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.source import Source
from acn_compress.data import clips
from acn_compress.data.labels import is_generic, names_of, numbers_of
from acn_compress.data.load import Data
from acn_compress.data.pictures import Preparation
from acn_compress.data.text import padding
from acn_compress.errors import ConfigError
from acn_compress.network.network import Network
from acn_compress.tasks import task_of

PROBE = "Hello WORLD, naïve Ünicode: 42 don't — Straße (a_b) {x}!"  # what tokenizers differ about


def load_teacher(
    taught: Source, net: Network, source: Source | None, *, task: str | None = None
) -> Network:
    """The network of `taught`, made a teacher of `net` (`align_`).

    Args:
        source: what the student was made from.
        task: to read the teacher under another head than its checkpoint names.
    """
    teacher = load_source(taught, task=task, device=net.device)
    if taught is not source:
        align_(teacher, taught, net, source)
    return teacher


def align_(teacher: Network, taught: Source, net: Network, source: Source | None) -> None:
    """Make `teacher` one that takes the student's input and answers in the student's classes, in
    place.

    Args:
        taught: where the teacher's tokenizer or processor lies.
        net: the student.
        source: where its own lies.
    Raises:
        ConfigError: if that cannot be done, saying what differs.
    """
    task = task_of(net)
    if task_of(teacher) != task:
        raise _unlike(taught, f"does {task_of(teacher).name}", f"the model {task.name}")
    if task.classes is not None:
        _name_classes_(teacher, taught, net)
    if net.modality == "image":
        _see_(teacher, taught, net, source)
    elif net.modality == "audio":
        _check_hearing(teacher, taught, net, source)
    else:
        _check_tokens(teacher, taught, net, source)
        _read_(teacher, taught, net, source)


def check_lengths(teacher: Network, net: Network, data: Data) -> None:
    """Refuse a teacher that is shorter than its student, if a text of the data does not fit.

    Raises:
        ConfigError: saying which length fits.
    """
    limit = teacher.longest_text
    lengths = None if data.read is None else data.read.lengths
    if lengths is None or limit >= net.longest_text:
        return
    if (longest := lengths.longest) > limit:
        raise ConfigError(
            f"the teacher takes texts of {limit} tokens, but {data.name} has some of {longest}. "
            f"Cut them with --max-length {limit}, or choose another teacher."
        )


def _unlike(taught: Source, theirs: str, ours: str) -> ConfigError:
    return ConfigError(
        f"teacher {taught.name} {theirs}, but {ours}. It cannot teach this model: choose another."
    )


# classes


def _name_classes_(teacher: Network, taught: Source, net: Network) -> None:
    theirs, ours = names_of(teacher.config), names_of(net.config)
    if len(theirs) != len(ours):
        raise _unlike(taught, f"knows {_some(theirs)}", f"the model {_some(ours)}")
    if theirs == ours:
        return
    order = _order(theirs, ours)
    if order is None:
        if is_generic(theirs) or is_generic(ours):
            return
        raise _unlike(taught, f"knows {_some(theirs)}", f"the model {_some(ours)}")
    teacher.model.register_forward_hook(partial(_reordered, torch.tensor(order)))
    teacher.config.id2label = dict(enumerate(ours))
    teacher.config.label2id = {name: i for i, name in enumerate(ours)}


def _order(theirs: list[str], ours: list[str]) -> list[int] | None:
    """Where the teacher has each class of the student: by exact names, otherwise by names that
    differ in nothing but their case, or by numbers; None if none matches all of them."""
    for same in (str, str.casefold):
        places = {same(name): i for i, name in enumerate(theirs)}
        wanted = [same(name) for name in ours]
        if len(places) == len(set(wanted)) == len(ours) and places.keys() == set(wanted):
            return [places[name] for name in wanted]
    numbers, asked = numbers_of(theirs), numbers_of(ours)
    if numbers is None or asked is None or set(numbers) != set(asked):
        return None
    return [numbers.index(number) for number in asked]


class Classifies(Protocol):
    """What a classifier returns."""

    logits: Tensor


Hooked = tuple[tuple[object, ...], dict[str, Tensor]]  # what a hook gives the model instead


def _reordered(
    order: Tensor, module: nn.Module, args: tuple[object, ...], output: Classifies
) -> Classifies:
    output.logits = output.logits[..., order.to(output.logits.device)]
    return output


def _some(names: list[str]) -> str:
    return f"{len(names)} classes ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})"


# texts


def _check_tokens(teacher: Network, taught: Source, net: Network, source: Source | None) -> None:
    theirs, ours = _tokenizer(taught), _tokenizer(source)
    if theirs is not None and ours is not None:
        a, b = theirs.get_vocab(), ours.get_vocab()
        if a != b:
            what = "other tokens" if len(a) == len(b) else f"{len(a)} tokens"
            raise _unlike(taught, f"reads {what}", f"the model's tokenizer has {len(b)} of its own")
        if theirs(PROBE)["input_ids"] != ours(PROBE)["input_ids"]:
            raise _unlike(taught, "splits texts otherwise", "the model gets tokens of its own")
    embedded, answered = teacher.config.vocab_size, net.config.vocab_size
    needed = answered if ours is None else len(ours)  # a vocabulary may be padded
    if embedded < needed or (task_of(net).over_vocabulary and embedded != answered):
        raise _unlike(taught, f"has a vocabulary of {embedded}", f"the model one of {answered}")


def _tokenizer(source: Source | None) -> Any:
    from transformers import AutoTokenizer

    if source is None:
        return None
    try:
        return AutoTokenizer.from_pretrained(
            source.directory, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError):  # the student's own is missed elsewhere
        return None


def _read_(teacher: Network, taught: Source, net: Network, source: Source | None) -> None:
    """Leave out token types for a teacher that knows none, and fill batches up with its own
    padding: some find the last token of a text by it."""
    types = (
        getattr(teacher.config, "type_vocab_size", 0) > 1
        and "token_type_ids" in inspect.signature(teacher.model.forward).parameters
    )
    theirs, ours = _tokenizer(taught), _tokenizer(source)
    known = theirs is not None and ours is not None
    pad = padding(teacher, theirs) if known else 0
    refilled = known and pad != padding(net, ours)
    if types and not refilled:
        return
    hook = partial(_read, types, pad if refilled else None)
    teacher.model.register_forward_pre_hook(hook, with_kwargs=True)


def _read(
    types: bool,
    pad: int | None,
    module: nn.Module,
    args: tuple[object, ...],
    given: dict[str, Tensor],
) -> Hooked:
    own = {name: x for name, x in given.items() if types or name != "token_type_ids"}
    if pad is not None:
        own["input_ids"] = own["input_ids"].masked_fill(own["attention_mask"] == 0, pad)
    return args, own


# clips


def _check_hearing(teacher: Network, taught: Source, net: Network, source: Source | None) -> None:
    theirs, ours = clips.Preparation.of(teacher, taught), clips.Preparation.of(net, source)
    for name in clips.HEARING:
        a, b = (getattr(found.extractor, name, None) for found in (theirs, ours))
        if a != b:
            raise _unlike(taught, f"hears clips with {name} {a}", f"the model with {b}")


# images


def _see_(teacher: Network, taught: Source, net: Network, source: Source | None) -> None:
    theirs, ours = Preparation.of(teacher, taught), Preparation.of(net, source)
    if (theirs.size, theirs.channels) != (ours.size, ours.channels):
        raise _unlike(taught, f"sees {_said(theirs)}", f"the model {_said(ours)}")
    ratio = theirs.scale / ours.scale
    scale = ratio * ours.std / theirs.std
    shift = (ratio * ours.mean - theirs.mean) / theirs.std
    if bool((scale == 1).all()) and bool((shift == 0).all()):
        return
    hook = partial(_see, scale, shift)
    teacher.model.register_forward_pre_hook(hook, with_kwargs=True)


def _see(
    scale: Tensor,
    shift: Tensor,
    module: nn.Module,
    args: tuple[object, ...],
    given: dict[str, Tensor],
) -> Hooked:
    x = given["pixel_values"]
    a, b = (t[:, None, None].to(x) for t in (scale, shift))
    return args, given | {"pixel_values": x * a + b}


def _said(prepared: Preparation) -> str:
    height, width = prepared.size
    return f"{height} x {width} pixels in {prepared.channels} channels"
