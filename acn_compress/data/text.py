"""Text for a model: tokenised once by the checkpoint's own tokenizer, padded per batch to its
longest text. What becomes an example, and what its labels are, its task says (`tasks`)."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from acn_compress.checkpoint.processors import load_tokenizer
from acn_compress.checkpoint.source import Source
from acn_compress.data.noise import Noise
from acn_compress.data.read import Lengths
from acn_compress.data.table import Table
from acn_compress.data.tokens import Tokens
from acn_compress.errors import DataError, ModelDirError
from acn_compress.network.network import Network
from acn_compress.network.threads import threads_for
from acn_compress.tasks.base import AT_ONCE, Batch, Row, Rows, Task, features
from acn_compress.tasks.embeddings import embeds

LONG = 256  # tokens; what longer texts cost is said
UNLIMITED = 1 << 20  # tokens, where neither model nor tokenizer has a limit


@dataclass
class Preparation:
    """How a checkpoint wants its texts.

    Args:
        tokenizer: its own.
        length: most tokens of a text.
        pad: the token that fills a batch up.
        types: the model takes token types (which of a pair a token belongs to).
        vocabulary: tokens the model can embed.
        frame: tokens that stand around a text, sorted.
        cut: texts so far of which the end was cut off.
    """

    tokenizer: Any
    length: int
    pad: int
    types: bool
    vocabulary: int
    frame: Tensor
    cut: int = 0

    @classmethod
    def of(
        cls, net: Network, source: Source | None, task: Task, max_length: int | None
    ) -> Preparation:
        """From the checkpoint's tokenizer files.

        Raises:
            DataError: if there are none, or `max_length` is more than the model takes.
        """
        tokenizer = _tokenizer(source, words=task.aligned)
        limit = _limit(net, tokenizer)
        if max_length is not None and max_length > limit:
            raise DataError(
                f"max_length is {max_length}, but the model takes at most {limit} tokens."
            )
        around = tokenizer.num_special_tokens_to_add()
        if max_length is not None and max_length <= around:
            raise DataError(
                f"max_length is {max_length}, but {around} tokens stand around every text. "
                f"Expected at least {around + 1}."
            )
        types = (
            getattr(net.config, "type_vocab_size", 0) > 1
            and "token_type_ids" in inspect.signature(net.model.forward).parameters
        )
        length = max_length or min(limit, task.longest or limit)
        pad = padding(net, tokenizer)
        return cls(tokenizer, length, pad, types, net.config.vocab_size, _frame(tokenizer, pad))

    def encode(self, *texts: Any, **options: Any) -> Any:
        """transformers' encoding of a list of texts, or of two lists."""
        settings = {
            "truncation": True,
            "max_length": self.length,
            "return_attention_mask": False,
            "verbose": False,
        } | options
        return self.tokenizer(*texts, return_token_type_ids=self.types, **settings)

    def rows(self, encoded: Iterable[Any]) -> Tokens:
        """One example per text of encodings that are made as they are needed, without labels.

        Raises:
            DataError: if a token is beyond the model's vocabulary.
        """
        found = Tokens(("input_ids", "token_type_ids") if self.types else ("input_ids",))
        for some in encoded:
            highest = max((max(ids) for ids in some["input_ids"] if ids), default=0)
            if highest >= self.vocabulary:
                raise DataError(
                    f"the tokenizer knows token {highest}, but the model embeds "
                    f"{self.vocabulary}. Do they belong together?"
                )
            found.add(zip(*(some[key] for key in found.keys), strict=True))
            if "overflow_to_sample_mapping" not in some:  # nothing is lost of windows
                self.cut += sum(1 for e in getattr(some, "encodings", None) or () if e.overflowing)
        return found


def padding(net: Network, tokenizer: Any) -> int:
    """The token that fills a batch up. The model's own word comes first: some find positions, or
    the last token of a text, by it. Numbers that the model does not embed (-1) say nothing."""
    wanted = (
        getattr(net.config, "pad_token_id", None),
        tokenizer.pad_token_id,
        tokenizer.eos_token_id,
        0,
    )
    return next(t for t in wanted if isinstance(t, int) and 0 <= t < net.config.vocab_size)


def _limit(net: Network, tokenizer: Any) -> int:
    """Most tokens of a text that the model and its tokenizer take."""
    return int(min(net.longest_text, tokenizer.model_max_length, UNLIMITED))


def _frame(tokenizer: Any, pad: int) -> Tensor:
    around = (
        tokenizer.cls_token_id,
        tokenizer.sep_token_id,
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        pad,
    )
    return torch.tensor(sorted({token for token in around if token is not None}))


def _tokenizer(source: Source | None, words: bool) -> Any:
    where = "a model from a bare config" if source is None else source.name
    # asked without its files, transformers makes up a tokenizer that knows no word
    if source is None or not any(
        next(source.directory.glob(p), None) for p in ("tokenizer.json", "vocab.*", "*.model")
    ):
        raise DataError(
            f"{where} has no tokenizer. Expected tokenizer.json (or vocab.txt, ...) beside "
            "config.json."
        )
    try:
        tokenizer = load_tokenizer(source)
        if words and hasattr(tokenizer, "add_prefix_space"):
            # byte-level: a word of a list is one that follows a space
            tokenizer = load_tokenizer(source, add_prefix_space=True)
    except ModelDirError as error:
        raise DataError(str(error)) from None
    if not tokenizer.is_fast:
        raise DataError(
            f"{where}: its tokenizer has no fast version (tokenizer.json), which is needed to "
            "align words and answers."
        )
    return tokenizer


