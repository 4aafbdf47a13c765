"""Where data lies: `digits`, a folder, parquet/csv/json files, a Hub data set (with `:split` where
it matters), or an object of `datasets`.

Which file belongs to which split `datasets` decides, by the words train, training; validation,
valid, dev, val; test, testing, eval, evaluation in the names of files and folders, or by the
configs of a README.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from acn_compress.checkpoint.files import denied
from acn_compress.checkpoint.find import near
from acn_compress.data import hub
from acn_compress.data.files import FILE_TYPES, load_files, named
from acn_compress.data.folders import load_folder
from acn_compress.data.split_names import KINDS, Role, guessed, guessed_of, kind_of
from acn_compress.errors import DataError

if TYPE_CHECKING:
    import datasets

    from acn_compress.data.split_names import Splits

    Spec: TypeAlias = str | Path | datasets.Dataset | datasets.DatasetDict


@dataclass(frozen=True)
class Split:
    """The rows of a split.

    Args:
        rows: as `datasets` reads them.
        name: what the user called the data, with the split.
        split: its name.
        notes: what the user should know about how it was found.
    """

    rows: datasets.Dataset
    name: str
    split: str
    notes: tuple[str, ...] = ()


def open_split(data: Spec, role: Role) -> Split:
    """The split that `data` names, or the one for `role`.

    Raises:
        DataError: saying what is there and what was expected.
    """
    place, split, found, notes = _splits_of(data)
    split = split or guessed(role, list(found))
    if split is None or split not in found:
        what = f"no split '{split}'" if split else f"no split for {role} could be guessed"
        here = ", ".join(found)
        raise DataError(f"data {place}: {what}. Present: {here}. Name one as {place}:SPLIT.")
    if role == "eval" and kind_of(split) == "train" and len(found) > 1:
        notes = [*notes, f"measured on '{split}', which is what a command trains on"]
    if role == "train" and kind_of(split) not in {None, "train"}:
        notes = [*notes, f"'{split}' by its name, which is what a command measures on"]
    return Split(found[split], f"{place}:{split}", split, tuple(notes))


def has_eval_split(data: Spec) -> bool:
    """Whether `data` names no split and another split than the one it trains on is there to measure
    on."""
    _, split, found, _ = _splits_of(data)
    best = guessed("eval", list(found))
    return split is None and best is not None and best != guessed("train", list(found))


def unmeasured(data: Spec) -> Spec | None:
    """The split that a command trains on, if it is another than the one it measures `data` on."""
    place, split, found, _ = _splits_of(data)
    name = guessed("train", list(found))
    if name is None or name == (split or guessed("eval", list(found))):
        return None
    return found[name] if isinstance(data, Mapping) else f"{place}:{name}"


def eval_splits(data: Spec) -> list[Spec]:
    """The splits to measure on, the best first, if `data` names no split and has others than the
    one it trains on."""
    place, split, found, _ = _splits_of(data)
    if split is not None:
        return []
    names = [guessed_of(kind, list(found)) for kind in KINDS["eval"]]
    return [
        found[name] if isinstance(data, Mapping) else f"{place}:{name}"
        for name in names
        if name is not None and name != guessed("train", list(found))
    ]


def name_of(data: Spec) -> str:
    """What to call data in a report: what the user wrote; of an object its fingerprint."""
    import datasets

    if isinstance(data, datasets.Dataset):
        return f"dataset-{data._fingerprint}"
    if isinstance(data, datasets.DatasetDict):
        parts = "".join(f"{split}{rows._fingerprint}" for split, rows in data.items())
        return f"dataset-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"
    return str(data)


def _splits_of(data: Spec) -> tuple[str, str | None, Splits, list[str]]:
    """Its name, the split that the user named, all splits, and notes."""
    import datasets

    if isinstance(data, datasets.Dataset):
        only = str(data.split or "train")
        return name_of(data), only, {only: _unformatted(data)}, []
    if isinstance(data, datasets.DatasetDict):
        return name_of(data), None, {split: _unformatted(data[split]) for split in data}, []
    if not isinstance(data, str | Path):
        raise DataError(
            f"data is a {type(data).__name__}. Expected a name or path, a datasets.Dataset or a "
            "DatasetDict."
        )
    place, split = _split_spec(str(data))
    if place == "digits":
        return place, split, _digits(), []
    found, notes = _load(place)
    if Path(place).expanduser().is_file():  # who names a file names what is in it
        split = split or next(iter(found))
    return place, split, found, notes


def _unformatted(rows: datasets.Dataset) -> datasets.Dataset:
    """Rows as they lie, whatever they are shown as (`set_format`: as tensors, some columns alone);
    a function of the user's (`set_transform`) stays."""
    shown = rows.format
    as_they_lie = shown["type"] is None and shown["columns"] == rows.column_names
    return rows if as_they_lie or shown["type"] == "custom" else rows.with_format(None)


