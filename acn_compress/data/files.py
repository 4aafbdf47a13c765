"""Tables in files that a user names: parquet, csv, tsv, json lines, text."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acn_compress.data.split_names import kind_of
from acn_compress.errors import DataError

if TYPE_CHECKING:
    from acn_compress.data.split_names import Splits

FILE_TYPES = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".txt": "text",
}


def load_files(files: list[Path]) -> Splits:
    """The splits of files of one type.

    Raises:
        DataError: naming the one that is missing, empty, of a type that is not read, or in no split
            while others are in one.
    """
    import datasets

    for file in files:
        if not file.is_file():
            raise DataError(f"data {file}: no such file.")
        if file.suffix not in FILE_TYPES:
            raise DataError(
                f"data {file}: files of type '{file.suffix}' are not read. "
                f"Expected {', '.join(FILE_TYPES)}, or a folder (packed files are read in one)."
            )
        if file.stat().st_size == 0:
            raise DataError(f"data {file} is empty.")
    if len(types := {file.suffix for file in files}) > 1:
        raise DataError(
            f"data: files of several types ({', '.join(sorted(types))}). Name one type."
        )
    check_headers(files)
    found = datasets.load_dataset(
        reader := FILE_TYPES[files[0].suffix],
        data_files=_by_split(files),
        cache_dir=cache(files),
        **reading(files[0].suffix),
    )
    if reader == "csv":
        check_fields(found, files[0])
    if files[0].suffix == ".tsv":
        _check_quotes(found, files[0])
    return dict(found)


def named(place: str) -> list[Path]:
    """The file of a name, or several with commas between."""
    if (one := Path(place).expanduser()).exists():
        return [one]
    return [Path(part.strip()).expanduser() for part in place.split(",")]


def check_headers(files: Iterable[Path]) -> None:
    """Refuse csv and tsv files in which two columns have one name: pandas calls the second label.1,
    and what it says would be passed over.

    Raises:
        DataError: naming the column.
    """
    for file in files:
        if FILE_TYPES.get(file.suffix) != "csv":
            continue
        delimiter = reading(file.suffix).get("delimiter", ",")
        with file.open(encoding="utf-8-sig", newline="") as stream:
            header = next(filter(None, csv.reader(stream, delimiter=delimiter)), [])
        twice = next((name for name in header if name and header.count(name) > 1), None)
        if twice is not None:
            raise DataError(
                f"data {file}: {header.count(twice)} columns are called '{twice}'. Which is meant "
                "is not known: give each a name of its own, or take one away."
            )


def check_fields(splits: Splits, place: Path) -> None:
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


def reading(suffix: str) -> dict[str, Any]:
    """Options of the reader of a file type; a line keeps its end, which tells that the text goes on
    in the next."""
    options: dict[str, dict[str, Any]] = {
        ".tsv": {"delimiter": "\t"},
        ".txt": {"keep_linebreaks": True},
    }
    return options.get(suffix, {})


def cache(files: Iterable[Path]) -> str:
    """Where datasets keeps what it read of these files. By itself it takes a file of the same name
    and modification time for the same file; the time of change cannot be copied along."""
    import datasets

    digest = hashlib.sha256()
    for file in sorted(files):
        stat = file.stat()
        digest.update(f"{file}\0{stat.st_size}\0{stat.st_ctime_ns}\0{stat.st_ino}\n".encode())
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "acn_compress" / digest.hexdigest()[:16])
