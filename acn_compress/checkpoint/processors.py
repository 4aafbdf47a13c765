"""Tokenizer, image processor and the modules of a sentence encoder: files beside the weights. They
are data; code that they name is never run, and does not get into what is written."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acn_compress.checkpoint.carried import LEGACY_MODULE, NAMES, is_carried
from acn_compress.checkpoint.files import check_readable, read_json, write_json
from acn_compress.checkpoint.source import Source
from acn_compress.errors import DataError

# None of these files may name code; what transformers would ask to run goes.
CODE = "auto_map"
PREPARED = ("preprocessor_config.json", "processor_config.json")  # of images and clips


def copy_processors(source: Source | None, out: Path) -> None:
    """Copy the files that go with a model (`carried.py`), and no others."""
    if source is None or source.architecture is not None:
        return
    for name, path in carried(source):
        (out / name).parent.mkdir(exist_ok=True)
        _copy(path, out / name)


def carried(source: Source) -> Iterator[tuple[str, Path]]:
    """The files that go with a model: path within the directory, and where each lies.

    Raises:
        ModelDirError: for a link that leads out of the source.
    """
    paths = [source.directory / name for name in sorted(NAMES)]
    paths += sorted(source.directory.glob("[0-9]*_*/*"))
    for path in paths:
        name = path.relative_to(source.directory).as_posix()
        if is_carried(name) and path.is_file():
            source.check_inside(path)
            yield name, path


def content_sha256(source: Source) -> str:
    """SHA-256 of all that a source is: its weights, its config, and the files that go with it."""
    digest = hashlib.sha256(source.sha256().encode())
    for path in (source.directory / "config.json", *(path for _, path in carried(source))):
        if path.is_file():
            digest.update(f"{path.name}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _copy(path: Path, out: Path) -> None:
    if LEGACY_MODULE.fullmatch(f"{path.parent.name}/{path.name}"):
        _copy_tensors(path, out.with_name("model.safetensors"))
    elif path.suffix == ".json" and path.name.endswith("_config.json"):
        data = read_json(path) or {}
        if CODE in data:
            write_json(out, {k: v for k, v in data.items() if k != CODE})
        else:
            shutil.copyfile(path, out)
    else:
        shutil.copyfile(path, out)


def _copy_tensors(path: Path, out: Path) -> None:
    """What a pickle holds, without the pickle."""
    from safetensors.torch import save_file

    from acn_compress.checkpoint.tensors import read_pickle

    if not path.with_name(out.name).is_file():
        save_file({k: v.contiguous() for k, v in read_pickle(path).items()}, out)


def name_tokenizer_plainly(directory: Path) -> None:
    """Give the tokenizer in a directory the name that transformers 4 knows it by as well: optimum
    asks for that version, and 5 takes both."""
    data = read_json(file := directory / "tokenizer_config.json")
    if data is not None and data.get("tokenizer_class") == "TokenizersBackend":
        write_json(file, data | {"tokenizer_class": "PreTrainedTokenizerFast"})


def load_tokenizer(source: Source, **options: Any) -> Any:
    """The tokenizer beside a checkpoint, by transformers.

    Raises:
        DataError: in one line, for whatever is wrong with its files.
    """
    from transformers import AutoTokenizer

    tokenizer = _load(AutoTokenizer, source, "tokenizer", **options)
    longest = tokenizer.model_max_length
    if not (isinstance(longest, int | float) and longest >= 1):
        raise DataError(
            f"{source.name}: tokenizer_config.json says model_max_length {str(longest)[:20]}, "
            "expected a number of tokens."
        )
    return tokenizer


def load_image_processor(source: Source, **options: Any) -> Any:
    """The image processor beside a checkpoint, by transformers, on PIL images.

    Raises:
        DataError: in one line, for whatever is wrong with its file.
    """
    from transformers import AutoImageProcessor

    return _load(AutoImageProcessor, source, "image processor", backend="pil", **options)


def load_feature_extractor(source: Source, **options: Any) -> Any:
    """The feature extractor beside a checkpoint, by transformers.

    Raises:
        DataError: in one line, for whatever is wrong with its file.
    """
    from transformers import AutoFeatureExtractor

    return _load(AutoFeatureExtractor, source, "feature extractor", **options)


def has_processor(source: Source) -> bool:
    """Whether a file of an image processor or a feature extractor lies beside a checkpoint."""
    return any((source.directory / name).is_file() for name in PREPARED)


def _load(auto: Any, source: Source, what: str, **options: Any) -> Any:
    for _, path in carried(source):  # what transformers would fail at in its own words
        check_readable([path])
        if path.suffix == ".json" and path.name.endswith("_config.json"):
            read_json(path)
    try:
        return auto.from_pretrained(
            source.directory, local_files_only=True, trust_remote_code=False, **options
        )
    except Exception as error:  # tokenizers raises plain Exceptions
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise DataError(f"{source.name}: its {what} cannot be loaded ({reason}).") from None
