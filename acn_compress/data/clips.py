"""How a checkpoint wants its clips: its own feature extractor says the sampling rate, scales every
clip and fills a batch up. soundfile decodes, soxr brings another sampling rate to the model's; what
would be heard otherwise than it was recorded is refused.

A clip is prepared by itself. Models whose first norm runs over time, and those that are not told
which samples are padding, answer otherwise when a clip is padded, so that only clips of one length
come into one batch when they are measured (`Preparation.padded`).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from acn_compress.architectures import wav2vec2
from acn_compress.checkpoint.files import check_readable
from acn_compress.checkpoint.processors import has_processor, load_feature_extractor
from acn_compress.errors import DataError, MissingDependencyError

if TYPE_CHECKING:
    from acn_compress.checkpoint.source import Source
    from acn_compress.network.network import Network
    from acn_compress.tasks.base import Batch

Wave = np.ndarray[Any, np.dtype[np.float32]]  # [samples]
CHANNELS = (1, 2)  # mono and stereo; what surround channels mean together is not said in a file
# what feature extractors do to a clip
HEARING = ("sampling_rate", "do_normalize", "return_attention_mask", "padding_value")
INPUT = "input_values"


class Header(NamedTuple):
    """What a recording says of itself."""

    samples: int
    rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.samples / self.rate


@dataclass(frozen=True)
class Preparation:
    """How a checkpoint wants its clips.

    Args:
        extractor: its own.
        rate: samples per second.
        shortest: samples that the model needs to say anything.
        masks: the model is told which samples are padding.
        padded: padding changes no answer, so that clips of any length may share a batch.
    """

    extractor: Any
    rate: int
    shortest: int
    masks: bool
    padded: bool

    @classmethod
    def of(cls, net: Network, source: Source | None) -> Preparation:
        """From the checkpoint's feature extractor.

        Raises:
            DataError: if there is none, or it makes something else than waves.
        """
        where = "a model from a bare config" if source is None else source.name
        if source is None or not has_processor(source):
            raise DataError(
                f"{where} has no feature extractor, so its sampling rate is unknown. Expected "
                "preprocessor_config.json beside config.json."
            )
        extractor = load_feature_extractor(source)
        rate, asked = getattr(extractor, "sampling_rate", None), extractor.model_input_names
        waves = asked and asked[0] == INPUT and getattr(extractor, "feature_size", None) == 1
        if not waves or not isinstance(rate, int) or rate < 1:
            raise DataError(
                f"{where}: its feature extractor ({type(extractor).__name__}) makes "
                f"{asked[0] if asked else 'nothing'} at a sampling rate of {rate}, but the model "
                f"takes waves ({INPUT}). Do preprocessor_config.json and config.json belong "
                "together?"
            )
        if extractor.padding_side != "right":
            raise DataError(
                f"{where}: its feature extractor fills clips up at the {extractor.padding_side}, "
                "where the model looks for their beginning. Expected padding_side right."
            )
        masks = bool(extractor.return_attention_mask)
        return cls(
            extractor,
            rate,
            wav2vec2.frame(net.config)[0],
            masks,
            masks and not wav2vec2.alone(net.config),
        )

    def samples(self, header: Header) -> int:
        """About how many a recording has at the model's rate."""
        return round(header.seconds * self.rate)

    def check(self, header: Header) -> None:
        """Refuse what is no clip.

        Raises:
            DataError: saying why.
        """
        if header.samples == 0:
            raise DataError("is empty")
        if header.channels not in CHANNELS:
            raise DataError(f"has {header.channels} channels. Expected one, or two for stereo")
        if self.samples(header) < self.shortest:
            raise DataError(
                f"is too short: {header.seconds:.4g} s, but the model needs "
                f"{self.shortest} samples ({self.shortest / self.rate:.4g} s) for one frame"
            )

    def values(self, value: str | bytes) -> Wave:
        """One clip as the model hears it: [samples].

        Args:
            value: a path, or the bytes of a file.
        Raises:
            DataError: if it cannot be read whole.
        """
        header, wave = decoded(value)
        self.check(header)
        if not np.isfinite(wave).all():
            raise DataError("holds samples that are no numbers")
        heard = resampled(wave.mean(axis=1), header.rate, self.rate)
        if len(heard) < self.shortest:
            raise DataError(f"is too short: {len(heard)} samples, expected {self.shortest}")
        found = self.extractor(heard, sampling_rate=self.rate, return_tensors="np")[INPUT]
        return np.asarray(found[0], dtype="float32")

    def batch(self, clips: Sequence[Wave]) -> Batch:
        """Clips filled up to the longest, as the extractor does it: input_values [clips, samples],
        and an attention_mask of this shape if it makes one."""
        made = self.extractor.pad({INPUT: list(clips)}, padding=True, return_tensors="np")
        batch = {INPUT: torch.from_numpy(np.asarray(made[INPUT], dtype="float32"))}
        if self.masks:
            batch["attention_mask"] = torch.from_numpy(made["attention_mask"]).long()
        return batch


def header_of(value: str | bytes) -> Header:
    """What a recording says of itself, without reading it.

    Raises:
        DataError: if it is none.
    """
    try:
        said = _soundfile().info(_file(value))
    except MissingDependencyError:
        raise
    except Exception as error:
        raise _unreadable(value, error) from None
    return Header(int(said.frames), int(said.samplerate), int(said.channels))


def decoded(value: str | bytes) -> tuple[Header, Wave]:
    """A recording, and its samples between -1 and 1: [samples, channels].

    Raises:
        DataError: if it is none, or ends before it should.
    """
    header = header_of(value)
    try:
        wave, rate = _soundfile().read(_file(value), dtype="float32", always_2d=True)
    except Exception as error:  # soundfile's own, and those of files
        raise _unreadable(value, error) from None
    if len(wave) != header.samples or rate != header.rate:
        raise DataError(f"is cut short: {len(wave)} of {header.samples} samples can be read")
    return header, wave


def resampled(wave: Wave, rate: int, wanted: int) -> Wave:
    """[samples] at another sampling rate (soxr, high quality)."""
    if rate == wanted:
        return wave
    found: Wave = _library("soxr").resample(wave, rate, wanted)
    return found


def _file(value: str | bytes) -> str | io.BytesIO:
    return io.BytesIO(value) if isinstance(value, bytes) else value


def _unreadable(value: str | bytes, error: Exception) -> DataError:
    if isinstance(value, str) and not Path(value).is_file():
        return DataError("is not a file of this machine")
    if isinstance(value, str):
        check_readable([Path(value)])  # to soundfile that is a "system error"
    if (isinstance(value, bytes) and not value) or (
        isinstance(value, str) and Path(value).stat().st_size == 0
    ):
        return DataError("is empty")
    reason = (str(getattr(error, "error_string", error)).splitlines() or [type(error).__name__])[0]
    return DataError(f"is no audio that can be read ({reason[:100]})")


def _soundfile() -> ModuleType:
    return _library("soundfile")


def _library(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # soundfile raises OSError without its libsndfile
        raise MissingDependencyError(
            f"reading audio needs the audio extra ({str(error)[:120]}): "
            "pip install 'acn-compress[audio]'"
        ) from None
