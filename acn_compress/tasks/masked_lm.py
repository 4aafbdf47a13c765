"""The hidden tokens of a text: 15 % are hidden (80 % as the mask, 10 % as another token, 10 % as
they are; arXiv 1810.04805), anew in every training batch, always the same ones in evaluation. Main
metric: token_accuracy, over the hidden tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from acn_compress.errors import DataError
from acn_compress.tasks import tokens
from acn_compress.tasks.base import IGNORED, Encoder, Rows, Table, Task, of_loose_texts, padded

if TYPE_CHECKING:
    from torch import Tensor

HIDDEN = 0.15  # share of the tokens


def rows(table: Table, encoder: Encoder) -> Rows:
    """A text per row; empty ones are left out."""
    if encoder.tokenizer.mask_token_id is None:
        raise DataError("the tokenizer has no mask token, which masked-lm needs.")
    if encoder.tokenizer.mask_token_id >= encoder.vocabulary:
        raise DataError(
            f"the mask is token {encoder.tokenizer.mask_token_id}, but the model embeds "
            f"{encoder.vocabulary}. Do tokenizer and model belong together?"
        )
    return of_loose_texts(table, encoder)


def collate(
    ids: list[Tensor], labels: list[Tensor], seeds: list[int | None], encoder: Encoder
) -> tuple[list[Tensor], Tensor | None]:
    """Tokens are hidden, and are the labels."""
    hidden = [hide(row, seed, encoder) for row, seed in zip(ids, seeds, strict=True)]
    return padded([shown for shown, _ in hidden], [label for _, label in hidden], seeds, encoder)


def hide(ids: Tensor, seed: int | None, encoder: Encoder) -> tuple[Tensor, Tensor]:
    """One text with tokens hidden, at least one, and the hidden ones as labels; drawn from `seed`,
    or from torch's own generator."""
    import torch

    tokenizer = encoder.tokenizer
    generator = None if seed is None else torch.Generator().manual_seed(1_000_003 + seed)
    drawn, fate = torch.rand(2, len(ids), generator=generator)
    drawn = drawn.masked_fill(torch.isin(ids, encoder.frame), 2.0)
    chosen = drawn < HIDDEN
    chosen[drawn.argmin()] = True
    most = min(len(tokenizer), encoder.vocabulary)  # the rest cannot be embedded
    others = torch.randint(most, ids.shape, generator=generator)
    shown = torch.where(chosen & (fate < 0.8), torch.tensor(tokenizer.mask_token_id), ids)
    return torch.where(chosen & (fate >= 0.9), others, shown), torch.where(chosen, ids, IGNORED)


TASK = Task(
    name="masked-lm",
    metric="token_accuracy",
    modality="text",
    heads=("ForMaskedLM",),
    auto_class="AutoModelForMaskedLM",
    pipeline_tag="fill-mask",
    score=tokens.score,
    rows=rows,
    answers=tokens.answers,
    extras=tokens.perplexity,
    collate=collate,
    at_once=8,  # every token has a score for the whole vocabulary
    over_vocabulary=True,
)
