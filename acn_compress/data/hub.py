"""A data set of the Hugging Face Hub, or of the cache of `datasets` where the Hub does not answer.

The first request is made once and without the retries of `datasets`, so that a mistyped path is
answered at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from acn_compress.checkpoint.find import near
from acn_compress.checkpoint.hub import PATIENCE, failures
from acn_compress.errors import DataError

if TYPE_CHECKING:
    import datasets


def download(name: str) -> datasets.DatasetDict:
    """All splits.

    Raises:
        DataError: if neither the Hub nor the cache has it.
    """
    import datasets
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(name, timeout=PATIENCE)
    except failures() as error:
        found = _cached(name)
        if found is None:
            reason = (str(error).strip().splitlines() or ["no answer"])[0]
            raise DataError(
                f"data {name}: no such file or folder here, and as a data set of the Hugging "
                f"Face Hub it cannot be had either ({type(error).__name__}: {reason[:120]})."
                f"{near(Path(name))}"
            ) from None
        return found
    return datasets.load_dataset(name)


def _cached(name: str) -> datasets.DatasetDict | None:
    """What is in the cache; `datasets` looks nowhere else while it is told to be offline."""
    from datasets import config, load_dataset

    before, config.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE, True
    try:
        return load_dataset(name)
    except Exception:  # of a dozen classes, its own and pyarrow's
        return None
    finally:
        config.HF_HUB_OFFLINE = before
