"""A checkpoint from the Hugging Face Hub, or from its cache."""

from __future__ import annotations

from pathlib import Path

from acn_compress.errors import ModelDirError


def download(name: str, revision: str | None) -> Path:
    from huggingface_hub import list_repo_files, snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    small = ["*.json", "*.txt", "*.model", "*.jinja", "1_Pooling/*"]
    try:
        try:
            files = list_repo_files(name, revision=revision)
            safe = {"model.safetensors", "model.safetensors.index.json"} & set(
                files
            )  # and no second copy under another name
            weights = "model*.safetensors" if safe else "pytorch_model*.bin"
            return Path(
                snapshot_download(name, revision=revision, allow_patterns=[*small, weights])
            )
        except (OfflineModeIsEnabled, OSError):
            return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelDirError(
            f"{name}: no such directory here, and as a Hugging Face Hub id it cannot be had either ({type(error).__name__}: {reason})."
        ) from None
