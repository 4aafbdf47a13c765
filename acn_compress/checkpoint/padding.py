"""The token that fills a batch up, for heads that read the last token of a text that is none: a
decoder's classifier finds the end of a text by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from acn_compress.checkpoint.source import Source


def set_padding_(config: PreTrainedConfig, source: Source | None) -> None:
    """Give the config a padding token if it has none, or one that the model does not embed (old
    conversions say -1): the tokenizer's, else the end of a text, with which no text ends."""
    wanted = (getattr(config, "pad_token_id", None), _of_tokenizer(source), _end(config))
    fitting = (t for t in wanted if isinstance(t, int) and 0 <= t < config.vocab_size)
    config.pad_token_id = next(fitting, None)


def _end(config: PreTrainedConfig) -> object:
    end = getattr(config, "eos_token_id", None)
    return end[0] if isinstance(end, list) and end else end


def _of_tokenizer(source: Source | None) -> int | None:
    """The number of the padding token, as the tokenizer's files say it without loading them."""
    if source is None or source.loose:
        return None
    pad = (source.read("tokenizer_config.json") or {}).get("pad_token")
    text = pad.get("content") if isinstance(pad, dict) else pad
    if not isinstance(text, str):
        return None
    tokenizer = source.read("tokenizer.json") or {}
    added = tokenizer.get("added_tokens") or []
    ids = {t.get("content"): t.get("id") for t in added if isinstance(t, dict)}
    vocabulary = (tokenizer.get("model") or {}).get("vocab")
    found = ids.get(text, vocabulary.get(text) if isinstance(vocabulary, dict) else None)
    return found if isinstance(found, int) else None
