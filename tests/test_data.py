"""Data in every shape people have it: the same examples from a parquet file, a folder of images, a
csv of paths, a json table."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import fails
from tiny import network

from acn_compress.checkpoint.find import find_source
from acn_compress.data.load import Columns, Noise, Role, has_eval_split, load_data
from acn_compress.data.noise import add_noise
from acn_compress.errors import DataError

NAMES = [str(i) for i in range(10)]


def digits(count: int = 20) -> tuple[list[np.ndarray[Any, Any]], list[int]]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return [np.round(i * 255 / 16).astype("uint8") for i in data.images[:count]], [
        int(t) for t in data.target[:count]
    ]


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same twenty digits, written in every way."""
    root = tmp_path_factory.mktemp("data")
    images, labels = digits()
    folder, files = root / "folder", root / "files"
    files.mkdir()
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        for split in ("train", "test"):
            (folder / split / str(label)).mkdir(parents=True, exist_ok=True)
            (folder / split / str(label) / f"{number:02}.png").write_bytes(png(image))
        (files / f"{number:02}.png").write_bytes(png(image))
    rows = {"image": [{"bytes": png(i), "path": None} for i in images], "label": labels}
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    )
    table = datasets.Dataset.from_dict(rows, features=features)
    table.to_parquet(root / "test.parquet")
    shards = root / "shards"
    shards.mkdir()
    for split in ("train", "validation"):
        table.to_parquet(shards / f"{split}-00000-of-00001.parquet")
    paths = [str(files / f"{n:02}.png") for n in range(len(labels))]
    (root / "table.csv").write_text(
        "image,label\n" + "".join(f"{p},{t}\n" for p, t in zip(paths, labels, strict=True))
    )
    (root / "table.jsonl").write_text(
        "".join(
            json.dumps({"image": p, "label": str(t)}) + "\n"
            for p, t in zip(paths, labels, strict=True)
        )
    )
    return {
        "parquet": str(root / "test.parquet"),
        "folder": f"{folder}:test",
        "shards": f"{shards}:validation",
        "csv": str(root / "table.csv"),
        "jsonl": str(root / "table.jsonl"),
    }


def prepared(spec: str, net: Any, source: Any, role: Role = "eval") -> dict[str, torch.Tensor]:
    data = load_data(spec, net, source, role=role)
    return next(iter(data.batches(len(data))))


