"""LoRA adapters of peft: read with the checkpoint that they belong to, and merged into it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acn_compress.architectures import base_type
from acn_compress.checkpoint.config import head_class
from acn_compress.checkpoint.files import read_json
from acn_compress.checkpoint.source import Source
from acn_compress.checkpoint.tensors import read_files
from acn_compress.errors import CheckpointError, MissingDependencyError, ModelDirError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
CODE = "megatron_config"  # goes with a module that peft would import
TASKS = {  # by what peft calls them
    "SEQ_CLS": "text-classification",
    "TOKEN_CLS": "token-classification",
    "QUESTION_ANS": "question-answering",
    "CAUSAL_LM": "causal-lm",
    "FEATURE_EXTRACTION": "features",
}
# the last layer of a head that was trained with the adapter: its rows are the labels
HEAD = re.compile(r"(^|\.)(classifier|score)(\.out_proj)?(\.modules_to_save)?\.weight$")


@dataclass(frozen=True)
class Adapted(Source):
    """A checkpoint with an adapter: everything but what the adapter changes is the checkpoint's.

    Args:
        adapter: directory of the adapter.
    """

    adapter: Path = Path()

    @classmethod
    def of(cls, directory: Path, name: str, find: Callable[..., Source]) -> Adapted:
        """From the directory of an adapter; `find` finds the checkpoint that it names, and nothing
        that is an adapter too.

        Raises:
            ModelDirError, CheckpointError: if there is no such checkpoint, or it is none of LoRA.
        """
        told = read_json(directory / CONFIG) or {}
        if told.get("peft_type") != "LORA":
            raise ModelDirError(
                f"{name}: {CONFIG} is of type {str(told.get('peft_type'))[:40]!r}, expected LORA. "
                "Merge it (merge_and_unload of peft, then save_pretrained)."
            )
        if told.get(CODE):
            raise ModelDirError(f"{name}: {CONFIG} asks for code of its own ({CODE}).")
        if not (directory / WEIGHTS).is_file():
            raise CheckpointError(f"{name}: has {CONFIG}, but no {WEIGHTS} (a pickle is not read).")
        base = told.get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise ModelDirError(f"{name}: {CONFIG} names no base_model_name_or_path.")
        if not Path(base).is_absolute() and (directory / base).is_dir():
            base = str(directory / base)
        try:
            under = find(base, revision=told.get("revision"))
        except (ModelDirError, CheckpointError) as error:
            raise type(error)(
                f"{name}: the model that this adapter belongs to (base_model_name_or_path of "
                f"{CONFIG}): {error}"
            ) from None
        return cls(name, under.directory, under.weights, adapter=directory)

    @property
    def files(self) -> tuple[Path, ...]:
        """Of the checkpoint, and of the adapter."""
        return (*self.weights, self.adapter / WEIGHTS, self.adapter / CONFIG)

    @property
    def config(self) -> dict[str, Any]:
        """The checkpoint's, with the head that the adapter was trained for."""
        data, told = super().config, read_json(self.adapter / CONFIG) or {}
        mapping = told.get("auto_mapping")
        head = mapping.get("base_model_class") if isinstance(mapping, dict) else None
        if (task := TASKS.get(str(told.get("task_type")))) is not None:
            head = head_class(base_type(str(data.get("model_type"))), task, self.name).__name__
        if head is not None:
            data = {**data, "architectures": [head]}
        if (labels := self._labels()) is not None:
            data |= {
                "id2label": {str(i): f"LABEL_{i}" for i in range(labels)},
                "label2id": {f"LABEL_{i}": i for i in range(labels)},
            }
        return data

    def _labels(self) -> int | None:
        """Rows of a head that the adapter brings."""
        found = read_files([self.adapter / WEIGHTS])
        rows = [len(value[:]) for key, value in found.items() if HEAD.search(key)]
        return rows[0] if rows else None

    def merged(self, model: PreTrainedModel) -> tuple[PreTrainedModel, frozenset[str]]:
        """Merge the adapter into the model that was read from the checkpoint: (model, names of the
        tensors that are the adapter's own).

        Raises:
            MissingDependencyError: without peft.
            CheckpointError: if the adapter is not one of this model, or not all of it is there.
        """
        try:
            from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
        except ImportError as error:
            raise MissingDependencyError(
                f"{self.name}: an adapter needs the peft extra ({str(error)[:120]}): "
                "pip install 'acn-compress[peft]'"
            ) from None
        tensors = {key: value[:] for key, value in read_files([self.adapter / WEIGHTS]).items()}
        try:
            how = PeftConfig.from_pretrained(str(self.adapter))
            how.inference_mode = False  # what is trained is what has to be in the file
            how.base_model_name_or_path = None  # found already, perhaps elsewhere
            wrapped = get_peft_model(model, how)
            found = set_peft_model_state_dict(wrapped, tensors)
            trained = {n for n, p in wrapped.named_parameters() if p.requires_grad}
            wrong = [*found.unexpected_keys, *sorted(trained & set(found.missing_keys))]
            whole = model if wrong else wrapped.merge_and_unload(safe_merge=True)
        except Exception as error:  # peft and torch have many for an adapter of another model
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{self.name}: the adapter does not fit {self.directory}: {reason}"
            ) from None
        if wrong:
            raise CheckpointError(
                f"{self.name}: the adapter does not fit {self.directory}: {len(wrong)} tensors of "
                f"{WEIGHTS} are missing or have no place: {', '.join(wrong[:3])}."
            )
        own = (name.removeprefix("base_model.model.") for name in tensors)
        return whole, frozenset(name for name in own if ".lora_" not in name)
