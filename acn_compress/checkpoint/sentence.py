"""The modules of a sentence encoder beside its weights, as sentence-transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acn_compress.errors import ModelDirError

if TYPE_CHECKING:
    from acn_compress.checkpoint.directory import Source
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
            pools = _pools(_object(path / "config.json"))
        elif kind == "Dense":
            after.append(_dense(path))
        elif kind == "Normalize":
            after.append(normalised)
        elif kind != "Transformer":
            unknown = kind
    texts = _object(source.directory / "sentence_bert_config.json")
    return SentenceHead(
        pools=pools or ("mean_tokens",),
        after=tuple(after),
        prompt=_prompt(_object(source.directory / "config_sentence_transformers.json")),
        lower=bool(texts.get("do_lower_case")),
        longest=texts.get("max_seq_length"),
        unknown=unknown,
    )


def _modules(directory: Path) -> list[tuple[str, Path]]:
    """Class and folder of every module in order."""
    listed = _json(directory / "modules.json")
    try:
        return [(str(m["type"]).rpartition(".")[2], directory / str(m["path"])) for m in listed]
    except (TypeError, KeyError):
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
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from acn_compress.network.sentence import ACTIVATIONS, Dense

    config = _object(path / "config.json")
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise ModelDirError(
            f"{path}: the activation '{activation}' is not known. Known: {', '.join(ACTIVATIONS)}."
        )
    try:
        if (path / "model.safetensors").is_file():
            tensors = load_file(path / "model.safetensors")
        else:
            tensors = _plain_tensors(path / "pytorch_model.bin")
        return Dense(tensors["linear.weight"], tensors.get("linear.bias"), activation)
    except (OSError, SafetensorError, KeyError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelDirError(f"{path}: no weights of a dense layer ({reason[:120]}).") from None


def _plain_tensors(path: Path) -> dict[str, Any]:
    import pickle

    import torch

    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise KeyError(str(error).splitlines()[0]) from None
    return found


def _prompt(config: Step) -> str:
    """The prompt that stands before every text by default."""
    prompts, name = config.get("prompts") or {}, config.get("default_prompt_name")
    return str(prompts.get(name, "")) if name else ""


def _object(path: Path) -> Step:
    """A JSON object; empty if there is no such file."""
    data = _json(path) if path.is_file() else {}
    if not isinstance(data, dict):
        raise ModelDirError(f"{path}: found a JSON {type(data).__name__}, expected an object.")
    return data


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelDirError(f"{path}: cannot be read as JSON ({str(error)[:120]}).") from None
