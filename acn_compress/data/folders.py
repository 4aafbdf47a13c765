"""A folder of data, as `datasets` reads it. What that would pass over or put in the wrong split is
refused here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acn_compress.data.files import FILE_TYPES, cache, check_fields, check_headers, reading
from acn_compress.data.split_names import kind_of, kinds_in
from acn_compress.errors import DataError

if TYPE_CHECKING:
    import datasets

    from acn_compress.data.split_names import Splits


def load_folder(path: Path) -> tuple[Splits, list[str]]:
    """A folder as `datasets` reads it: tables; images or clips with a folder per class or a
    metadata.csv; what `save_to_disk` wrote; a data set cloned from the Hub."""
    import datasets

    files = list(_visible(path))
    if not files:
        raise DataError(f"data {path} is empty.")
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        saved = datasets.load_from_disk(str(path))
        return (saved if isinstance(saved, dict) else {str(saved.split or "train"): saved}), []
    options = {"cache_dir": cache(files)}
    name = str(path.resolve())  # "text" alone is a reader of datasets, not a folder of this name
    builder = datasets.load_dataset_builder(name, **options)
    if hasattr(builder.config, "keep_linebreaks"):
        builder = datasets.load_dataset_builder(name, **options, **reading(".txt"))
    read = {str(s): [Path(f) for f in names] for s, names in builder.config.data_files.items()}
    check_headers(file for names in read.values() for file in names)
    notes = [] if _has_configs(path) else _check_splits(path.resolve(), files, read)
    if getattr(builder, "BASE_FEATURE", None) is datasets.Audio:
        builder.BASE_FEATURE = recording()
    builder.download_and_prepare()
    found = builder.as_dataset()
    if hasattr(builder.config, "delimiter"):
        check_fields(found, path)
    folders = hasattr(builder, "BASE_FEATURE") and "label" not in builder.info.features
    return found, notes + (_not_classes(path.resolve(), read) if folders else [])


def _not_classes(root: Path, read: dict[str, list[Path]]) -> list[str]:
    """Why the folders of images or clips are no classes, where it is that some files lie deeper
    than others, or that there is one folder only: `datasets` takes folders for classes only if all
    are equally deep, and if there are two."""
    parts = [_parts(root, file) for files in read.values() for file in files]
    if any(part[-1] == "metadata" for part in parts):  # which says the classes, if anything does
        return []
    depths = Counter(map(len, parts))
    if len(depths) < 2:
        only = {folder for *_, folder in (part[:-1] for part in parts if len(part) > 1)}
        if len(only) != 1 or kind_of(name := only.pop()) is not None:
            return []
        return [
            f"folders are no classes here, as there is one only ({name}); a classifier needs two"
        ]
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
