"""A teacher's answers, computed once and kept on disk: what the objective asks of it for every
example, in `.npy` files that are mapped into memory, in the cache of `datasets`.

    acn_compress/taught/FINGERPRINT/
        texts.npy     [examples + 1], where the texts of an example begin (its windows)
        tokens.npy    [texts + 1], where the tokens of a text begin; not for images
        NAME.npy      [texts, ...] or [tokens, ...], float32: an output by its name in transformers,
                      or hidden.K, y_K

The fingerprint is that of the teacher's weights, of the prepared examples and of what is asked; a
few examples are asked for anew before what is there is used. What no run has used for long goes
when the next one begins. Nothing here is right for examples that change from epoch to epoch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from acn_compress import processes
from acn_compress.checkpoint import swap
from acn_compress.checkpoint.files import size
from acn_compress.data.ahead import ahead
from acn_compress.data.load import Data
from acn_compress.data.text import windows_of
from acn_compress.errors import ConfigError
from acn_compress.network.network import Network
from acn_compress.network.threads import threads_for
from acn_compress.options import Trained
from acn_compress.tasks.base import Batch, features
from acn_compress.training.identity import fingerprint, weights_sha256
from acn_compress.training.objective import TAUGHT, Asked, answers_of, asked_of

OUTPUTS = ("logits", "start_logits", "end_logits")
BY_TOKEN = ("start_logits", "end_logits")  # beside what has three dimensions
BATCH = 64
OURS = re.compile(r"\.?([0-9a-f]{32})(\.acn-|$)")  # names: whole, or while it is put in place
UNUSED = 30 * 24 * 3600  # seconds: what was not used for so long is removed
CLOSE = 1e-3  # of the largest number: how near answers must be that are asked for again
Array = np.ndarray[Any, Any]


@dataclass
class Taught:
    """What is kept.

    Args:
        directory: where it lies.
    """

    directory: Path

    def __post_init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def __getstate__(self) -> dict[str, Any]:
        # to other processes: they map the files themselves
        return {"directory": self.directory, "_arrays": {}}

    @property
    def names(self) -> list[str]:
        """Of the outputs."""
        found = (path.stem for path in sorted(self.directory.glob("*.npy")))
        return [name for name in found if name not in ("texts", "tokens")]

    @property
    def bytes(self) -> int:
        """Of the answers to the first example."""
        return sum(values.nbytes for values in self.batch([0]).values())

    def array(self, name: str, mode: Any = "r") -> Array:
        """A file, mapped."""
        if name not in self._arrays:
            found: Array = np.load(self.directory / f"{name}.npy", mode, allow_pickle=False)
            self._arrays[name] = found
        return self._arrays[name]

    def batch(self, places: Sequence[int]) -> dict[str, Tensor]:
        """Of some examples, as a batch of them holds it: [texts, ...], or [texts, longest, ...]."""
        begins, found = self.array("texts"), {}
        texts = [t for place in places for t in range(begins[place], begins[place + 1])]
        for name in self.names:
            values = self.array(name)
            if not self._by_token(name):
                found[TAUGHT + name] = torch.from_numpy(values[texts])
                continue
            ends = self.array("tokens")
            rows = [torch.from_numpy(np.array(values[ends[t] : ends[t + 1]])) for t in texts]
            found[TAUGHT + name] = pad_sequence(rows, batch_first=True)
        return found

    def _by_token(self, name: str) -> bool:
        tokens = self.directory / "tokens.npy"
        return tokens.is_file() and len(self.array(name)) == self.array("tokens")[-1]

    def put(self, places: Sequence[int], batch: Batch, answers: dict[str, Tensor]) -> None:
        """What the teacher answered to a batch of some examples."""
        begins = self.array("texts")
        texts = [t for place in places for t in range(begins[place], begins[place + 1])]
        for name, values in answers.items():
            kept, found = self.array(name, "r+"), values.float().cpu().numpy()
            if not by_token(name, values, batch):
                kept[texts] = found
                continue
            ends = self.array("tokens")
            for t, row in zip(texts, found, strict=True):
                kept[ends[t] : ends[t + 1]] = row[: ends[t + 1] - ends[t]]


def taught_by(teacher: Network, net: Network, data: Data, how: Trained) -> Taught:
    """What `teacher` answers to every example of the data, made unless it is there.

    Raises:
        ConfigError: if there is no room for it.
    """
    import datasets

    asked = asked_of(net, teacher, how, data.task)
    place = Path(datasets.config.HF_DATASETS_CACHE) / "acn_compress" / "taught"
    place = place / _fingerprint(teacher, data, asked)
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):  # there is none, or it is another user's, to be read
        os.utime(place)
    _tidy(place.parent)
    if place.is_dir() and _still_right(Taught(place), teacher, data, asked):
        return Taught(place)
    made = swap.new_name(place)
    made.mkdir()
    try:
        _prepare(made, teacher, data, asked)
        processes.together(fill, Taught(made), teacher, data, asked)
        if place.is_dir():
            shutil.rmtree(place)
        swap.put(made, place)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return Taught(place)


def _tidy(folder: Path) -> None:
    """Take away what no run has used for `UNUSED` (the time of a directory is that of its last
    use) and what processes that died left half made; what is not ours stays."""
    for path in {folder / found[1] for p in folder.iterdir() if (found := OURS.match(p.name))}:
        swap.recover(path)
        with suppress(OSError):  # there is none any more, or it is another user's
            unused = time.time() - path.stat().st_mtime > UNUSED
            if unused and all(file.suffix == ".npy" for file in path.iterdir()):
                shutil.rmtree(path.replace(swap.new_name(path)), ignore_errors=True)


def fill(taught: Taught, teacher: Network, data: Data, asked: Asked) -> None:
    """Ask the teacher, in every process a part."""
    for numbers, batch in _batches(data, processes.part()):
        taught.put(numbers, batch, _answers(teacher, batch, asked))
    for name in taught.names:
        kept = taught.array(name)
        if isinstance(kept, np.memmap):
            kept.flush()
    processes.joined([True])  # all are done


def by_token(name: str, values: Tensor, batch: Batch) -> bool:
    """Whether an output has a row for every token of a text."""
    return "attention_mask" in batch and (values.ndim == 3 or name in BY_TOKEN)


def _batches(data: Data, part: slice = slice(None)) -> Iterator[tuple[list[int], Batch]]:
    """Every example once, with its place; those of similar size together."""
    numbers = [n.tolist() for n in data.places(min(BATCH, data.task.at_once or BATCH))][part]
    read = ahead(
        data.examples, numbers, data.examples.collate, data.workers, data.batch_bytes(BATCH)
    )
    return zip(numbers, read, strict=True)


def _answers(teacher: Network, batch: Batch, asked: Asked) -> dict[str, Tensor]:
    """By the names of the files."""
    given = {k: v.to(teacher.device) for k, v in features(batch).items()}
    with teacher.evaluating(), threads_for(teacher):
        output, hidden = answers_of(teacher, given, asked)
    found = {f"hidden.{k}": y for k, y in hidden.items()}
    if asked.answers:
        found |= {n: v for n in OUTPUTS if (v := getattr(output, n, None)) is not None}
    return found


def _prepare(directory: Path, teacher: Network, data: Data, asked: Asked) -> None:
    """Empty files of the right sizes."""
    batch = data.examples.collate([data.examples[0]])
    answers = _answers(teacher, batch, asked)
    texts, tokens = np.arange(len(data) + 1), None
    if data.task.modality == "text":
        windows = [[len(w["input_ids"]) for w in windows_of(row)] for row in _rows(data)]
        texts = np.cumsum([0, *map(len, windows)])
        tokens = np.cumsum([0, *(n for row in windows for n in row)])
    shapes = {}
    for name, values in answers.items():
        each = by_token(name, values, batch)
        assert tokens is not None or not each
        count = texts[-1] if not each or tokens is None else tokens[-1]
        shapes[name] = (int(count), *values.shape[2 if each else 1 :])
    _check_room(directory, 4 * sum(int(np.prod(shape)) for shape in shapes.values()))
    np.save(directory / "texts.npy", texts)
    if tokens is not None:
        np.save(directory / "tokens.npy", tokens)
    for name, shape in shapes.items():
        np.lib.format.open_memmap(directory / f"{name}.npy", "w+", np.float32, shape)


def _rows(data: Data) -> Iterator[dict[str, Any]]:
    return (data.examples[i] for i in range(len(data)))


def _check_room(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if needed > 0.9 * free:
        raise ConfigError(
            f"cache_teacher needs {size(needed)} in {directory.parent}, where {size(free)} are "
            "free. Leave it out, or set HF_DATASETS_CACHE to another place."
        )


def _fingerprint(teacher: Network, data: Data, asked: Asked) -> str:
    facts = {
        "version": 1,
        "teacher": weights_sha256(teacher),
        "config": teacher.config.to_json_string(),
        "structure": teacher.structure.model_dump(mode="json"),
        "data": fingerprint(data, most=len(data) if data.workers == 0 else None),
        "stamp": getattr(data.examples, "stamp", ""),
        "asked": [asked.answers, *asked.hidden],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _still_right(taught: Taught, teacher: Network, data: Data, asked: Asked) -> bool:
    """Whether the teacher answers a few examples as it is kept: its inputs may be made in another
    way (other pixels, classes in another order)."""
    for place in {0, len(data) // 2, len(data) - 1}:
        batch = data.examples.collate([data.examples[place]])
        kept = taught.batch([place])
        found = _answers(teacher, batch, asked)
        if {TAUGHT + name for name in found} != kept.keys():
            return False
        for name, values in found.items():
            own, now = kept[TAUGHT + name], values.float().cpu()
            if by_token(name, values, batch):
                now[batch["attention_mask"] == 0] = 0.0  # padding is not kept
            if own.shape != now.shape or (own - now).abs().max() > CLOSE * now.abs().max():
                return False
    return True
