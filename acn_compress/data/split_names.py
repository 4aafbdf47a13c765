"""Which split is for what, by its name: the words that `datasets` knows, in any case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import datasets

    Splits: TypeAlias = Mapping[str, datasets.Dataset]

Role = Literal["train", "eval"]  # which split a command reads when the user names none
KINDS = {"train": ("train",), "eval": ("validation", "test")}  # of splits, best first


def guessed(role: Role, splits: list[str]) -> str | None:
    """The split for a role: by name; a single one that is not named for the other role will do."""
    for kind in KINDS[role]:
        if (name := guessed_of(kind, splits)) is not None:
            return name
    if len(splits) == 1 and (role == "eval" or kind_of(splits[0]) is None):
        return splits[0]
    return None


def guessed_of(kind: str, splits: list[str]) -> str | None:
    """The split of a kind: that of its name, or the first that says it."""
    named = [s for s in splits if kind_of(s) == kind]
    return kind if kind in splits else next(iter(named), None)


def kind_of(name: str) -> str | None:
    """train, validation or test, by the words in a name as `datasets` knows them, in any case; None
    if there is none of them, or words of several."""
    kinds = kinds_in(name)
    return kinds.pop() if len(kinds) == 1 else None


def kinds_in(name: str) -> set[str]:
    """All kinds of split whose words are in a name."""
    from datasets.data_files import NON_WORDS_CHARS, SPLIT_KEYWORDS

    edge = f"[{re.escape(NON_WORDS_CHARS.replace('0-9', ''))}0-9]"
    return {
        str(split)
        for split, words in SPLIT_KEYWORDS.items()
        if re.search(rf"(^|{edge})({'|'.join(words)})($|{edge})", name.lower())
    }
