"""The next token. All texts stand in one row, cut into blocks. Each begins with what the tokenizer
begins a text with, if anything, and ends with the end-of-text token; of a .txt file the lines
follow each other. Main metric: token_accuracy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from acn_compress.tasks import tokens
from acn_compress.tasks.base import Batch, Encoder, Rows, Scored, Table, Task, padded

if TYPE_CHECKING:
    from torch import Tensor


def score(output: Any, batch: Batch) -> Scored:
    """Labels [batch, length]: the inputs themselves, IGNORED in the padding."""
    return tokens.score_tokens(output.logits[:, :-1], batch["labels"][:, 1:])


def answers(output: Any, batch: Batch) -> Tensor:
    """A decision per token that another follows."""
    found: Tensor = output.logits[:, :-1][batch["attention_mask"][:, 1:].bool()]
    return found.float()


def rows(table: Table, encoder: Encoder) -> Rows:
    """All texts in one row, cut to the longest length."""
    lines = table.lines
    if lines == "taken":
        table.notes.append("each row is one line with its end: taken for lines of one text")
    return Rows(encoder.rows(blocks(table.loose_texts(), encoder, lines is not None)))


def blocks(
    texts: Iterable[list[str]], encoder: Encoder, lines: bool
) -> Iterator[dict[str, list[list[int]]]]:
    """Texts that come some at a time, in blocks of the longest length; the last may be shorter.
    `lines`: one that ends with a newline goes on in the next."""
    joined: list[int] = []
    tokenizer, begins = encoder.tokenizer, True
    start, end = first_token(tokenizer), [tokenizer.eos_token_id]
    for some in (some for some in texts if some):
        encoded = encoder.encode(some, truncation=False, add_special_tokens=False)["input_ids"]
        for text, ids in zip(some, encoded, strict=True):
            joined += [*start, *ids] if begins else ids
            begins = not (lines and text.endswith("\n"))
            joined += end if begins and end != [None] else []
        whole = len(joined) - len(joined) % encoder.length
        yield cut(joined[:whole], encoder.length)
        joined = joined[whole:]
    if len(joined) > 1:  # a lone token predicts nothing
        yield cut(joined, encoder.length)


def cut(tokens: list[int], length: int) -> dict[str, list[list[int]]]:
    """Tokens in blocks, as an encoding."""
    found = [tokens[i : i + length] for i in range(0, len(tokens), length)]
    return {"input_ids": found, "token_type_ids": [[0] * len(block) for block in found]}


def first_token(tokenizer: Any) -> list[int]:
    """What a tokenizer begins a text with: Llama's and Gemma's do, GPT-2's and Qwen's do not."""
    first: list[int] = tokenizer("")["input_ids"][:1]
    return first if first == [tokenizer.bos_token_id] else []


def collate(
    ids: list[Tensor], labels: list[Tensor], seeds: list[int | None], encoder: Encoder
) -> tuple[list[Tensor], Tensor | None]:
    """The tokens are the labels."""
    return padded(ids, ids, seeds, encoder)


TASK = Task(
    name="causal-lm",
    metric="token_accuracy",
    modality="text",
    heads=("ForCausalLM", "LMHeadModel"),
    auto_class="AutoModelForCausalLM",
    pipeline_tag="text-generation",
    score=score,
    rows=rows,
    answers=answers,
    extras=tokens.perplexity,
    collate=collate,
    one_way=True,
    longest=256,  # of a block: nothing is cut off
    at_once=8,  # every token has a score for the whole vocabulary
    over_vocabulary=True,
)
