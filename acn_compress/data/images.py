"""Images for a model: resized once by the checkpoint's own image processor (`pictures.py`), kept as
bytes, normalised per batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from acn_compress.checkpoint.files import unread
from acn_compress.data.ahead import ahead, sensible
from acn_compress.data.noise import Noise, add_noise
from acn_compress.data.pictures import Pixels, Preparation
from acn_compress.data.sample import place_of
from acn_compress.data.table import IMAGES, Table
from acn_compress.errors import ConfigError, DataError
from acn_compress.network.network import Network
from acn_compress.tasks.base import Batch, Rows, Task

if TYPE_CHECKING:
    from acn_compress.checkpoint.source import Source

IN_MEMORY = 4 << 30  # bytes of prepared images that are kept; more are prepared again on every use
MANY = 2000  # files, from which on it pays to decode them in several processes
TOGETHER = 64  # images that are handed over at once


class ImageExamples:
    """Prepared images with labels. Implements `data.Examples`."""

    def __init__(
        self,
        images: Any,
        prepare: Preparation,
        made: Rows,
        augment: str | None = None,
        workers: int = 0,
    ) -> None:
        assert made.labels is not None
        self.labels, self.size = made.names, prepare.size
        self.sizes: Tensor | None = None
        self.workers = workers  # that should read them ahead
        self.stamp = images.stamp if isinstance(images, _Pictures) else ""
        self._images, self._prepare = images, prepare
        self._targets, self._augment = made.labels, augment

    @classmethod
    def prepare(
        cls, table: Table, net: Network, source: Source | None, task: Task, augment: str | None
    ) -> ImageExamples:
        """Read, resize and (where they fit) keep every image of `table`."""
        import datasets

        if augment not in {None, "crop", "flip-crop"}:
            raise ConfigError(f"augment '{augment}' is not known. Expected crop or flip-crop.")
        features = table.rows.features.items()
        typed = [c for c, f in features if isinstance(f, datasets.Image)]
        column = table.pick("image", IMAGES, "images", typed)
        made = task.rows(table, None)
        prepare = Preparation.of(net, source)
        table.notes.extend([prepare.note] if prepare.note else [])
        rows = _Pictures(table, column, prepare)
        size = len(table) * prepare.channels * prepare.size[0] * prepare.size[1]
        wanted = table.columns.workers
        if size <= IN_MEMORY:
            return cls(rows.kept(len(table), wanted), prepare, made, augment, wanted or 0)
        workers = sensible() if wanted is None else wanted
        table.notes.append(
            f"{size / 2**30:.1f} GiB of pixels are not kept: images are decoded at every use, "
            f"ahead of it by {workers} processes (--workers)"
        )
        return cls(rows, prepare, made, augment, workers)

    def label(self, classes: Tensor) -> None:
        """Give every example a class ([examples])."""
        self._targets = classes

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"index": index, "image": self._images[index], "labels": self._targets[index]}

    def collate(
        self, examples: Sequence[dict[str, Any]], *, train: bool = False, noise: Noise | None = None
    ) -> Batch:
        """pixel_values [batch, channels, height, width], labels [batch]."""
        pixels = torch.stack([torch.as_tensor(e["image"]) for e in examples])
        if train and self._augment is not None:
            flip, seeds = self._augment == "flip-crop", [e.get("seed") for e in examples]
            pixels = augmented(pixels.float(), seeds, flip=flip).to(torch.uint8)
        if noise is None:
            values = self._prepare.numbers(pixels)
        else:
            pairs = zip(pixels.float() / 255, examples, strict=True)
            noisy = torch.stack([add_noise(p, noise, e["index"]) for p, e in pairs])
            values = self._prepare.normalised(noisy)
        return {"pixel_values": values, "labels": torch.stack([e["labels"] for e in examples])}


class _Pictures:
    """Images of a column, prepared on use."""

    def __init__(self, table: Table, column: str, prepare: Preparation) -> None:
        import datasets

        rows = table.rows
        feature = rows.features[column]
        if isinstance(feature, dict | datasets.Value):  # paths, or bytes without a type
            feature = datasets.Image()
        self._dtype = dtype_of(feature)
        self._decode = feature.decode_example if isinstance(feature, datasets.Image) else None
        if self._decode is not None:
            rows = rows.cast_column(column, datasets.Image(decode=False))
        self._rows, self._column, self._prepare = rows, column, prepare
        self._name, self._chosen = table.name, table.chosen

    @property
    def stamp(self) -> str:
        """Of the rows, which are too many to read: where `datasets` keeps them, which for files is
        named by their sizes and times (`files.cache`)."""
        return repr((self._rows._fingerprint, [f["filename"] for f in self._rows.cache_files]))

    def __getitem__(self, index: int) -> Pixels:
        try:
            return self._prepare.pixels(self._image(index))
        except DataError as error:
            raise self._fault(index, str(error)) from None
        except PermissionError as error:
            raise DataError(unread(error.filename or self._name, error)) from None
        except Exception as error:  # Pillow raises many classes for damaged images
            raise self._fault(index, f"is not an image ({str(error)[:100]})") from None

    def kept(self, count: int, wanted: int | None) -> Tensor:
        """The first `count` of them, prepared once: [count, channels, height, width]. Many files
        are decoded by several processes."""
        many = self._decode is not None and count >= MANY
        workers = (sensible() if many else 0) if wanted is None else wanted
        batches = [range(i, min(i + TOGETHER, count)) for i in range(0, count, TOGETHER)]
        found = torch.empty((count, self._prepare.channels, *self._prepare.size), dtype=torch.uint8)
        read = ahead(self, batches, _joined, workers, found[:TOGETHER].nbytes)
        for numbers, pixels in zip(batches, read, strict=True):
            found[numbers.start : numbers.stop] = pixels["image"]
        return found

    def _image(self, index: int) -> Any:
        value = self._rows[index][self._column]
        if self._decode is None:
            return np.asarray(value, dtype=self._dtype)
        path = (value or {}).get("path")
        if value is None or (value["bytes"] is None and not is_local(str(path))):
            raise DataError(f"is not an image of this machine ({str(path)[:80]})")
        return self._decode(value)

    def _fault(self, index: int, what: str) -> DataError:
        value = self._rows[index][self._column] if self._decode is not None else None
        path = (value or {}).get("path")
        named = f" ({str(path)[-120:]})" if path else ""
        row = place_of(index, self._chosen)
        return DataError(f"data {self._name}: row {row} of column '{self._column}'{named} {what}.")


def _joined(images: Sequence[Pixels]) -> Batch:
    return {"image": torch.from_numpy(np.stack(images))}


def dtype_of(feature: Any) -> str | None:
    """Of the numbers in an array or in nested lists, as the table declares it."""
    while (inner := getattr(feature, "feature", None)) is not None:
        feature = inner
    return getattr(feature, "dtype", None)


def is_local(path: str) -> bool:
    """Whether reading a path asks no network: a file, or one in an archive."""
    return "://" not in path or path.startswith(("file://", "zip://"))


def augmented(pixels: Tensor, seeds: Sequence[int | None], *, flip: bool) -> Tensor:
    """Random crop after reflecting an eighth of the size at the border, and a horizontal flip, per
    image: drawn from its seed, or from torch's own generator."""
    n, _, height, width = pixels.shape
    pad = max(1, height // 8)
    padded = F.pad(pixels, (pad,) * 4, mode="reflect")
    drawn = torch.stack([_drawn(seed) for seed in seeds])
    top, left = (drawn[:, :2] * (2 * pad + 1)).long().T
    rows = top[:, None] + torch.arange(height)
    cols = left[:, None] + torch.arange(width)
    if flip:
        cols = torch.where(drawn[:, 2:] < 0.5, cols.flip(1), cols)
    return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], cols[:, None, :]].permute(
        0, 3, 1, 2
    )


def _drawn(seed: int | None) -> Tensor:
    """[3], in [0, 1)."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return torch.rand(3, generator=generator)
