"""A checkpoint from the Hugging Face Hub, or from its cache where the Hub cannot be reached.

The first request is made once and without the library's retries, so that a mistyped SRC is answered
at once; the cache is used whenever that request does not succeed.
"""

from __future__ import annotations

from pathlib import Path

from acn_compress.checkpoint import adapter
from acn_compress.checkpoint.carried import is_carried
from acn_compress.checkpoint.licence import CARD
from acn_compress.errors import ModelDirError

PATIENCE = 5.0  # seconds for the first request
SAFE = ("model.safetensors", "model.safetensors.index.json")
LEGACY = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def download(name: str, revision: str | None = None, hint: str = "") -> Path:
    """The directory of a Hub id with the files that this package reads; no others are fetched.

    Args:
        name: of the repository.
        revision: branch, tag or commit.
        hint: what the user may have meant, the last sentence of an error.
    Raises:
        ModelDirError: if the Hub does not have it, or neither the Hub nor the cache can be asked.
    """
    from huggingface_hub import snapshot_download

    try:
        files = _wanted(name, revision)
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except failures() as error:
        if (directory := cached(name, revision)) is not None:
            return directory
        reason = (str(error).strip().splitlines() or ["no answer"])[0]
        raise ModelDirError(
            f"{name}: no such directory here, and as a Hugging Face Hub id it cannot be had either "
            f"({type(error).__name__}: {reason}).{hint}"
        ) from None


def failures() -> tuple[type[Exception], ...]:
    """What a request to the Hub may raise."""
    from huggingface_hub import errors

    # the client of the library is no OSError, and is called differently from version to version
    return OSError, ValueError, getattr(errors, "HTTPError", OSError)


def cached(name: str, revision: str | None = None) -> Path | None:
    """The directory of a Hub id in the cache, without a request; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for config in ("config.json", adapter.CONFIG):
        try:
            found = try_to_load_from_cache(name, config, revision=revision)
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None


def cached_names() -> list[str]:
    """The Hub ids in the cache."""
    from huggingface_hub import constants

    folders = Path(constants.HF_HUB_CACHE).glob("models--*")
    return [folder.name.removeprefix("models--").replace("--", "/") for folder in folders]


def _wanted(name: str, revision: str | None) -> list[str]:
    """The files to fetch: what a model directory may hold, and one copy of the weights."""
    from huggingface_hub import HfApi

    siblings = HfApi().model_info(name, revision=revision, timeout=PATIENCE).siblings or []
    files = [file.rfilename for file in siblings]
    if "config.json" not in files:
        return [adapter.CONFIG, adapter.WEIGHTS, CARD]
    single, index = SAFE if set(SAFE) & set(files) else LEGACY
    stem, end = single.split(".")
    weights = [f for f in files if "/" not in f and f.startswith(stem) and f.endswith(f".{end}")]
    return ["config.json", CARD, index, *weights, *filter(is_carried, files)]