@pytest.mark.parametrize("shape", ["folder", "shards", "csv", "jsonl"])
def test_the_same_examples_come_out_of_every_shape(
    shape: str, places: dict[str, str], digits_vit: Path
) -> None:
    net, source = network(digits_vit), find_source(digits_vit)
    expected, found = (prepared(places[s], net, source) for s in ("parquet", shape))

    def sorted_rows(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        rows = torch.cat([batch["labels"][:, None].float(), batch["pixel_values"].flatten(1)], 1)
        return rows[np.lexsort(rows.T.numpy())]

    assert torch.equal(sorted_rows(found), sorted_rows(expected))


def test_a_split_is_found_by_its_name(places: dict[str, str], digits_vit: Path) -> None:
    net, source = network(digits_vit), find_source(digits_vit)
    shards = places["shards"].removesuffix(":validation")
    assert load_data(shards, net, source, role="eval").name == f"{shards}:validation"
    assert load_data(shards, net, source, role="train").name == f"{shards}:train"
    assert has_eval_split(shards) and has_eval_split("digits")
    assert not has_eval_split(places["parquet"]) and not has_eval_split("digits:train")


def test_labels_are_matched_by_name_and_not_by_number(
    places: dict[str, str], digits_vit: Path, tmp_path: Path
) -> None:
    net, source = network(digits_vit), find_source(digits_vit)
    table = datasets.load_dataset("parquet", data_files=places["parquet"])["train"]
    turned = table.cast_column("label", datasets.ClassLabel(names=NAMES))
    features = turned.features.copy()
    features["label"] = datasets.ClassLabel(names=NAMES[::-1])
    turned = turned.map(lambda row: {"label": 9 - row["label"]}, features=features)
    turned.to_parquet(tmp_path / "turned.parquet")
    a, b = (prepared(s, net, source) for s in (places["parquet"], str(tmp_path / "turned.parquet")))
    assert torch.equal(a["labels"], b["labels"])


def test_what_is_wrong_with_data_is_told(
    places: dict[str, str], digits_vit: Path, tmp_path: Path
) -> None:
    table = datasets.load_dataset("parquet", data_files=places["parquet"])["train"]
    few = table.filter(lambda row: row["label"] < 3).cast_column("label", datasets.Value("int64"))
    few.cast_column("label", datasets.ClassLabel(names=["a", "b", "c"])).to_parquet(
        tmp_path / "few.parquet"
    )
    fails(
        "has 3 labels (a, b, c), but the model has 10 (0, 1, 2, 3, ...)",
        "evaluate",
        digits_vit,
        "--data",
        tmp_path / "few.parquet",
    )
    many = few.map(lambda row: {"label": row["label"] + 50})
    many.to_parquet(tmp_path / "many.parquet")
    fails(
        "labels run from 50 to 52, but the model has 10 classes (0 to 9)",
        "evaluate",
        digits_vit,
        "--data",
        tmp_path / "many.parquet",
    )
    table.select([]).to_parquet(tmp_path / "none.parquet")
    fails("is empty", "evaluate", digits_vit, "--data", tmp_path / "none.parquet")
    (tmp_path / "blank.csv").write_text("")
    fails("is empty", "evaluate", digits_vit, "--data", tmp_path / "blank.csv")
    (tmp_path / "no-folder").mkdir()
    fails("is empty", "evaluate", digits_vit, "--data", tmp_path / "no-folder")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    fails("cannot be read", "evaluate", digits_vit, "--data", tmp_path / "bad.parquet")
    (tmp_path / "data.xlsx").write_bytes(b"PK")
    fails(
        "files of type '.xlsx' are not read. Expected .parquet",
        "evaluate",
        digits_vit,
        "--data",
        tmp_path / "data.xlsx",
    )
    broken = datasets.Dataset.from_dict(
        {"image": [{"bytes": b"no image", "path": None}], "label": [1]}
    )
    broken.cast_column("image", datasets.Image()).to_parquet(tmp_path / "broken.parquet")
    fails(
        "row 0 of column 'image' is not an image",
        "evaluate",
        digits_vit,
        "--data",
        tmp_path / "broken.parquet",
    )


def test_columns_can_be_named(places: dict[str, str], digits_vit: Path, tmp_path: Path) -> None:
    table = datasets.load_dataset("parquet", data_files=places["parquet"])["train"]
    table.rename_columns({"image": "scan", "label": "digit"}).to_parquet(tmp_path / "named.parquet")
    net, source = network(digits_vit), find_source(digits_vit)
    columns = Columns(image="scan", label="digit")
    assert (
        len(load_data(str(tmp_path / "named.parquet"), net, source, role="eval", columns=columns))
        == 20
    )


def test_noise_is_what_it_says_and_the_same_for_every_model() -> None:
    pixels = torch.full((1, 64, 64), 0.5)
    noisy = add_noise(pixels, Noise.parse("gaussian:0.1"), 3)
    assert float((noisy - pixels).std()) == pytest.approx(0.1, rel=0.05) and float(noisy.min()) >= 0
    assert torch.equal(noisy, add_noise(pixels, Noise.parse("gaussian:0.1"), 3))
    assert not torch.equal(noisy, add_noise(pixels, Noise.parse("gaussian:0.1"), 4))
    salted = add_noise(pixels, Noise.parse("salt-pepper:0.1"), 3)
    assert float((salted != 0.5).float().mean()) == pytest.approx(0.1, rel=0.15)
    assert set(salted.unique().tolist()) == {0.0, 0.5, 1.0}
    for text in ("gaussian", "gaussian:-1", "salt-pepper:2", "snow:0.1"):
        with pytest.raises(
            DataError, match=r"is not known\. Expected gaussian:SD or salt-pepper:SHARE"
        ):
            Noise.parse(text)
