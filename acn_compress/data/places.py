"""Where data lies: `digits`, a folder, parquet/csv/json files, a Hub data set (with `:split` where
it matters), or an object of `datasets`.

Which file belongs to which split `datasets` decides, by the words train, training; validation,
valid, dev, val; test, testing, eval, evaluation in the names of files and folders, or by the
configs of a README. What it would pass over or put in the wrong place is refused here.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from acn_compress.checkpoint.find import near
from acn_compress.data import hub
from acn_compress.errors import DataError

if TYPE_CHECKING:
    import datasets

    Spec: TypeAlias = str | Path | datasets.Dataset | datasets.DatasetDict
    Splits: TypeAlias = Mapping[str, datasets.Dataset]

Role = Literal["train", "eval"]  # which split a command reads when the user names none
KINDS = {"train": ("train",), "eval": ("validation", "test")}  # of splits, best first
FILE_TYPES = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".txt": "text",
}


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


def guessed(role: Role, splits: list[str]) -> str | None:
    """The split for a role: by name; a single one that is not named for the other role will do."""
    for kind in KINDS[role]:
        if (name := guessed_of(kind, splits)) is not None:
            return name
    if len(splits) == 1 and (role == "eval" or kind_of(splits[0]) is None):
        return splits[0]
    return None


def guessed_of(kind: str, splits: list[str]) -> str | None:
    """The split of a kind: that of its name, or the first that says it."""
    named = [s for s in splits if kind_of(s) == kind]
    return kind if kind in splits else next(iter(named), None)


def kind_of(name: str) -> str | None:
    """train, validation or test, by the words in a name as `datasets` knows them, in any case; None
    if there is none of them, or words of several."""
    kinds = kinds_in(name)
    return kinds.pop() if len(kinds) == 1 else None


def kinds_in(name: str) -> set[str]:
    """All kinds of split whose words are in a name."""
    from datasets.data_files import NON_WORDS_CHARS, SPLIT_KEYWORDS

    edge = f"[{re.escape(NON_WORDS_CHARS.replace('0-9', ''))}0-9]"
    return {
        str(split)
        for split, words in SPLIT_KEYWORDS.items()
        if re.search(rf"(^|{edge})({'|'.join(words)})($|{edge})", name.lower())
    }


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
            return _load_folder(path)
        if path.is_file() or "," in place:
            return _load_files(_named(place)), []
        if path.is_absolute() or place.startswith((".", "~")) or path.suffix in FILE_TYPES:
            raise DataError(f"data {place}: no such file or folder.{near(path)}")
        return hub.download(place), []
    except DataError:
        raise
    except Exception as error:
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        if "corresponds to no data" in reason[0]:  # how datasets says that there are no rows
            raise DataError(f"data {place} is empty.") from None
        text = isinstance(error.__cause__ or error, UnicodeDecodeError)
        raise DataError(
            f"data {place}: cannot be read ({type(error).__name__}: {reason[0][:160]})."
            + " Save it as UTF-8." * text
        ) from None


# files that the user named


def _load_files(files: list[Path]) -> Splits:
    import datasets

    for file in files:
        if not file.is_file():
            raise DataError(f"data {file}: no such file.")
        if file.suffix not in FILE_TYPES:
            raise DataError(
                f"data {file}: files of type '{file.suffix}' are not read. "
                f"Expected {', '.join(FILE_TYPES)}, or a folder."
            )
        if file.stat().st_size == 0:
            raise DataError(f"data {file} is empty.")
    if len(types := {file.suffix for file in files}) > 1:
        raise DataError(
            f"data: files of several types ({', '.join(sorted(types))}). Name one type."
        )
    found = datasets.load_dataset(
        reader := FILE_TYPES[files[0].suffix],
        data_files=_by_split(files),
        cache_dir=_cache(files),
        **_reading(files[0].suffix),
    )
    if reader == "csv":
        _check_fields(found, files[0])
    if files[0].suffix == ".tsv":
        _check_quotes(found, files[0])
    return dict(found)


def _named(place: str) -> list[Path]:
    """The file of a name, or several with commas between."""
    if (one := Path(place).expanduser()).exists():
        return [one]
    return [Path(part.strip()).expanduser() for part in place.split(",")]


def _check_fields(splits: Splits, place: Path) -> None:
    """Refuse csv files whose first row has more fields than the header: pandas takes the first of
    them for the name of the row, and all others move to the left.

    Raises:
        DataError: naming the columns.
    """
    for rows in splits.values():
        if any(column.startswith("__index_level_") for column in rows.column_names):
            names = [c for c in rows.column_names if not c.startswith("__index_level_")]
            raise DataError(
                f"data {place}: the first row has more fields than the header "
                f"({', '.join(names)}). Commas part the fields of csv, tabs those of tsv: put "
                "texts that hold one into double quotes."
            )


def _check_quotes(splits: Splits, place: Path) -> None:
    """Refuse tsv files with a field that holds a tab and the end of a line: a quote that opens a
    text goes on to the next one, over all rows between.

    Raises:
        DataError: naming the first such row.
    """
    import pyarrow.compute as arrow

    for rows in splits.values():
        texts = [n for n, f in rows.features.items() if "string" in str(getattr(f, "dtype", ""))]
        for column in texts:
            values = rows.data.column(column)
            tabs, ends = (arrow.match_substring(values, sign) for sign in "\t\n")
            if (row := arrow.index(arrow.and_(tabs, ends), True).as_py()) >= 0:
                raise DataError(
                    f"data {place}: a quote in row {row} of column '{column}' opens a text of "
                    "several rows. Write quotes within a text twice and around it once, or the "
                    "rows as json lines."
                )


def _by_split(files: list[Path]) -> dict[str, list[str]]:
    """Files by the splits that their names say; without such names all are one split."""
    kinds = [kind_of(file.stem) for file in files]
    if None in kinds and set(kinds) != {None}:
        without = [str(file) for file, kind in zip(files, kinds, strict=True) if kind is None]
        raise DataError(
            f"data: {', '.join(without[:3])} says no split in its name, but the other files do. "
            "Name files of one split, or with a split in every name."
        )
    found: dict[str, list[str]] = {}
    for file, kind in zip(files, kinds, strict=True):
        found.setdefault(kind or "train", []).append(str(file))
    return found


def _reading(suffix: str) -> dict[str, Any]:
    """Options of the reader of a file type; a line keeps its end, which tells that the text goes on
    in the next."""
    options: dict[str, dict[str, Any]] = {
        ".tsv": {"delimiter": "\t"},
        ".txt": {"keep_linebreaks": True},
    }
    return options.get(suffix, {})


def _cache(files: Iterable[Path]) -> str:
    """Where datasets keeps what it read of these files. By itself it takes a file of the same name
    and modification time for the same file; the time of change cannot be copied along."""
    import datasets

    digest = hashlib.sha256()
    for file in sorted(files):
        stat = file.stat()
        digest.update(f"{file}\0{stat.st_size}\0{stat.st_ctime_ns}\0{stat.st_ino}\n".encode())
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "acn_compress" / digest.hexdigest()[:16])


# folders


def _load_folder(path: Path) -> tuple[Splits, list[str]]:
    """A folder as `datasets` reads it: tables; images or clips with a folder per class or a
    metadata.csv; what `save_to_disk` wrote; a data set cloned from the Hub."""
    import datasets

    files = list(_visible(path))
    if not files:
        raise DataError(f"data {path} is empty.")
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        saved = datasets.load_from_disk(str(path))
        return (saved if isinstance(saved, dict) else {str(saved.split or "train"): saved}), []
    options = {"cache_dir": _cache(files)}
    name = str(path.resolve())  # "text" alone is a reader of datasets, not a folder of this name
    builder = datasets.load_dataset_builder(name, **options)
    if hasattr(builder.config, "keep_linebreaks"):
        builder = datasets.load_dataset_builder(name, **options, **_reading(".txt"))
    read = {str(s): [Path(f) for f in names] for s, names in builder.config.data_files.items()}
    notes = [] if _has_configs(path) else _check_splits(path.resolve(), files, read)
    if getattr(builder, "BASE_FEATURE", None) is datasets.Audio:
        builder.BASE_FEATURE = recording()
    builder.download_and_prepare()
    found = builder.as_dataset()
    if hasattr(builder.config, "delimiter"):
        _check_fields(found, path)
    folders = hasattr(builder, "BASE_FEATURE") and "label" not in builder.info.features
    return found, notes + (_not_classes(path.resolve(), read) if folders else [])


def _not_classes(root: Path, read: dict[str, list[Path]]) -> list[str]:
    """Why the folders of images or clips are no classes, where it is that some files lie deeper
    than others: `datasets` takes folders for classes only if all are equally deep."""
    parts = [_parts(root, file) for files in read.values() for file in files]
    depths = Counter(map(len, parts))
    if len(depths) < 2:
        return []
    (usual, _), *_ = depths.most_common()
    odd = next("/".join(part) for part in parts if len(part) != usual)
    return [f"folders are no classes here, as {odd} does not lie as deep as other files"]


def recording() -> type[datasets.Audio]:
    """A recording of a folder, by its path: `datasets` asks for torchcodec to write down even that,
    and for nothing to read what it wrote."""
    import datasets

    class Recording(datasets.Audio):  # type: ignore[misc]  # datasets has no types
        def encode_example(self, value: Any) -> dict[str, Any]:
            return {"bytes": None, "path": str(value)}

    return Recording


def _visible(path: Path) -> Iterator[Path]:
    """Files below a folder, but for hidden ones and those that describe the data set."""
    from datasets.data_files import FILES_TO_IGNORE

    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith((".", "__")) for part in file.relative_to(path).parts)
        if file.is_file() and not hidden and file.name not in FILES_TO_IGNORE:
            yield file


def _has_configs(path: Path) -> bool:
    """Whether the folder's own README says which file belongs where."""
    readme = path / "README.md"
    return readme.is_file() and "\nconfigs:" in readme.read_text(encoding="utf-8", errors="replace")


