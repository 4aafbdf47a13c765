"""Text for a model: tokenised once by the checkpoint's own tokenizer, padded per batch to its
longest text.

What becomes an example, and what its labels are, depends on the task:

    text-classification, -regression   a text or a pair; one label
    token-classification               a list of words; the tag of each word stands at its first
    token question-answering                 question and context (SQuAD's columns); first and last
    token of the first answer, or twice the
                                       first token where there is none or truncation cut it off
    masked-lm                          a text; 15 % of its tokens are hidden (80 % as the mask, 10 %
    as another token, 10 % as they are;
                                       arXiv 1810.04805), anew in every training batch, always the
                                       same ones in evaluation
    causal-lm                          all texts in one row, cut into blocks of the longest length;
    lines of a .txt file follow each
                                       other, other texts are separated by the end-of-text token
    features                           a text; the embedding that a reference model gives it
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from acn_compress.checkpoint.directory import Source
from acn_compress.data.load import (
    LABEL_COLUMNS,
    TAG_COLUMNS,
    Columns,
    Noise,
    flat,
    label_ids,
    pick_column,
)
from acn_compress.errors import DataError
from acn_compress.network.network import Network
from acn_compress.tasks import IGNORED, embedding, features

LONGEST = 256  # tokens, unless the user says otherwise
HIDDEN = 0.15  # share of the tokens hidden in masked-lm
PAIRS = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
    ("query", "passage"),
)
TEXTS = ("sentence", "text", "content", "review", "document", "question", "comment", "tweet")
NUMBERS = ("score", "similarity_score", "rating", *LABEL_COLUMNS)
Row = dict[str, Any]


@dataclass(frozen=True)
class Preparation:
    """How a checkpoint wants its texts.

    Args:
        tokenizer: its own.
        length: most tokens of a text.
        pad: the token that fills a batch up.
        types: the model takes token types (which of a pair a token belongs to).
        vocabulary: tokens the model can embed.
    """

    tokenizer: Any
    length: int
    pad: int
    types: bool
    vocabulary: int

    @classmethod
    def of(
        cls, net: Network, source: Source | None, task: str, max_length: int | None
    ) -> Preparation:
        """From the checkpoint's tokenizer files.

        Raises:
            DataError: if there are none, or `max_length` is more than the model takes.
        """
        tokenizer = _tokenizer(source, words=task == "token-classification")
        limit = min(_positions(net), tokenizer.model_max_length)
        if max_length is not None and max_length > limit:
            raise DataError(
                f"max_length is {max_length}, but the model takes at most {limit} tokens."
            )
        types = (
            getattr(net.config, "type_vocab_size", 0) > 1
            and "token_type_ids" in inspect.signature(net.model.forward).parameters
        )
        # the model's own word comes first: some find positions, or the last token of a text, by it
        pads = (
            getattr(net.config, "pad_token_id", None),
            tokenizer.pad_token_id,
            tokenizer.eos_token_id,
            0,
        )
        pad = next(t for t in pads if t is not None and t >= 0)
        return cls(tokenizer, max_length or min(limit, LONGEST), pad, types, net.config.vocab_size)

    def encode(self, *texts: Any, **options: Any) -> Any:
        """transformers' encoding of a list of texts, or of two lists."""
        settings = {
            "truncation": True,
            "max_length": self.length,
            "return_attention_mask": False,
            "verbose": False,
        } | options
        return self.tokenizer(*texts, return_token_type_ids=self.types, **settings)

    def rows(self, encoded: Any) -> list[Row]:
        """One example per encoded text, without labels.

        Raises:
            DataError: if a token is beyond the model's vocabulary.
        """
        keys = ("input_ids", "token_type_ids") if self.types else ("input_ids",)
        rows = [
            {k: np.asarray(v, "int32") for k, v in zip(keys, values, strict=True)}
            for values in zip(*(encoded[k] for k in keys), strict=True)
        ]
        highest = max((int(r["input_ids"].max()) for r in rows if len(r["input_ids"])), default=0)
        if highest >= self.vocabulary:
            raise DataError(
                f"the tokenizer knows token {highest}, but the model embeds {self.vocabulary}. Do they belong together?"
            )
        return rows


