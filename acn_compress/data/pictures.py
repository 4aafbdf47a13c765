"""How a checkpoint wants its images: its own processor resizes and crops every one of them, and
says what number a byte becomes. Bit-equal to plain transformers, whatever the size and mode of an
image; what bytes cannot hold is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from acn_compress.architectures import timm
from acn_compress.checkpoint.processors import has_processor, load_image_processor
from acn_compress.errors import DataError, ModelDirError

if TYPE_CHECKING:
    from PIL.Image import Image

    from acn_compress.checkpoint.source import Source
    from acn_compress.network.network import Network

Pixels = np.ndarray[Any, np.dtype[np.uint8]]  # [channels, height, width]
MODES = {1: "L", 3: "RGB"}  # by channels
DEEP = ("I", "F")  # beginnings of the modes whose pixels are more than bytes
MOST = 1 << 27  # pixels of one image; more are taken for a decompression bomb
NO_GEOMETRY = {"do_resize": False, "do_center_crop": False, "do_pad": False}
NO_VALUES = {"do_rescale": False, "do_normalize": False}


@dataclass
class Preparation:
    """How a checkpoint wants its images.

    Args:
        fit: image to bytes, resized and cropped.
        size: height and width of what the model gets.
        channels: 1 or 3.
        values: [channels, 256], the number that a byte becomes.
        scale: of a byte over 255, before normalisation.
        mean, std: [channels], that the scaled bytes are normalised with.
        note: what the user should know, where the checkpoint does not say how it wants its images.
    """

    fit: Callable[[Image], Pixels]
    size: tuple[int, int]
    channels: int
    values: Tensor
    mean: Tensor
    std: Tensor
    scale: float = 1.0
    note: str | None = None

    @classmethod
    def of(cls, net: Network, source: Source | None) -> Preparation:
        """From the checkpoint's processor file, its config (timm), or for want of either (0.5,
        0.5).

        Raises:
            DataError: if the processor is not for this model, or does more than can be said here.
        """
        n, size = net.channels, net.image_size
        if n not in MODES:
            raise DataError(f"the model takes images of {n} channels. Only 1 and 3 can be read.")
        if (cfg := getattr(net.config, "pretrained_cfg", None)) is not None:
            shrunk = partial(_shrunk, timm.fit(cfg))
            return _plain(shrunk, size, n, cfg["mean"], cfg["std"])
        if (processor := _processor(source)) is not None:
            return _own(processor, net, "" if source is None else source.name)
        note = "no image processor beside the model: images are resized, mean and deviation are 0.5"
        found = _plain(partial(_resized, size), size, n, (0.5,) * n, (0.5,) * n)
        found.note = None if source is None else note
        return found

    def pixels(self, image: Any) -> Pixels:
        """One image as bytes: [channels, height, width].

        Raises:
            DataError: if it is none, or bytes cannot hold it, or it becomes another size.
        """
        found = self.fit(as_picture(image, self.channels))
        wanted = (self.channels, *self.size)
        if found.shape != wanted:
            raise DataError(
                f"becomes {_by(found.shape)}, expected {_by(wanted)}: the image processor gives "
                "images of different shapes. Set do_center_crop in its file"
            )
        return found

    def numbers(self, pixels: Tensor) -> Tensor:
        """Bytes as the model gets them: [batch, channels, height, width]."""
        if self._is_plain:
            return self.normalised(pixels.float() / 255)
        channel = torch.arange(self.channels)[:, None, None]
        return self.values[channel, pixels.long()]

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] as the model gets them: [batch, channels, height, width]."""
        scaled = pixels if self.scale == 1 else pixels * self.scale
        return (scaled - self.mean[:, None, None]) / self.std[:, None, None]

    def __post_init__(self) -> None:
        # the same bits without a look-up per pixel, as for most processors
        self._is_plain = torch.equal(self.values, self.normalised(_ramp(self.channels))[:, 0])

    _is_plain: bool = field(init=False, repr=False)


def as_picture(image: Any, channels: int) -> Image:
    """An image, or an array of bytes, upright and with the model's channels, as transformers'
    pipelines make it.

    Raises:
        DataError: if bytes cannot hold its pixels.
    """
    from PIL import Image, ImageOps

    if not isinstance(image, Image.Image):
        image = Image.fromarray(as_bytes(np.asarray(image)))
    if image.width * image.height > MOST:
        raise DataError(f"has {image.width} x {image.height} pixels, more than can be meant")
    if image.mode.startswith(DEEP):
        raise DataError(f"has more than 8 bits per pixel (mode {image.mode}). Save it with 8 bits")
    upright = ImageOps.exif_transpose(image)
    return upright.convert(MODES[channels])


def as_bytes(array: np.ndarray[Any, Any]) -> Pixels:
    """An array of pixels, channels last.

    Raises:
        DataError: if it is none, or has other numbers than 0 to 255.
    """
    if array.dtype != np.uint8:
        whole = np.issubdtype(array.dtype, np.integer)
        if not whole or array.dtype == np.uint16 or array.min() < 0 or array.max() > 255:
            raise DataError(
                f"holds {array.dtype}. Expected whole numbers from 0 to 255; save images as such"
            )
        array = array.astype(np.uint8)
    last, first = array.shape[-1:] in {(1,), (3,), (4,)}, array.shape[:1] in {(1,), (3,), (4,)}
    if array.ndim == 3 and first and not last:
        array = np.ascontiguousarray(array.transpose(1, 2, 0))
    if array.ndim not in {2, 3} or (array.ndim == 3 and not last and not first):
        raise DataError(f"has the shape {_by(array.shape)}. Expected height x width x channels")
    if array.ndim == 3 and first and last and array.shape[0] != array.shape[-1]:
        raise DataError(f"has the shape {_by(array.shape)}, which says no height and width")
    return array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array


