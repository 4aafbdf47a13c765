"""Images for a model: resized once by the checkpoint's own image processor, kept as bytes,
normalised per batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from acn_compress.architectures import timm
from acn_compress.checkpoint.directory import Source
from acn_compress.data.load import LABEL_COLUMNS, Columns, Noise, label_ids, pick_column
from acn_compress.errors import ConfigError, DataError
from acn_compress.network.network import Network, channels, image_size

IMAGE_COLUMNS = ("image", "img", "pixel_values", "picture", "photo")
IN_MEMORY = 4 << 30  # bytes of prepared images that are kept; more are prepared again on every use


@dataclass
class Preparation:
    """How a checkpoint wants its images.

    Args:
        processor: its image processor, used for resizing and cropping; None to resize plainly.
        fit: PIL image to PIL image of `size`, where timm resizes and crops.
        size: height, width.
        channels: 1 or 3.
        mean, std: [channels], of pixels in [0, 1].
    """

    processor: Any
    size: tuple[int, int]
    channels: int
    mean: Tensor
    std: Tensor
    fit: Callable[[Any], Any] | None = None

    @classmethod
    def of(cls, net: Network, source: Source | None) -> Preparation:
        """From the checkpoint's processor file, its config (timm), or for want of either (0.5,
        0.5)."""
        processor = None
        n, size = channels(net.config), image_size(net.config)
        if (cfg := getattr(net.config, "pretrained_cfg", None)) is not None:
            return cls(
                None,
                size,
                n,
                _per_channel(cfg["mean"], n),
                _per_channel(cfg["std"], n),
                fit=timm.fit(cfg),
            )
        if source is not None and (source.directory / "preprocessor_config.json").is_file():
            from transformers import AutoImageProcessor

            processor = AutoImageProcessor.from_pretrained(
                source.directory, local_files_only=True, backend="pil"
            )
        mean, std = (0.5,) * n, (0.5,) * n
        if processor is not None and getattr(processor, "do_normalize", False):
            mean, std = processor.image_mean, processor.image_std
        elif processor is not None:
            mean, std = (0.0,) * n, (1.0,) * n
        return cls(processor, size, n, _per_channel(mean, n), _per_channel(std, n))

    def pixels(self, image: Any) -> np.ndarray[Any, Any]:
        """One image as bytes: [channels, height, width]."""
        from PIL import Image

        picture = (
            image
            if isinstance(image, Image.Image)
            else Image.fromarray(np.asarray(image, dtype="uint8"))
        )
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        if self.fit is not None:
            picture = self.fit(picture)
        elif picture.size != (self.size[1], self.size[0]):
            if self.processor is not None:
                found = self.processor(
                    picture, do_rescale=False, do_normalize=False, return_tensors="np"
                )["pixel_values"][0]
                return np.asarray(
                    np.clip(np.round(found), 0, 255)
                    .astype("uint8")
                    .reshape(self.channels, *found.shape[-2:])
                )
            picture = picture.resize((self.size[1], self.size[0]), Image.Resampling.BICUBIC)
        array = np.asarray(picture, dtype="uint8")
        return array[None] if self.channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _per_channel(values: Any, n: int) -> Tensor:
    numbers = [float(v) for v in values][:n]
    return torch.tensor(numbers + numbers[-1:] * (n - len(numbers)))


class ImageExamples:
    """Prepared images with labels. Implements `data.Examples`."""

    def __init__(
        self,
        images: Any,
        prepare: Preparation,
        labels: Tensor,
        names: list[str],
        augment: str | None,
    ) -> None:
        self.labels: list[str] | None = names
        self.sizes: Tensor | None = None
        self._images, self._prepare, self._targets, self._augment = images, prepare, labels, augment

    @classmethod
    def prepare(
        cls,
        table: Any,
        name: str,
        net: Network,
        source: Source | None,
        columns: Columns,
        augment: str | None,
    ) -> ImageExamples:
        """Read, resize and (where they fit) keep every image of `table`."""
        import datasets

        if augment not in {None, "crop", "flip-crop"}:
            raise ConfigError(f"augment '{augment}' is not known. Expected crop or flip-crop.")
        typed = [c for c, f in table.features.items() if isinstance(f, datasets.Image)]
        column = pick_column(
            table, name, columns.image, [*typed, *IMAGE_COLUMNS], "--image-column", "images"
        )
        label = pick_column(
            table, name, columns.label, _label_guesses(table), "--label-column", "labels"
        )
        targets, names = label_ids(table, name, label, net)
        if isinstance(table.features[column], (dict, datasets.Value)):
            table = table.cast_column(column, datasets.Image())
        prepare = Preparation.of(net, source)
        rows = _Rows(table, column, prepare, name)
        size = len(table) * prepare.channels * prepare.size[0] * prepare.size[1]
        images = (
            torch.from_numpy(np.stack([rows[i] for i in range(len(table))]))
            if size <= IN_MEMORY
            else rows
        )
        return cls(images, prepare, targets, names, augment)

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"index": index, "image": self._images[index], "label": self._targets[index]}

    def collate(
        self, examples: Sequence[dict[str, Any]], *, train: bool = False, noise: Noise | None = None
    ) -> dict[str, Tensor]:
        """pixel_values [batch, channels, height, width], labels [batch]."""
        pixels = torch.stack([torch.as_tensor(e["image"]) for e in examples]).float() / 255
        if train and self._augment is not None:
            pixels = _augment(pixels, flip=self._augment == "flip-crop")
        if noise is not None:
            pixels = torch.stack(
                [add_noise(p, noise, e["index"]) for p, e in zip(pixels, examples, strict=True)]
            )
        mean, std = self._prepare.mean[:, None, None], self._prepare.std[:, None, None]
        return {
            "pixel_values": (pixels - mean) / std,
            "labels": torch.stack([e["label"] for e in examples]),
        }


class _Rows:
    """Images prepared on use, for data that does not fit in memory."""

    def __init__(self, table: Any, column: str, prepare: Preparation, name: str) -> None:
        self._table, self._column, self._prepare, self._name = table, column, prepare, name

    def __getitem__(self, index: int) -> np.ndarray[Any, Any]:
        try:
            return self._prepare.pixels(self._table[index][self._column])
        except Exception as error:  # Pillow raises many classes for damaged images
            raise DataError(
                f"data {self._name}: row {index} of column '{self._column}' is not an image ({str(error)[:100]})."
            ) from None


def _label_guesses(table: Any) -> list[str]:
    import datasets

    return [
        *(c for c, f in table.features.items() if isinstance(f, datasets.ClassLabel)),
        *LABEL_COLUMNS,
    ]


def _augment(pixels: Tensor, *, flip: bool) -> Tensor:
    """Random crop after reflecting an eighth of the size at the border, and a horizontal flip, per
    image (torch's generator)."""
    n, _, height, width = pixels.shape
    pad = max(1, height // 8)
    padded = F.pad(pixels, (pad,) * 4, mode="reflect")
    top, left = torch.randint(0, 2 * pad + 1, (2, n))
    rows = top[:, None] + torch.arange(height)
    cols = left[:, None] + torch.arange(width)
    if flip:
        cols = torch.where(torch.rand(n, 1) < 0.5, cols.flip(1), cols)
    return padded[torch.arange(n)[:, None, None], :, rows[:, :, None], cols[:, None, :]].permute(
        0, 3, 1, 2
    )


def add_noise(pixels: Tensor, noise: Noise, index: int) -> Tensor:
    """The same noise for the same example, whatever model or batch asks: [channels, height, width]
    in [0, 1]."""
    generator = torch.Generator().manual_seed(1_000_003 + index)
    if noise.kind == "gaussian":
        return (pixels + noise.amount * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)
    drawn = torch.rand(pixels.shape[-2:], generator=generator)
    pixels = torch.where(drawn < noise.amount / 2, torch.zeros(()), pixels)
    return torch.where(drawn > 1 - noise.amount / 2, torch.ones(()), pixels)
