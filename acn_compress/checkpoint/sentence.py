"""The modules of a sentence encoder beside its weights, as sentence-transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acn_compress.checkpoint.files import read_json
from acn_compress.errors import ModelDirError

if TYPE_CHECKING:
    from acn_compress.checkpoint.source import Source
    from acn_compress.network.sentence import Dense, SentenceHead

Step = dict[str, Any]


def read_head(source: Source) -> SentenceHead | None:
    """What follows the network, by modules.json; None if there is no such file.

    Raises:
        ModelDirError: if a file of it is not what sentence-transformers writes.
    """
    from acn_compress.network.sentence import SentenceHead, normalised

    if source.loose or not (source.directory / "modules.json").is_file():
        return None
    pools: tuple[str, ...] = ()
    after: list[Any] = []
    unknown = None
    for kind, path in _modules(source.directory):
        if kind == "Pooling":
            pools = _pools(read_json(path / "config.json") or {})
        elif kind == "Dense":
            after.append(_dense(path))
        elif kind == "Normalize":
            after.append(normalised)
        elif kind != "Transformer":
            unknown = kind
    texts = source.read("sentence_bert_config.json") or {}
    return SentenceHead(
        pools=pools or ("mean_tokens",),
        after=tuple(after),
        prompt=_prompt(source.read("config_sentence_transformers.json") or {}),
        lower=bool(texts.get("do_lower_case")),
        longest=texts.get("max_seq_length"),
        unknown=unknown,
    )


def _modules(directory: Path) -> list[tuple[str, Path]]:
    """Class and folder of every module in order."""
    try:
        listed = json.loads((directory / "modules.json").read_text(encoding="utf-8"))
        return [(str(m["type"]).rpartition(".")[2], directory / str(m["path"])) for m in listed]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise ModelDirError(
            f"{directory / 'modules.json'}: is not the list of modules that sentence-transformers "
            "writes. Mend or remove it."
        ) from None


def _pools(config: Step) -> tuple[str, ...]:
    """Names of the poolings: one flag each, or one word."""
    flags = [k.removeprefix("pooling_mode_") for k, on in config.items() if on is True]
    if flags and any(k.startswith("pooling_mode_") for k in config):
        return tuple(flags)
    words = {
        "cls": "cls_token",
        "mean": "mean_tokens",
        "max": "max_tokens",
        "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "weightedmean": "weightedmean_tokens",
        "lasttoken": "lasttoken",
    }
    named = config.get("pooling_mode")
    listed = [named] if isinstance(named, str) else list(named or ())
    return tuple(words[word] for word in listed if word in words)


def _dense(path: Path) -> Dense:
    """A dense layer and its weights."""
    from acn_compress.checkpoint.tensors import read_files
    from acn_compress.network.sentence import ACTIVATIONS, Dense

    config = read_json(path / "config.json") or {}
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise ModelDirError(
            f"{path}: the activation '{activation}' is not known. Known: {', '.join(ACTIVATIONS)}."
        )
    safe = path / "model.safetensors"
    found = read_files([safe if safe.is_file() else path / "pytorch_model.bin"])
    if "linear.weight" not in found:
        raise ModelDirError(f"{path}: holds no weights of a dense layer (linear.weight).")
    bias = found.get("linear.bias")
    return Dense(found["linear.weight"][:], None if bias is None else bias[:], activation)


def _prompt(config: Step) -> str:
    """The prompt that stands before every text by default."""
    prompts, name = config.get("prompts") or {}, config.get("default_prompt_name")
    return str(prompts.get(name, "")) if name else ""
