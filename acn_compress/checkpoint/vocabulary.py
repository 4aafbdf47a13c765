"""The files of a tokenizer with fewer tokens: WordPiece, BPE and Unigram, as `tokenizer.json` holds
them, and what lies beside it.

Tokens keep their order and get the numbers in between. A text whose tokens all stay is cut as
before: the longest piece, the best path and every merge on the way are still there, and nothing new
is. Any other text falls back to smaller pieces, down to single characters and bytes, which stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from acn_compress.checkpoint.files import read_json, write_json
from acn_compress.checkpoint.processors import copy_processors
from acn_compress.checkpoint.source import Source
from acn_compress.errors import UnsupportedError
from acn_compress.found import Found

BYTE = re.compile(r"<0x[0-9A-F]{2}>")  # of a fallback to bytes
SENTENCEPIECE = "*.model"  # the same pieces once more, which tokenizer.json makes needless
# fields of a config that hold numbers of tokens, beside those that end in _token_id
NUMBERS = ("suppress_tokens", "begin_suppress_tokens", "forced_decoder_ids", "bad_words_ids")
Json = dict[str, Any]


class Vocabulary(Found):
    """What became of a vocabulary."""

    data: str
    """In which tokens were counted."""
    least: int
    """Tokens that occur fewer times went."""
    before: int
    """Tokens the model embedded."""
    after: int
    unseen: float
    """Share of the tokens of the data that went, and are written in smaller pieces now."""
    parameters_before: int
    parameters_after: int

    def __str__(self) -> str:
        gone = self.parameters_before - self.parameters_after
        return (
            f"{self.after:,} of {self.before:,} tokens ({gone:,} parameters fewer), by {self.data}"
        )


@dataclass(frozen=True)
class Tokenizer:
    """What tokenizer.json says.

    Args:
        data: the file.
        where: what to call it.
    """

    data: Json
    where: str

    @classmethod
    def read(cls, source: Source) -> Tokenizer:
        """Of a checkpoint.

        Raises:
            UnsupportedError: if there is none whose tokens can be cut.
        """
        data = source.read("tokenizer.json")
        found = cls(data or {}, source.name)
        if data is None or found.kind not in ("WordPiece", "BPE", "Unigram"):
            raise UnsupportedError(
                f"{source.name}: its vocabulary cannot be cut: expected a tokenizer.json of "
                f"WordPiece, BPE or Unigram, found {found.kind if data else 'none'}."
            )
        return found

    @property
    def model(self) -> Json:
        """Its pieces."""
        model: Json = self.data.get("model") or {}
        return model

    @cached_property
    def kind(self) -> str:
        """By name; old files do not say it."""
        if isinstance(self.model.get("vocab"), list):
            return "Unigram"
        guessed = "BPE" if "merges" in self.model else "WordPiece"
        return str(self.model.get("type") or guessed)

    @cached_property
    def pieces(self) -> dict[str, int]:
        """The number of every piece."""
        vocabulary = self.model["vocab"]
        if isinstance(vocabulary, dict):
            return vocabulary
        return {piece: number for number, (piece, _) in enumerate(vocabulary)}

    @cached_property
    def merges(self) -> dict[tuple[str, str], int]:
        """The rank of every merge."""
        listed = (m.split(" ") if isinstance(m, str) else m for m in self.model.get("merges", ()))
        return {(first, second): rank for rank, (first, second) in enumerate(listed)}

    @property
    def prefix(self) -> str:
        """What a piece begins with that goes on."""
        return self.model.get("continuing_subword_prefix") or ""

    @property
    def suffix(self) -> str:
        """What a piece ends with that ends a word."""
        return self.model.get("end_of_word_suffix") or ""

    def always(self) -> set[int]:
        """Tokens that stay whatever is used: special and added ones, single characters and bytes,
        and the piece of the lowest score, which the score of the unknown follows."""
        stay = {token["id"] for token in self.data.get("added_tokens") or ()}
        stay |= set(_numbers_in(self.data.get("post_processor")))
        stay |= {n for piece, n in self.pieces.items() if self._smallest(piece)}
        if (unknown := self.model.get("unk_token")) in self.pieces:
            stay.add(self.pieces[unknown])
        if self.kind == "Unigram":
            scores = [score for _, score in self.model["vocab"]]
            stay.add(scores.index(min(scores)))
            stay |= {n for n in (self.model.get("unk_id"),) if n is not None}
        return stay

    def _smallest(self, piece: str) -> bool:
        inner = piece.removeprefix(self.prefix).removesuffix(self.suffix)
        return len(inner) == 1 or BYTE.fullmatch(piece) is not None

    def closed(self, keep: set[int]) -> set[int]:
        """With all pieces that merges make on their way to those that are kept."""
        names = {number: piece for piece, number in self.pieces.items()}
        found, ahead = set(keep), [names[n] for n in keep if n in names] if self.merges else []
        while ahead:
            new = {self.pieces[p] for p in self._on_the_way(ahead.pop()) if p in self.pieces}
            ahead += [names[n] for n in new - found]
            found |= new
        return found

    def _on_the_way(self, piece: str) -> Iterator[str]:
        """Every piece that the merges make of the characters of one, the merge of the lowest rank
        first."""
        inner = piece.removeprefix(self.prefix)
        ends = bool(self.suffix) and inner.endswith(self.suffix)
        symbols = list(inner.removesuffix(self.suffix) if ends else inner)
        first = self.prefix if inner != piece else ""
        symbols = [(self.prefix if i else first) + s for i, s in enumerate(symbols)]
        if ends and symbols:
            symbols[-1] += self.suffix
        while True:
            ranked = [(self.merges.get(pair, -1), i) for i, pair in enumerate(pairwise(symbols))]
            if not (possible := [r for r in ranked if r[0] >= 0]):
                return
            at = min(possible)[1]
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1].removeprefix(self.prefix)]
            yield symbols[at]

    def kept(self, renumber: Mapping[int, int]) -> Json:
        """The file with only the tokens of `renumber`: old number -> new."""
        pieces = {p: renumber[n] for p, n in self.pieces.items() if n in renumber}
        model = {**self.model, "vocab": pieces}
        if self.kind == "Unigram":
            model["vocab"] = [v for n, v in enumerate(self.model["vocab"]) if n in renumber]
            if self.model.get("unk_id") is not None:
                model["unk_id"] = renumber[self.model["unk_id"]]
        if "merges" in model:
            model["merges"] = [
                m
                for m, (first, second) in zip(self.model["merges"], self.merges, strict=True)
                if first in pieces
                and second in pieces
                and first + second.removeprefix(self.prefix) in pieces
            ]
        made = {**self.data, "model": model}
        made["added_tokens"] = [
            {**token, "id": renumber[token["id"]]} for token in self.data.get("added_tokens") or ()
        ]
        made["post_processor"] = _renumbered_post(self.data.get("post_processor"), renumber)
        if isinstance(padding := self.data.get("padding"), dict):
            made["padding"] = {**padding, "pad_id": renumber.get(padding["pad_id"], 0)}
        return made


def _numbers_in(post: Any) -> Iterator[int]:
    """The numbers of tokens in a post-processor."""
    found: list[int] = []
    _renumbered_post(post, _Noted(found))
    yield from found


class _Noted(dict[int, int]):
    """Notes what is looked up."""

    def __init__(self, found: list[int]) -> None:
        self.found = found

    def __missing__(self, number: int) -> int:
        self.found.append(number)
        return number


def _renumbered_post(post: Any, renumber: Mapping[int, int]) -> Any:
    """A post-processor: templates hold lists of ids, BERT's and RoBERTa's a pair each."""
    if isinstance(post, list):
        return [_renumbered_post(part, renumber) for part in post]
    if not isinstance(post, dict):
        return post
    made = {}
    for key, value in post.items():
        if key == "ids":
            made[key] = [renumber[n] for n in value]
        elif key in ("cls", "sep") and isinstance(value, list):
            made[key] = [value[0], renumber[value[1]]]
        else:
            made[key] = _renumbered_post(value, renumber)
    return made


def token_numbers(config: object) -> Iterator[int]:
    """The numbers of tokens that a config names."""
    if isinstance(config, dict):
        for key, value in config.items():
            if names_tokens(key):
                yield from _flat(value)
            else:
                yield from token_numbers(value)


def renumbered(config: Any, renumber: Mapping[int, int]) -> Any:
    """A config with the new numbers; numbers of no token stay."""
    if not isinstance(config, dict):
        return config
    return {
        key: _mapped(value, renumber) if names_tokens(key) else renumbered(value, renumber)
        for key, value in config.items()
    }


def names_tokens(key: object) -> bool:
    """Whether a field of a config holds numbers of tokens."""
    return isinstance(key, str) and (key.endswith(("_token_id", "_token_ids")) or key in NUMBERS)


def _flat(value: object) -> Iterator[int]:
    if isinstance(value, (list, tuple)):
        for inner in value:
            yield from _flat(inner)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


def _mapped(value: Any, renumber: Mapping[int, int]) -> Any:
    if isinstance(value, (list, tuple)):
        return [_mapped(inner, renumber) for inner in value]
    return renumber.get(value, value) if isinstance(value, int) else value


def write_files(source: Source, out: Path, keep: Iterable[int]) -> None:
    """The files that go with a model (`carried.py`), and config.json, for the tokens that are kept.

    Args:
        out: an existing directory.
        keep: old numbers.
    """
    tokenizer, renumber = Tokenizer.read(source), {n: i for i, n in enumerate(sorted(keep))}
    copy_processors(source, out)
    for file in out.glob(SENTENCEPIECE):
        file.unlink()
    made = tokenizer.kept(renumber)
    write_json(out / "tokenizer.json", made)
    write_json(out / "config.json", renumbered(source.config, renumber))
    pieces = sorted((number, piece) for piece, number in tokenizer.pieces.items())
    lines = [piece for number, piece in pieces if number in renumber]
    _rewrite(out / "vocab.txt", lambda path: path.write_text("\n".join(lines) + "\n", "utf-8"))
    _rewrite(out / "vocab.json", lambda path: write_json(path, made["model"]["vocab"]))
    _rewrite(out / "merges.txt", lambda path: _write_merges(path, made["model"]["merges"]))
    for name, change in (
        ("generation_config.json", renumbered),
        ("tokenizer_config.json", _renumbered_tokens),
        ("added_tokens.json", lambda data, new: {t: new[n] for t, n in data.items()}),
    ):
        if (data := read_json(out / name)) is not None:
            write_json(out / name, change(data, renumber))


def _rewrite(path: Path, write: Callable[[Path], object]) -> None:
    if path.is_file():
        write(path)


def _write_merges(path: Path, merges: list[Any]) -> None:
    lines = (m if isinstance(m, str) else " ".join(m) for m in merges)
    path.write_text("\n".join(["#version: 0.2", *lines]) + "\n", encoding="utf-8")


def _renumbered_tokens(data: Json, renumber: Mapping[int, int]) -> Json:
    """tokenizer_config.json lists added tokens by their numbers."""
    made: Json = renumbered(data, renumber)
    if isinstance(listed := data.get("added_tokens_decoder"), dict):
        known = {int(n): token for n, token in listed.items() if int(n) in renumber}
        made["added_tokens_decoder"] = {str(renumber[n]): token for n, token in known.items()}
    return made
