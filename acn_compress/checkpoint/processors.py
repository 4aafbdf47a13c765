"""Tokenizer and image-processor files, which every step carries on."""

from __future__ import annotations

import shutil
from pathlib import Path

from acn_compress.checkpoint.source import Source

PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "chat_template*",
    "generation_config.json",
    "sentence_bert_config.json",
    "1_Pooling",
    "modules.json",
)


def copy_processors(source: Source | None, out: Path) -> None:
    """Copy tokenizer and image-processor files."""
    if source is None or source.architecture is not None:
        return
    for pattern in PROCESSOR_FILES:
        for path in source.directory.glob(pattern):
            if path.is_dir():
                shutil.copytree(path, out / path.name, dirs_exist_ok=True)
            elif path.suffix not in {".safetensors", ".bin"}:
                shutil.copyfile(path, out / path.name)
