"""Images: what the checkpoint's own processor makes of them, bit for bit; what bytes cannot hold is
refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import transformers as hf
from brought import SMALL, loaded, read
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

from acn_compress.data.load import Noise
from acn_compress.errors import DataError, UnsupportedError

RNG = np.random.default_rng(5)


def vit(directory: Path, processor: dict[str, Any] | None, size: Any = 16, **fields: Any) -> Path:
    """A tiny ViT with a processor of its own."""
    torch.manual_seed(0)
    config = hf.ViTConfig(**SMALL, image_size=size, patch_size=4, **({"num_labels": 2} | fields))
    hf.ViTForImageClassification(config).save_pretrained(directory)
    if processor is not None:
        made = BitImageProcessorPil if "crop_size" in processor else hf.ViTImageProcessor
        made(**processor).save_pretrained(directory)
    return directory


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    """Noise."""
    return Image.fromarray(RNG.integers(0, 256, (height, width, 4), dtype="uint8"), "RGBA").convert(
        mode
    )


def rows(images: list[Any], feature: Any = None) -> datasets.Dataset:
    """A table of images, or of arrays."""
    typed = datasets.Features(
        {"image": feature or datasets.Image(), "label": datasets.Value("int64")}
    )
    values = {"image": images, "label": [i % 2 for i in range(len(images))]}
    return datasets.Dataset.from_dict(values, features=typed)


def png(image: Image.Image) -> dict[str, Any]:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def theirs(directory: Path, images: list[Image.Image]) -> torch.Tensor:
    """What plain transformers gives the model."""
    processor = hf.AutoImageProcessor.from_pretrained(directory, backend="pil")
    return torch.cat(
        [processor(i.convert("RGB"), return_tensors="pt")["pixel_values"] for i in images]
    )


PROCESSORS: dict[str, dict[str, Any]] = {
    "plain": {"size": {"height": 16, "width": 16}},
    "imagenet": {
        "size": {"height": 16, "width": 16},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
    },
    "crop": {"size": {"shortest_edge": 19}, "crop_size": {"height": 16, "width": 16}},
    "rescale": {"size": {"height": 16, "width": 16}, "rescale_factor": 1 / 100},
    "no-rescale": {"size": {"height": 16, "width": 16}, "do_rescale": False},
    "no-normalize": {"size": {"height": 16, "width": 16}, "do_normalize": False},
    "no-resize": {"do_resize": False, "size": {"height": 16, "width": 16}},
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_plain_transformers(name: str, tmp_path: Path) -> None:
    model = vit(tmp_path / "m", PROCESSORS[name])
    sizes = [(16, 16)] * 3 if name == "no-resize" else [(16, 16), (19, 19), (40, 23), (17, 90)]
    images = [picture(*size) for size in sizes]
    batch = next(iter(read(rows([png(i) for i in images]), model).batches(len(images))))
    assert torch.equal(batch["pixel_values"], theirs(model, images))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "RGB"])
def test_every_mode_of_eight_bits_is_read_as_a_pipeline_does(mode: str, tmp_path: Path) -> None:
    model = vit(tmp_path / "m", PROCESSORS["plain"])
    images = [picture(16, 16, mode), picture(30, 20, mode)]
    batch = next(iter(read(rows([png(i) for i in images]), model).batches(2)))
    assert torch.equal(batch["pixel_values"], theirs(model, images))


def test_a_picture_on_its_side_is_turned_up(tmp_path: Path) -> None:
    model = vit(tmp_path / "m", PROCESSORS["plain"])
    image, exif = picture(24, 20), Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    found = next(iter(read(rows([str(tmp_path / "a.png")]), model).batches(1)))
    upright = image.transpose(Image.Transpose.ROTATE_270)
    assert torch.equal(found["pixel_values"], theirs(model, [upright]))


@pytest.mark.parametrize("shape", ["last", "first", "grey", "int64"])
def test_arrays_of_bytes_are_images(shape: str, tmp_path: Path) -> None:
    model = vit(tmp_path / "m", PROCESSORS["plain"])
    array = RNG.integers(0, 256, (20, 16, 3), dtype="uint8")
    given: Any = array
    feature: Any = datasets.Array3D((20, 16, 3), "int64" if shape == "int64" else "uint8")
    if shape == "first":
        given, feature = array.transpose(2, 0, 1), datasets.Array3D((3, 20, 16), "uint8")
    if shape == "grey":
        array = array[..., 0]
        given, feature = array, datasets.Array2D((20, 16), "uint8")
    found = next(iter(read(rows([given], feature), model).batches(1)))
    assert torch.equal(found["pixel_values"], theirs(model, [Image.fromarray(array)]))


@pytest.mark.parametrize(
    ("image", "feature", "text"),
    [
        (np.zeros((16, 16, 3), "float32"), datasets.Array3D((16, 16, 3), "float32"), "float32"),
        (np.zeros((16, 16, 3), "uint16"), datasets.Array3D((16, 16, 3), "uint16"), "uint16"),
        (np.full((16, 16, 3), -1), datasets.Array3D((16, 16, 3), "int64"), "from 0 to 255"),
        (np.zeros((16, 16, 7), "uint8"), datasets.Array3D((16, 16, 7), "uint8"), "16 x 16 x 7"),
        (Image.fromarray(np.full((9, 9), 999, "uint16")), None, "more than 8 bits"),
        (
            {"bytes": None, "path": "https://example.org/a.png"},
            None,
            "not an image of this machine",
        ),
        ({"bytes": b"not a picture", "path": None}, None, "is not an image"),
    ],
)
def test_what_bytes_cannot_hold_is_refused(
    image: Any, feature: Any, text: str, tmp_path: Path
) -> None:
    model = vit(tmp_path / "m", PROCESSORS["plain"])
    with pytest.raises(DataError, match=rf"row 0 of column 'image' .*{text}"):
        read(rows([image], feature), model)


def test_a_damaged_image_is_told_by_its_file(tmp_path: Path) -> None:
    for name in ("0", "1"):
        (tmp_path / "d" / name).mkdir(parents=True)
        picture(9, 9).save(tmp_path / "d" / name / "a.png")
    (tmp_path / "d" / "1" / "b.png").write_bytes((tmp_path / "d/1/a.png").read_bytes()[:100])
    with pytest.raises(
        DataError, match=r"row 2 of column 'image' \(.*d/1/b\.png\) is not an image"
    ):
        read(str(tmp_path / "d"), vit(tmp_path / "m", PROCESSORS["plain"]))


def test_a_processor_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    small = rows([png(picture(16, 16))])
    other = vit(tmp_path / "other", {"size": {"height": 32, "width": 32}})
    with pytest.raises(DataError, match=r"makes images of 32 x 32, but the model takes 16 x 16"):
        read(small, other)
    shapes = vit(tmp_path / "shapes", {"do_resize": False, "size": {"height": 16, "width": 16}})
    with pytest.raises(DataError, match=r"row 0 .* becomes 3 x 20 x 16, expected 3 x 16 x 16"):
        read(rows([png(picture(20, 16))]), shapes)
    four = vit(tmp_path / "four", None, num_channels=4)
    with pytest.raises(DataError, match="images of 4 channels"):
        read(small, four)


def test_the_size_is_the_processors_where_the_model_takes_it(tmp_path: Path) -> None:
    config = hf.Dinov2Config(**{k: v for k, v in SMALL.items() if k != "intermediate_size"})
    config.image_size, config.patch_size, config.num_labels = 56, 14, 2
    hf.Dinov2ForImageClassification(config).save_pretrained(tmp_path / "m")
    crop = {"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}}
    BitImageProcessorPil(**crop).save_pretrained(tmp_path / "m")
    images = [picture(28, 28), picture(56, 56), picture(70, 40)]
    data = read(rows([png(i) for i in images]), tmp_path / "m")
    assert torch.equal(next(iter(data.batches(3)))["pixel_values"], theirs(tmp_path / "m", images))
    assert data.read is not None and data.read.size == [28, 28]


def test_noise_lies_on_the_pixels_and_not_on_the_numbers(tmp_path: Path) -> None:
    images = rows([png(picture(16, 16))])
    plain, scaled = (
        read(images, vit(tmp_path / name, PROCESSORS[name])) for name in ("plain", "no-rescale")
    )
    noise = Noise.parse("gaussian:0.3")
    a, b = (next(iter(d.batches(1, noise=noise)))["pixel_values"] for d in (plain, scaled))
    assert torch.allclose((a * 0.5 + 0.5) * 255, b * 0.5 + 0.5, atol=1e-3)


def test_cropped_and_flipped_images_have_the_numbers_of_whole_ones(tmp_path: Path) -> None:
    model = vit(tmp_path / "m", PROCESSORS["rescale"])
    data = read(rows([png(picture(16, 16))]), model, role="train", augment="flip-crop")
    whole = data.examples.collate([data.examples[0]])["pixel_values"]
    moved = data.examples.collate([data.examples[0]], train=True)["pixel_values"]
    assert set(moved.unique().tolist()) <= set(whole.unique().tolist())


def test_a_folder_of_classes_and_a_metadata_file_say_the_labels(tmp_path: Path) -> None:
    model = vit(tmp_path / "m", PROCESSORS["plain"], id2label={0: "cat", 1: "dog"})
    for i, name in enumerate(("dog", "cat", "dog")):
        (tmp_path / "classes" / name).mkdir(parents=True, exist_ok=True)
        picture(16, 16).save(tmp_path / "classes" / name / f"{i}.png")
        (tmp_path / "listed").mkdir(exist_ok=True)
        picture(16, 16).save(tmp_path / "listed" / f"{i}.png")
    (tmp_path / "listed" / "metadata.csv").write_text(
        "file_name,label\n0.png,dog\n1.png,cat\n2.png,dog\n"
    )
    for place in ("classes", "listed"):
        data = read(str(tmp_path / place), model)
        labels = sorted(int(data.examples[i]["labels"]) for i in range(3))
        assert labels == [0, 1, 1] and data.read is not None
        assert data.read.labels == {"cat": "cat", "dog": "dog"}


def test_numbers_of_images_have_no_metric(tmp_path: Path) -> None:
    images = rows([png(picture(16, 16))])
    heads: dict[str, dict[str, Any]] = {
        "several": {"num_labels": 3, "problem_type": "regression"},
        "one": {"num_labels": 1},
    }
    for name, fields in heads.items():
        model = vit(tmp_path / name, PROCESSORS["plain"], **fields)
        with pytest.raises(UnsupportedError, match="gives numbers and no classes"):
            read(images, model)
        assert loaded(model).depth == 2