def _processor(source: Source | None) -> Any:
    if source is None or not has_processor(source):
        return None
    try:
        return load_image_processor(source)
    except ModelDirError as error:
        raise DataError(str(error)) from None


@dataclass
class _Processor:
    """A processor of transformers.

    Args:
        processor: it.
        channels: of its images.
        name: of the checkpoint.
        still: sizes of images that it leaves as they are.
    """

    processor: Any
    channels: int
    name: str
    still: dict[tuple[int, int], bool] = field(default_factory=dict)

    def prepared(self, image: Image, **options: bool) -> Any:
        """An image as it prepares it."""
        try:
            return self.processor(image, return_tensors="np", **options)["pixel_values"][0]
        except Exception as error:  # from sizes it cannot make
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{self.name}: its image processor fails ({reason[:160]})") from None

    def __call__(self, image: Image) -> Pixels:
        """What it does to places alone."""
        if image.size not in self.still:
            probe = _probe(image.height, image.width, self.channels)
            found = self.prepared(probe, **NO_VALUES)
            same = found.dtype == np.uint8 and np.array_equal(found, _bytes(probe))
            self.still[image.size] = same
        if self.still[image.size]:
            return _bytes(image)
        return _whole(self.prepared(image, **NO_VALUES), self.channels)


def _own(processor: Any, net: Network, name: str) -> Preparation:
    """As a processor of transformers prepares images: what it does to places and to values apart,
    proved equal to what it does at once."""
    from PIL import Image

    n = net.channels
    fit = _Processor(processor, n, name)
    probe = _probe(61, 47, n)
    small = fit(probe)
    ramp = Image.fromarray(_ramp_bytes(n), mode=MODES[n])
    values = torch.from_numpy(np.asarray(fit.prepared(ramp, **NO_GEOMETRY), "float32")).reshape(
        n, 256
    )
    at_once = torch.from_numpy(np.asarray(fit.prepared(probe), "float32"))
    apart = values[torch.arange(n)[:, None, None], torch.from_numpy(small).long()]
    if not torch.equal(at_once, apart):
        raise DataError(
            f"{name}: its image processor ({type(processor).__name__}) does more than resize, "
            "crop, "
            "rescale and normalise, which cannot be done here."
        )
    size = net.image_size  # of a processor that leaves the size to the images, which must have it
    if small.shape == fit(_probe(47, 61, n)).shape:
        size = (small.shape[1], small.shape[2])
        _check_size(net, size, name)
    rescales, normalises = processor.do_rescale, getattr(processor, "do_normalize", False)
    mean, std = (processor.image_mean, processor.image_std) if normalises else ((0.0,), (1.0,))
    scale = 255.0 * processor.rescale_factor if rescales else 255.0
    return Preparation(
        fit, size, n, values, _per_channel(mean, n), _per_channel(std, n), scale=scale
    )


def _plain(
    fit: Callable[[Image], Pixels], size: tuple[int, int], n: int, mean: Any, std: Any
) -> Preparation:
    """Bytes over 255, normalised."""
    means, stds = _per_channel(mean, n), _per_channel(std, n)
    values = ((_ramp(n) - means[:, None, None]) / stds[:, None, None])[:, 0]
    return Preparation(fit, size, n, values, means, stds)


def _resized(size: tuple[int, int], image: Image) -> Pixels:
    from PIL import Image as images

    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), images.Resampling.BICUBIC)
    return _bytes(image)


def _shrunk(steps: list[Any], image: Any) -> Pixels:
    for step in steps:
        image = step(image)
    return _bytes(image)


def _check_size(net: Network, size: tuple[int, int], name: str) -> None:
    """Refuse a processor that makes images of a size which the model does not take."""
    if size == net.image_size:
        return
    pixels = torch.zeros(1, net.channels, *size, device=net.device, dtype=net.dtype)
    try:
        with torch.inference_mode(), net.evaluating():
            net(pixel_values=pixels)
    except Exception:
        raise DataError(
            f"{name}: its image processor makes images of {_by(size)}, but the model takes "
            f"{_by(net.image_size)}. Do preprocessor_config.json and config.json belong together?"
        ) from None


def _bytes(image: Image) -> Pixels:
    array = np.asarray(image, dtype="uint8")
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _whole(found: Any, n: int) -> Pixels:
    """What a processor made of the places, as bytes."""
    array = np.asarray(found)
    if array.dtype != np.uint8:
        array = np.clip(np.round(array), 0, 255).astype("uint8")
    return array.reshape(n, *array.shape[-2:])


def _probe(height: int, width: int, n: int) -> Image:
    """Noise, in which every change of places shows."""
    from PIL import Image as images

    noise = np.random.default_rng(0).integers(0, 256, (height, width, n), dtype="uint8")
    return images.fromarray(noise[..., 0] if n == 1 else noise, mode=MODES[n])


def _ramp_bytes(n: int) -> Pixels:
    ramp = np.arange(256, dtype="uint8").reshape(16, 16)
    return ramp if n == 1 else np.repeat(ramp[..., None], n, axis=-1)


def _ramp(n: int) -> Tensor:
    """Every byte over 255: [channels, 1, 256]."""
    return (torch.arange(256).float() / 255).expand(n, 1, 256)


def _per_channel(values: Any, n: int) -> Tensor:
    numbers = [float(v) for v in (values if isinstance(values, list | tuple) else [values])][:n]
    return torch.tensor(numbers + numbers[-1:] * (n - len(numbers)))


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
