"""A class per word, which stands at the word's first token. Main metric: token_accuracy, over these
tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from acn_compress.tasks import classes, tokens
from acn_compress.tasks.base import AT_ONCE, IGNORED, Encoder, Rows, Table, Task, padded

if TYPE_CHECKING:
    from torch import Tensor

COLUMNS = ("ner_tags", "pos_tags", "tags", "labels", "label")


def rows(table: Table, encoder: Encoder) -> Rows:
    """A list of words per row, and as many tags."""
    words, tags, names = table.words(COLUMNS)
    labels: list[Tensor] = []

    def encoded() -> Iterator[Any]:
        for begin in range(0, len(words), AT_ONCE):
            some = slice(begin, begin + AT_ONCE)
            found = encoder.encode(words[some], is_split_into_words=True)
            labels.extend(
                at_first_tokens(found.word_ids(i), row) for i, row in enumerate(tags[some])
            )
            yield found

    sizes = [sum(map(len, row)) for row in words]
    return Rows(encoder.rows(encoded()), labels, names, sizes)


def at_first_tokens(words: list[int | None], tags: Tensor) -> Tensor:
    """[length]: the tag of a word at its first token, IGNORED elsewhere; `words` says which word a
    token is of."""
    import torch

    places = zip(words, [None, *words], strict=False)
    return torch.tensor(
        [int(tags[w]) if w is not None and w != before else IGNORED for w, before in places]
    )


TASK = Task(
    name="token-classification",
    metric="token_accuracy",
    modality="text",
    heads=("ForTokenClassification",),
    auto_class="AutoModelForTokenClassification",
    pipeline_tag="token-classification",
    score=tokens.score,
    rows=rows,
    answers=tokens.answers,
    extras=classes.extras,
    collate=padded,
    classes=COLUMNS,
    aligned=True,
)
