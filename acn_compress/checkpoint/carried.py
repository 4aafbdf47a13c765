"""The closed list of files that may lie beside the weights of a model and go with it.

Anything else in a directory (code, pickles, notes, other weights) is neither fetched nor copied.
"""

from __future__ import annotations

import re

TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
)
PROCESSOR = ("preprocessor_config.json", "processor_config.json", "generation_config.json")
# of sentence-transformers: which modules follow the network, their settings and their weights
SENTENCES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
MODULE = re.compile(r"\d+_[A-Za-z]+/(config\.json|model\.safetensors|pytorch_model\.bin)")
LEGACY_MODULE = re.compile(r"\d+_[A-Za-z]+/pytorch_model\.bin")  # copied as safetensors

NAMES = frozenset((*TOKENIZER, *PROCESSOR, *SENTENCES))


def is_carried(name: str) -> bool:
    """Whether a file, by its path within a model directory, goes with the model."""
    return name in NAMES or MODULE.fullmatch(name) is not None