class TextExamples:
    """Tokenised texts with labels. Implements `data.Examples`."""

    def __init__(self, made: Rows, prepare: Preparation, task: Task) -> None:
        self.labels = made.names
        self.sizes = None if made.sizes is None else torch.from_numpy(np.array(made.sizes))
        self._rows, self._targets = made.inputs, made.labels
        self._prepare, self._task = prepare, task

    @classmethod
    def prepare(
        cls, table: Table, net: Network, source: Source | None, task: Task, max_length: int | None
    ) -> TextExamples:
        """Read and tokenise every row of `table`.

        Raises:
            DataError: saying what is there and what was expected.
        """
        prepare = Preparation.of(net, source, task, max_length)
        made = task.rows(table, prepare)
        if not made.inputs:
            raise DataError(f"data {table.name} has no text in it.")
        _check_ends(made.inputs, prepare.pad, net, source, table)
        return cls(made, prepare, task)

    def refer(self, reference: Network) -> None:
        """Give every text the embedding of `reference` as its label (task features)."""
        device, found = reference.device, [torch.empty(0)] * len(self)
        assert self.sizes is not None
        with torch.inference_mode(), reference.evaluating(), threads_for(reference):
            for numbers in torch.split(self.sizes.argsort(), 64):
                rows = [self[i] for i in numbers.tolist()]
                batch = {k: v.to(device) for k, v in self.collate(rows).items()}
                output = reference(**features(batch))
                answers = embeds(reference)(output, batch).cpu()
                for i, answer in zip(numbers.tolist(), answers, strict=True):
                    found[i] = answer.clone()
        self._targets = found

    def follow(self, other: TextExamples) -> None:
        """Give every text the label that it has in other hands."""
        self._targets = other._targets

    def label(self, classes: Tensor) -> None:
        """Give every example a class ([examples])."""
        self._targets = classes

    def counts(self, vocabulary: int) -> Tensor:
        """How often each token occurs in the texts as they are read: [vocabulary]."""
        found = torch.zeros(vocabulary, dtype=torch.long)
        texts = (text["input_ids"] for row in self._rows for text in windows_of(row))
        while some := list(islice(texts, AT_ONCE)):
            found += torch.from_numpy(np.bincount(np.concatenate(some), minlength=vocabulary))
        return found

    @cached_property
    def _each(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Tokens of every text: [texts]."""
        texts = (len(w["input_ids"]) for row in self._rows for w in windows_of(row))
        return np.fromiter(texts, "int32")

    def lengths(self) -> Lengths:
        """How long the texts are, in tokens, and how many were cut."""
        each = self._each
        return Lengths(
            limit=self._prepare.length,
            longest=int(each.max()),
            mean=int(each.sum()) / len(each),
            cut=self._prepare.cut,
            windows=len(each) if len(each) > len(self._rows) else None,
        )

    def cost(self) -> str | None:
        """What reading long texts costs, in a sentence; None where they are short."""
        each = self._each
        if (long := int((each > LONG).sum())) == 0 or self._task.longest is not None:
            return None
        more = int(each.sum()) / int(each.clip(max=LONG).sum())
        return (
            f"{long} of {len(each)} texts have more than {LONG} tokens, the longest {each.max()}: "
            f"--max-length {LONG} would cut them and need {1 / more:.0%} of the tokens"
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        row = {"index": index, **self._rows[index]}
        return row if self._targets is None else row | {"labels": self._targets[index]}

    def collate(
        self, examples: Sequence[Row], *, train: bool = False, noise: Noise | None = None
    ) -> Batch:
        """input_ids, attention_mask (and token_type_ids) [texts, longest], labels as the task has
        them; where an example is read in several windows, each is a text, and windows [batch]
        counts them."""
        if noise is not None:
            raise DataError("noise is for images; there is none for texts.")
        texts = [text for example in examples for text in windows_of(example)]
        ids = [torch.from_numpy(text["input_ids"]).long() for text in texts]
        given = [e["labels"] for e in examples if "labels" in e]
        seeds = [e.get("seed") if train else int(e["index"]) for e in examples]
        ids, labels = self._task.collate(ids, given, seeds, self._prepare)
        batch = {
            "input_ids": _pad(ids, self._prepare.pad),
            "attention_mask": _pad([torch.ones_like(row) for row in ids], 0),
        }
        if "token_type_ids" in texts[0]:
            types = [torch.from_numpy(text["token_type_ids"]).long() for text in texts]
            batch["token_type_ids"] = _pad(types, 0)
        if len(texts) > len(examples):
            batch["windows"] = torch.tensor([len(windows_of(e)) for e in examples])
        return batch if labels is None else batch | {"labels": labels}


def windows_of(row: Row) -> list[Row]:
    """The texts of one example: itself, or the windows it is read in."""
    windows: list[Row] = row.get("windows", [row])
    return windows


def _check_ends(
    rows: Sequence[Row], pad: int, net: Network, source: Source | None, table: Table
) -> None:
    """Refuse texts whose last token is the padding, for a head that reads the last token that is
    none, where the checkpoint does not say itself what padding is."""
    reads_last = getattr(net.model, "score", None) is not None
    stated = None if source is None else source.config.get("pad_token_id")
    if not reads_last or stated == pad:
        return
    for number, row in enumerate(rows):
        ids = row["input_ids"]
        if len(ids) and ids[-1] == pad:
            raise DataError(
                f"data {table.name}: row {table.row(number)} ends with token {pad}, which is also "
                "the padding, so that the head would not read it. Set pad_token_id in config.json "
                "to another token."
            )


def _pad(rows: list[Tensor], value: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)