def _check_splits(root: Path, files: list[Path], read: dict[str, list[Path]]) -> list[str]:
    """Refuse files that would be left out or stand in another split than their names say. Returns
    notes about files of other types.

    Raises:
        DataError: naming one of them.
    """
    taken = {file.resolve() for names in read.values() for file in names}
    types = {file.suffix.lower() for file in taken}
    for split, names in read.items():
        for file in names:
            said = kinds_in("/".join(_parts(root, file)).replace("/", " "))
            if said and split not in said:
                raise DataError(
                    f"data {root}: {file.name} would be read as '{split}', but its name says "
                    f"{' and '.join(sorted(said))}. Write names of splits in lower case."
                )
    left = [file for file in files if file.resolve() not in taken]
    for file in left:
        if file.suffix.lower() in types and not file.name.startswith("metadata."):
            raise DataError(
                f"data {root}: {file.name} is in no split, but other files are "
                f"({', '.join(read)}). Put a split into its name, or take it away."
            )
    tables = [file.name for file in left if file.suffix.lower() in FILE_TYPES]
    tables = [name for name in tables if not name.endswith(".txt")]
    return [f"not read, being of another type: {', '.join(tables[:3])}"] if tables else []


def _parts(root: Path, file: Path) -> tuple[str, ...]:
    """Folders and stem of a file below the root."""
    inside = file.resolve().relative_to(root) if root in file.resolve().parents else file
    return (*inside.parts[:-1], inside.stem)


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
    for file in sorted(root.rglob("*")) if root.is_dir() else _named(place):
        name = file.relative_to(root).as_posix() if root.is_dir() else file.name
        own = name.startswith(".") or "/." in name or file.name.startswith("cache-")  # of datasets
        if file.is_file() and not own:
            yield name, file
