"""Clips for a model: decoded, brought to the model's sampling rate and scaled once by the
checkpoint's own feature extractor (`clips.py`), padded per batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from acn_compress.architectures import wav2vec2
from acn_compress.data.clips import Header, Preparation, Wave, header_of
from acn_compress.data.noise import Noise
from acn_compress.data.read import Clips
from acn_compress.data.sample import place_of
from acn_compress.data.table import AUDIO, Table
from acn_compress.errors import ConfigError, DataError
from acn_compress.network.network import Network
from acn_compress.tasks.base import Batch, Rows, Task

if TYPE_CHECKING:
    from acn_compress.checkpoint.source import Source

IN_MEMORY = 4 << 30  # bytes of prepared clips that are kept; more are prepared again on every use
FILES = ("string", "large_string", "binary", "large_binary")  # types of paths and of bytes
LONG = 30  # seconds; what longer clips cost is said


class AudioExamples:
    """Prepared clips with labels. Implements `data.Examples`."""

    def __init__(
        self,
        clips: Any,
        headers: Sequence[Header],
        prepare: Preparation,
        made: Rows,
        hidden: int = 0,
    ) -> None:
        assert made.labels is not None
        self.labels = made.names
        # seconds, not samples: the order of examples is the data's, whatever the model's rate
        self.sizes: Tensor | None = torch.tensor([h.seconds for h in headers], dtype=torch.float64)
        self.alike: Tensor | None = None
        if not prepare.padded:
            lengths = {length: i for i, length in enumerate({h[:2]: None for h in headers})}
            self.alike = torch.tensor([lengths[h[:2]] for h in headers])
        self._clips, self._headers, self._prepare = clips, headers, prepare
        self._targets, self._hidden = made.labels, hidden

    @classmethod
    def prepare(
        cls,
        table: Table,
        net: Network,
        source: Source | None,
        task: Task,
        *,
        augment: str | None = None,
    ) -> AudioExamples:
        """Read the header of every clip of `table` and (where they fit) keep them all, prepared.

        Raises:
            ConfigError, DataError: saying what is there and what was expected.
        """
        import datasets

        if augment is not None:
            raise ConfigError(f"augment '{augment}' is for images; there is none for clips.")
        features = table.rows.features.items()
        typed = [c for c, f in features if isinstance(f, datasets.Audio)]
        column = table.pick("audio", AUDIO, "clips", typed)
        made = task.rows(table, None)
        prepare = Preparation.of(net, source)
        rows = _Recordings(table, column, prepare)
        headers = [rows.header(i) for i in range(len(table))]
        clips: Any = rows
        if 4 * sum(map(prepare.samples, headers)) <= IN_MEMORY:
            clips = [rows[i] for i in range(len(table))]
        examples = cls(clips, headers, prepare, made, hidden(net))
        table.notes.extend(examples.notes())
        return examples

    def label(self, classes: Tensor) -> None:
        """Give every example a class ([examples])."""
        self._targets = classes

    def read(self) -> Clips:
        """What the clips are."""
        seconds = [h.seconds for h in self._headers]
        return Clips(
            rate=self._prepare.rate,
            longest=max(seconds),
            mean=sum(seconds) / len(seconds),
            resampled=sum(h.rate != self._prepare.rate for h in self._headers),
            stereo=sum(h.channels == 2 for h in self._headers),
        )

    def notes(self) -> list[str]:
        """What one should know about them, a sentence each."""
        found = []
        if self.alike is not None and (several := int(self.alike.max()) + 1) > 1:
            found.append(
                f"clips of {several} lengths, measured one length at a time: padding would change "
                "what this model answers"
            )
        if (long := sum(h.seconds > LONG for h in self._headers)) > 0:
            found.append(
                f"{long} of {len(self)} clips are longer than {LONG} s: attention grows with the "
                "square of their length. Cut them, if a part is enough"
            )
        return found

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"index": index, "clip": self._clips[index], "labels": self._targets[index]}

    def collate(
        self, examples: Sequence[dict[str, Any]], *, train: bool = False, noise: Noise | None = None
    ) -> Batch:
        """input_values [clips, longest], attention_mask of this shape if the model takes one,
        labels [clips]."""
        if noise is not None:
            raise DataError("noise is for images; there is none for clips.")
        clips = [e["clip"] for e in examples]
        if train and (longest := max(map(len, clips))) < self._hidden:
            raise DataError(
                f"the longest clip of a batch has {longest} samples, but this checkpoint hides "
                f"{self._hidden} at a time while it trains (mask_time_length). Train on longer "
                "clips, or set apply_spec_augment to false in its config.json."
            )
        labels = torch.stack([e["labels"] for e in examples])
        return {**self._prepare.batch(clips), "labels": labels}


def hidden(net: Network) -> int:
    """Samples that SpecAugment hides in one piece while a model trains, if its config asks for it:
    a batch must be as long."""
    config = net.config
    if not (getattr(config, "apply_spec_augment", True) and config.mask_time_prob > 0):
        return 0
    first, step = wav2vec2.frame(config)
    return int(first + (config.mask_time_length - 1) * step)


class _Recordings:
    """Clips of a column, prepared on use."""

    def __init__(self, table: Table, column: str, prepare: Preparation) -> None:
        import datasets

        rows, name = table.rows, table.name
        feature = rows.features[column]
        said = feature.dtype if isinstance(feature, datasets.Value) else None
        files = isinstance(feature, dict) and set(feature) <= {"bytes", "path"}
        if not (files or isinstance(feature, datasets.Audio) or said in FILES):
            raise DataError(
                f"data {name}: column '{column}' holds no recordings ({str(feature)[:60]}). "
                "Expected audio files, their paths or bytes: numbers alone say no sampling rate."
            )
        if isinstance(feature, datasets.Audio):
            rows = rows.cast_column(column, datasets.Audio(decode=False))
        # nothing else of a row is looked at: another column may be one that cannot be decoded
        self._rows = rows.select_columns([column])
        self._column, self._prepare = column, prepare
        self._name, self._chosen = name, table.chosen

    def header(self, index: int) -> Header:
        """What the recording of a row says of itself."""
        try:
            found = header_of(self._file(index))
            self._prepare.check(found)
        except DataError as error:
            raise self._fault(index, str(error)) from None
        return found

    def __getitem__(self, index: int) -> Wave:
        try:
            return self._prepare.values(self._file(index))
        except DataError as error:
            raise self._fault(index, str(error)) from None

    def _value(self, index: int) -> Any:
        value = self._rows[index][self._column]
        if isinstance(value, str):
            return {"path": value}
        return {"bytes": value} if isinstance(value, bytes) else value or {}

    def _file(self, index: int) -> str | bytes:
        """The bytes of a recording, or where it lies."""
        value = self._value(index)
        found: str | bytes | None = value.get("bytes")
        found = value.get("path") if found is None else found
        if found is None:
            raise DataError("is missing")
        return found

    def _fault(self, index: int, what: str) -> DataError:
        path = self._value(index).get("path")
        named = f" ({str(path)[-120:]})" if path else ""
        row = place_of(index, self._chosen)
        return DataError(f"data {self._name}: row {row} of column '{self._column}'{named} {what}.")