def _tokenizer(source: Source | None, words: bool) -> Any:
    where = "a model from a bare config" if source is None else source.name
    # asked without its files, transformers makes up a tokenizer that knows no word
    if source is None or not any(
        next(source.directory.glob(p), None) for p in ("tokenizer.json", "vocab.*", "*.model")
    ):
        raise DataError(
            f"{where} has no tokenizer. Expected tokenizer.json (or vocab.txt, ...) beside config.json."
        )
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source.directory, local_files_only=True)
        if words and hasattr(
            tokenizer, "add_prefix_space"
        ):  # byte-level: a word of a list is one that follows a space
            tokenizer = AutoTokenizer.from_pretrained(
                source.directory, local_files_only=True, add_prefix_space=True
            )
    except Exception as error:  # tokenizers raises plain Exceptions
        raise DataError(
            f"{where}: its tokenizer cannot be loaded ({(str(error).splitlines() or [''])[0][:160]})."
        ) from None
    if not tokenizer.is_fast:
        raise DataError(
            f"{where}: its tokenizer has no fast version (tokenizer.json), which is needed to align words and answers."
        )
    return tokenizer


def _positions(net: Network) -> int:
    """Tokens the model has positions for; some families count them from the padding token's number
    on."""
    embeddings = getattr(
        getattr(net.model.base_model, "embeddings", None), "position_embeddings", None
    )
    first = getattr(embeddings, "padding_idx", None)
    return int(getattr(net.config, "max_position_embeddings", LONGEST)) - (
        0 if first is None else first + 1
    )


class TextExamples:
    """Tokenised texts with labels. Implements `data.Examples`."""

    def __init__(
        self,
        rows: list[Row],
        sizes: Tensor | None,
        prepare: Preparation,
        task: str,
        names: list[str] | None,
    ) -> None:
        self.labels, self.sizes = names, sizes
        self._rows, self._task, self._tokenizer, self._pad = (
            rows,
            task,
            prepare.tokenizer,
            prepare.pad,
        )
        tokenizer = prepare.tokenizer
        frame = (
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
            self._pad,
        )
        self._frame = torch.tensor(sorted({t for t in frame if t is not None}))  # never hidden

    @classmethod
    def prepare(
        cls,
        table: Any,
        name: str,
        net: Network,
        source: Source | None,
        columns: Columns,
        task: str,
        max_length: int | None,
    ) -> TextExamples:
        """Read and tokenise every row of `table`.

        Raises:
            DataError: saying what is there and what was expected.
        """
        prepare = Preparation.of(net, source, task, max_length)
        names: list[str] | None = None
        if task == "token-classification":
            rows, names, sizes = _words(table, name, net, columns, prepare)
        elif task == "question-answering":
            rows, sizes = _answers(table, name, columns, prepare)
        elif task in {"masked-lm", "causal-lm", "features"}:
            rows, sizes = _unlabelled(table, name, columns, prepare, task)
        else:
            rows, names, sizes = _labelled(table, name, net, columns, prepare, task)
        if not rows:
            raise DataError(f"data {name} has no text in it.")
        return cls(rows, None if task == "causal-lm" else torch.tensor(sizes), prepare, task, names)

    def refer(self, reference: Network) -> None:
        """Give every text the embedding of `reference` as its label (task features)."""
        from acn_compress.measure.quality import threads_for

        device = reference.device
        assert self.sizes is not None
        with torch.inference_mode(), reference.evaluating(), threads_for(reference):
            for numbers in torch.split(self.sizes.argsort(), 64):
                batch = {
                    k: v.to(device)
                    for k, v in self.collate([self[int(i)] for i in numbers]).items()
                }
                for i, label in zip(
                    numbers.tolist(),
                    embedding(reference(**features(batch)), batch).cpu(),
                    strict=True,
                ):
                    self._rows[i]["labels"] = label.clone()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return {"index": index, **self._rows[index]}

    def collate(
        self, examples: Sequence[Row], *, train: bool = False, noise: Noise | None = None
    ) -> dict[str, Tensor]:
        """input_ids, attention_mask (and token_type_ids) [batch, longest], labels as the task has
        them."""
        if noise is not None:
            raise DataError("noise is for images; there is none for texts.")
        ids = [torch.from_numpy(e["input_ids"]).long() for e in examples]
        labels: Any = [e.get("labels") for e in examples]
        if self._task == "masked-lm":
            hidden = [
                self._hide(row, None if train else e["index"])
                for row, e in zip(ids, examples, strict=True)
            ]
            ids, labels = [h[0] for h in hidden], [h[1] for h in hidden]
        elif self._task == "causal-lm":
            labels = ids
        batch = {
            "input_ids": _pad(ids, self._pad),
            "attention_mask": _pad([torch.ones_like(row) for row in ids], 0),
        }
        if "token_type_ids" in examples[0]:
            batch["token_type_ids"] = _pad(
                [torch.from_numpy(e["token_type_ids"]).long() for e in examples], 0
            )
        if self._task in {"masked-lm", "causal-lm", "token-classification"}:
            batch["labels"] = _pad(labels, IGNORED)
        elif labels[0] is not None:
            batch["labels"] = torch.stack(labels)
        return batch

    def _hide(self, ids: Tensor, seed: int | None) -> tuple[Tensor, Tensor]:
        """One text with tokens hidden, at least one, and the hidden ones as labels; drawn from
        `seed`, or in training from torch's own generator."""
        generator = None if seed is None else torch.Generator().manual_seed(1_000_003 + seed)
        drawn, fate = torch.rand(2, len(ids), generator=generator)
        drawn = drawn.masked_fill(torch.isin(ids, self._frame), 2.0)
        chosen = drawn < HIDDEN
        chosen[drawn.argmin()] = True
        others = torch.randint(len(self._tokenizer), ids.shape, generator=generator)
        shown = torch.where(chosen & (fate < 0.8), torch.tensor(self._tokenizer.mask_token_id), ids)
        return torch.where(chosen & (fate >= 0.9), others, shown), torch.where(chosen, ids, IGNORED)