def _split_spec(spec: str) -> tuple[str, str | None]:
    place, colon, split = spec.rpartition(":")
    if not colon or Path(spec).exists() or "/" in split or "\\" in split:
        return spec, None
    return place, split


@cache
def _digits() -> dict[str, datasets.Dataset]:
    """scikit-learn's digits: 1,797 images of 8 x 8, a fixed stratified fifth of them for test."""
    import datasets
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    pixels = np.round(data.images * (255 / 16)).astype("uint8")
    train, test = train_test_split(
        np.arange(len(pixels)), test_size=0.2, stratify=data.target, random_state=0
    )
    features = datasets.Features(
        {
            "image": datasets.Array2D((8, 8), "uint8"),
            "label": datasets.ClassLabel(names=[str(i) for i in range(10)]),
        }
    )
    return {
        split: datasets.Dataset.from_dict(
            {"image": pixels[rows], "label": data.target[rows]}, features=features
        )
        for split, rows in (("train", train), ("test", test))
    }


def _load(place: str) -> tuple[Splits, list[str]]:
    """The splits of a place, and notes. datasets raises a dozen classes of its own and of
    pyarrow's: each becomes one line."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # it says a fault twice, here once
    path = Path(place).expanduser()
    try:
        if path.is_dir():
            return load_folder(path)
        if path.is_file() or "," in place:
            return load_files(named(place)), []
        if path.is_absolute() or place.startswith((".", "~")) or path.suffix in FILE_TYPES:
            raise DataError(f"data {place}: no such file or folder.{near(path)}")
        return hub.download(place), []
    except DataError:
        raise
    except Exception as error:
        if (file := denied(error)) is not None:
            raise DataError(f"data {place}: no permission to read {file}.") from None
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        if "corresponds to no data" in reason[0]:  # how datasets says that there are no rows
            raise DataError(f"data {place} is empty.") from None
        text = isinstance(error.__cause__ or error, UnicodeDecodeError)
        raise DataError(
            f"data {place}: cannot be read ({type(error).__name__}: {reason[0][:160]})."
            + " Save it as UTF-8." * text
        ) from None


# what was read, for those who must know whether it changed


def fingerprint(data: Spec) -> str:
    """A digest of the content: of the bytes and the places of all files, or of the fingerprint
    that `datasets` gives an object or a data set of the Hub, which changes with its revision."""
    digest = hashlib.sha256(name_of(data).encode())
    for name, file in _files_of(data):
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    if isinstance(data, str | Path) and not _is_local(_split_spec(str(data))[0]):
        for split, rows in _splits_of(data)[2].items():
            digest.update(f"{split}\0{rows._fingerprint}\0".encode())
    return digest.hexdigest()


def _is_local(place: str) -> bool:
    """Whether data lies in files of this machine, or comes with a library."""
    return place == "digits" or "," in place or Path(place).expanduser().exists()


def _files_of(data: Spec) -> Iterator[tuple[str, Path]]:
    """Every file that data is read from, by its place within it; a folder is also what its README
    says."""
    if not isinstance(data, str | Path):
        return
    place = _split_spec(str(data))[0]
    root = Path(place).expanduser()
    for file in sorted(root.rglob("*")) if root.is_dir() else named(place):
        name = file.relative_to(root).as_posix() if root.is_dir() else file.name
        own = name.startswith(".") or "/." in name or file.name.startswith("cache-")  # of datasets
        if file.is_file() and not own:
            yield name, file
