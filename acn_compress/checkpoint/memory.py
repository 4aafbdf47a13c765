"""A transformers model in memory as a source: its tensors and config stand in for the files."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acn_compress.checkpoint import hub
from acn_compress.checkpoint.files import read_json
from acn_compress.checkpoint.source import Source
from acn_compress.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from acn_compress.checkpoint.tensors import Stored

NOWHERE = Path(os.devnull)  # no file lies below it


@dataclass(frozen=True, eq=False)
class Loaded(Source):
    """A model that the user holds; it is only read.

    Args:
        model: of transformers, or one that `acn_compress.load` returned.
    """

    model: PreTrainedModel | None = None

    @classmethod
    def of(cls, model: object) -> Loaded:
        """A source with the name and the tokenizer or processor files of where the model came from.

        Raises:
            ConfigError: if it is no transformers model.
        """
        from transformers import PreTrainedModel

        if not isinstance(model, PreTrainedModel):
            raise ConfigError(
                f"src is a {type(model).__name__}, expected a model directory, a Hub id, a weight "
                "file or a transformers model."
            )
        origin = str(getattr(model.config, "name_or_path", None) or "")
        directory = Path(origin) if Path(origin).is_dir() and origin else hub.cached(origin)
        return cls(origin or type(model).__name__, directory or NOWHERE, (), model=model)

    def tensors(self) -> Stored:
        """Copies of its tensors by name."""
        return {k: v.detach().cpu().clone() for k, v in self._held().items()}

    def _held(self) -> dict[str, Tensor]:
        assert self.model is not None
        return dict(self.model.state_dict())

    def _digest(self) -> str:
        """Over name, type, shape and bytes of every tensor."""
        import torch

        digest = hashlib.sha256()
        for name, tensor in sorted(self._held().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(
                tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
            )
        return digest.hexdigest()

    def bytes(self) -> int:
        """Bytes of its tensors, tied ones once."""
        once = {t.data_ptr(): t.numel() * t.element_size() for t in self._held().values()}
        return sum(once.values())

    def read(self, file: str) -> dict[str, Any] | None:
        """A JSON object in the directory it came from."""
        return read_json(self.directory / file)

    @property
    def config(self) -> dict[str, Any]:
        """What config.json would hold."""
        assert self.model is not None
        made = self.model.config.to_dict()
        return {**made, "architectures": [type(self.model).__name__]}