def _pad(rows: list[Tensor], value: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)


def _text_columns(table: Any, name: str, wanted: str | None) -> list[str]:
    """The columns of the text: one, or two for a pair."""
    present = list(table.column_names)
    if wanted is not None:
        found = [
            pick_column(table, name, column.strip(), (), "--text-column", "text")
            for column in wanted.split(",")
        ]
        if len(found) > 2:
            raise DataError(
                f"--text-column names {len(found)} columns. Expected one, or two with a comma between for pairs."
            )
        return found
    for pair in PAIRS:
        if all(column in present for column in pair):
            return list(pair)
    texts = [
        c
        for c, f in table.features.items()
        if getattr(f, "dtype", None) in {"string", "large_string"} and c not in LABEL_COLUMNS
    ]
    guesses = TEXTS if len(texts) != 1 or set(TEXTS) & set(present) else texts
    return [pick_column(table, name, None, guesses, "--text-column", "text")]


def _texts(table: Any, name: str, column: str) -> list[str]:
    values = table[column][:]
    for number, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            what = (
                "is empty"
                if value is None or isinstance(value, str)
                else f"holds no text (found {str(value)[:40]})"
            )
            raise DataError(
                f"data {name}: row {number} of column '{column}' {what}. Remove the row, or name another column."
            )
    return list(values)


def _labelled(
    table: Any, name: str, net: Network, columns: Columns, prepare: Preparation, task: str
) -> tuple[list[Row], list[str] | None, list[int]]:
    """A text or a pair per row, with one label."""
    found = [_texts(table, name, column) for column in _text_columns(table, name, columns.text)]
    names: list[str] | None = None
    if task == "text-regression":
        column = pick_column(table, name, columns.label, NUMBERS, "--label-column", "numbers")
        labels = _numbers(table, name, column)
    else:
        column = pick_column(
            table,
            name,
            columns.label,
            _typed(table) + list(LABEL_COLUMNS),
            "--label-column",
            "labels",
        )
        labels, names = label_ids(table, name, column, net)
    rows = prepare.rows(prepare.encode(*found))
    for row, label in zip(rows, labels, strict=True):
        row["labels"] = label
    return rows, names, [sum(map(len, texts)) for texts in zip(*found, strict=True)]


def _typed(table: Any) -> list[str]:
    import datasets

    return [c for c, f in table.features.items() if isinstance(f, datasets.ClassLabel)]


def _numbers(table: Any, name: str, column: str) -> Tensor:
    try:
        return torch.tensor([float(v) for v in table[column][:]])
    except (TypeError, ValueError):
        raise DataError(
            f"data {name}: column '{column}' does not hold a number in every row. Name another with --label-column."
        ) from None


