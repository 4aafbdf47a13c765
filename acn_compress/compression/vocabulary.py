"""A smaller vocabulary: tokens that some texts never use are cut from the tokenizer, the embedding
and the head.

What is left is a part of the same network: for texts without a token that went it says the same,
bit for bit (a language model: of the tokens that are left). The cut is compared with the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from acn_compress.checkpoint.source import Source
from acn_compress.checkpoint.vocabulary import (
    Tokenizer,
    Vocabulary,
    names_tokens,
    renumbered,
    token_numbers,
    write_files,
)
from acn_compress.compression.prune.cut import TOLERANCE
from acn_compress.compression.prune.method import Pruned, Pruning
from acn_compress.compression.prune.zeroed import holding_zeros
from acn_compress.errors import VerificationError
from acn_compress.network.network import Network

NOTE = (
    "Nothing but tokens was cut: texts that use none of them are answered as before, others are "
    "read in smaller pieces."
)


def nothing_else(net: Network, found: Vocabulary) -> Pruning:
    """A pruning that leaves heads, features and weights alone."""
    check_held = holding_zeros(net)
    gone = found.parameters_before - found.parameters_after

    def finish_() -> Pruned:
        check_held()
        return Pruned(
            method="vocabulary",
            scope="global",
            target=0.0,
            achieved=gone / found.parameters_before,
            of=f"{gone:,} of {found.parameters_before:,} parameters",
            parameters_before=found.parameters_before,
            parameters_after=net.parameters,
            note=NOTE,
        )

    return Pruning(finish_)


def narrow_(
    net: Network, source: Source, counts: Tensor, name: str, least: int, place: Path
) -> tuple[Source, Vocabulary]:
    """Cut the vocabulary of a network, in place, and write the tokenizer that goes with it.

    Args:
        source: where its tokenizer lies.
        counts: how often each token occurs, [vocabulary].
        name: of what they were counted in.
        least: tokens that occur fewer times go.
        place: an empty directory for the files.
    Returns:
        The source with its files in `place`, and what became of the vocabulary.
    Raises:
        UnsupportedError: if there is no tokenizer whose tokens can be cut.
        VerificationError: if the cut network answers otherwise.
    """
    before, size = net.parameters, net.config.vocab_size
    keep = _kept(net, source, counts, least)
    write_files(source, place, keep)
    cut_(net, [number for number in keep if number < size])
    gone = counts.sum() - counts[[n for n in keep if n < len(counts)]].sum()
    found = Vocabulary(
        data=name,
        least=least,
        before=size,
        after=net.config.vocab_size,
        unseen=float(gone / counts.sum().clamp_min(1)),
        parameters_before=before,
        parameters_after=net.parameters,
    )
    return replace(source, directory=place), found


def _kept(net: Network, source: Source, counts: Tensor, least: int) -> list[int]:
    """The tokens that stay, rising."""
    tokenizer = Tokenizer.read(source)
    named = {*token_numbers(net.config.to_dict()), *token_numbers(_generation(net))}
    used = set((counts >= least).nonzero()[:, 0].tolist())
    keep = used | tokenizer.always() | {n for n in named if 0 <= n < net.config.vocab_size}
    embeddings = getattr(net.model.base_model, "embeddings", None)
    positions = getattr(embeddings, "position_embeddings", None)
    if (pad := getattr(positions, "padding_idx", None)) is not None:
        keep |= set(range(pad + 1))  # positions are counted from the number of the padding
    return sorted(tokenizer.closed(keep))


def _generation(net: Network) -> dict[str, Any]:
    config = getattr(net.model, "generation_config", None)
    return {} if config is None else dict(config.to_dict())


def cut_(net: Network, keep: Sequence[int]) -> None:
    """Leave only the tokens `keep` (rising) in embedding, head and configs; in place.

    Raises:
        VerificationError: if the network answers otherwise.
    """
    old, index = net.config.vocab_size, torch.tensor(keep)
    embedding, inputs = net.model.get_input_embeddings(), net.example_inputs(batch=2)
    assert isinstance(embedding, nn.Embedding)
    padding = embedding.padding_idx
    chosen = torch.randint(len(keep), inputs["input_ids"].shape, generator=torch.manual_seed(0))
    expected = _answer(net, inputs, index[chosen])
    whole = {k: v for k, v in net.model.state_dict().items() if v.shape[:1] == (old,)}
    net.model.resize_token_embeddings(len(keep), mean_resizing=False)
    state = net.model.state_dict()
    with torch.no_grad():
        for name, tensor in whole.items():
            if state[name].shape[0] == len(keep):
                state[name].copy_(tensor[index.to(tensor.device)])
    _renumber_(net, renumber := {number: i for i, number in enumerate(keep)})
    embedding.padding_idx = None if padding is None else renumber[padding]
    found = _answer(net, inputs, chosen)
    if expected.shape != found.shape:
        expected = expected[..., index.to(expected.device)]
    if expected.shape != found.shape:
        raise VerificationError(
            f"cutting the vocabulary left answers of shape {list(found.shape)}, expected "
            f"{list(expected.shape)}. Please report this."
        )
    apart = float((found - expected).abs().max() / expected.abs().max().clamp_min(1.0))
    if not apart <= TOLERANCE[net.dtype]:
        raise VerificationError(
            f"cutting the vocabulary changed the answers by {apart:.1e}. Please report this."
        )


def _answer(net: Network, inputs: dict[str, Tensor], ids: Tensor) -> Tensor:
    with torch.inference_mode(), net.evaluating():
        return net.answer(**inputs | {"input_ids": ids.to(net.device)})


def _renumber_(net: Network, renumber: dict[int, int]) -> None:
    """The new numbers of padding, beginning, end and the like."""
    configs: list[Any] = [*net.configs, getattr(net.model, "generation_config", None)]
    for config in filter(None, configs):
        said = {k: v for k, v in config.to_dict().items() if names_tokens(k)}
        for name, value in renumbered(said, renumber).items():
            setattr(config, name, value)