def _words(
    table: Any, name: str, net: Network, columns: Columns, prepare: Preparation
) -> tuple[list[Row], list[str], list[int]]:
    """A list of words per row, and as many tags."""
    column = pick_column(
        table, name, columns.text, ("tokens", "words"), "--text-column", "lists of words"
    )
    label = pick_column(table, name, columns.label, TAG_COLUMNS, "--label-column", "lists of tags")
    for which in (column, label):
        if getattr(table.features[which], "feature", None) is None:
            raise DataError(
                f"data {name}: column '{which}' holds no lists. Expected one word and one tag per list entry."
            )
    words, counts = table[column][:], [len(tags or ()) for tags in table[label][:]]
    for number, (row, n) in enumerate(zip(words, counts, strict=True)):
        if not row or len(row) != n:
            raise DataError(
                f"data {name}: row {number} has {len(row or ())} words and {n} tags. Expected as many of each, and at least one."
            )
    flat_tags, names = label_ids(flat(table, label), name, label, net)
    encoded = prepare.encode(words, is_split_into_words=True)
    rows = prepare.rows(encoded)
    for number, (row, tags) in enumerate(zip(rows, torch.split(flat_tags, counts), strict=True)):
        places = encoded.word_ids(number)
        first = [
            place is not None and place != before
            for place, before in zip(places, [None, *places], strict=False)
        ]
        row["labels"] = torch.tensor(
            [int(tags[p]) if f else IGNORED for p, f in zip(places, first, strict=True)]
        )
    return rows, names, [sum(map(len, row)) for row in words]


def _answers(
    table: Any, name: str, columns: Columns, prepare: Preparation
) -> tuple[list[Row], list[int]]:
    """Question, context, and where the first answer lies."""
    wanted = (columns.text or "question,context").split(",")
    if len(wanted) != 2:
        raise DataError(
            f"--text-column is '{columns.text}', expected the columns of question and context with a comma between."
        )
    questions, contexts = (
        _texts(table, name, pick_column(table, name, column.strip(), (), "--text-column", "text"))
        for column in wanted
    )
    answers = table[
        pick_column(table, name, columns.label, ("answers", "answer"), "--label-column", "answers")
    ][:]
    encoded = prepare.encode(questions, contexts)
    rows = prepare.rows(encoded)
    for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        row["labels"] = torch.tensor(_span(encoded, number, answer, name))
    return rows, [len(q) + len(c) for q, c in zip(questions, contexts, strict=True)]


def _span(encoded: Any, number: int, answer: Any, name: str) -> tuple[int, int]:
    """First and last token of an answer, {"text": [...], "answer_start": [...]} as in SQuAD; (0, 0)
    where there is none in view."""
    try:
        texts, starts = answer["text"], answer["answer_start"]
        if not len(starts):
            return 0, 0
        begin, last = int(starts[0]), int(starts[0]) + len(texts[0]) - 1
    except (TypeError, KeyError, IndexError, ValueError):
        raise DataError(
            f"data {name}: row {number} has no answer as SQuAD writes it. Expected text and answer_start, two lists; found {str(answer)[:60]}."
        ) from None
    span = (encoded.char_to_token(number, begin, 1), encoded.char_to_token(number, last, 1))
    return (0, 0) if None in span else span


def _unlabelled(
    table: Any, name: str, columns: Columns, prepare: Preparation, task: str
) -> tuple[list[Row], list[int]]:
    """Texts alone; of two columns one after the other. Empty ones are left out."""
    texts: list[str] = [
        t
        for column in _text_columns(table, name, columns.text)
        for t in table[column][:]
        if isinstance(t, str)
    ]
    if task == "causal-lm":
        rows = _blocks(texts, prepare)
        return rows, [len(row["input_ids"]) for row in rows]
    if task == "masked-lm" and prepare.tokenizer.mask_token_id is None:
        raise DataError("the tokenizer has no mask token, which masked-lm needs.")
    texts = [t.strip() for t in texts if t.strip()]
    return (prepare.rows(prepare.encode(texts)) if texts else []), [len(t) for t in texts]


def _blocks(texts: list[str], prepare: Preparation) -> list[Row]:
    """All texts in one row, cut to the longest length. A text that ends with a newline goes on in
    the next."""
    joined: list[int] = []
    end = prepare.tokenizer.eos_token_id
    encoded = (
        prepare.encode(texts, truncation=False, add_special_tokens=False)["input_ids"]
        if texts
        else []
    )
    for text, ids in zip(texts, encoded, strict=True):
        joined += ids if text.endswith("\n") or end is None else [*ids, end]
    blocks = [joined[i : i + prepare.length] for i in range(0, len(joined), prepare.length)]
    blocks = [b for b in blocks if len(b) > 1]  # a lone token predicts nothing
    types = [[0] * len(b) for b in blocks]
    return prepare.rows({"input_ids": blocks, "token_type_ids": types})
