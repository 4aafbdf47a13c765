"""The modules of a sentence encoder beside its weights, as sentence-transformers writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acn_compress.checkpoint.files import read_json, read_list
from acn_compress.errors import ModelDirError

if TYPE_CHECKING:
    from acn_compress.checkpoint.source import Source
    from acn_compress.network.sentence import Dense, SentenceHead

Step = dict[str, Any]
PARTS = ("config.json", "model.safetensors", "pytorch_model.bin")  # of a module


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
    prompt = _prompt(source.directory / "config_sentence_transformers.json")
    for kind, path in _modules(source):
        if kind == "Pooling":
            config = read_json(path / "config.json") or {}
            pools = _pools(config)
            if prompt and config.get("include_prompt") is False:
                unknown = "Pooling that leaves out the prompt"
        elif kind == "Dense":
            after.append(_dense(path))
        elif kind == "Normalize":
            after.append(normalised)
        elif kind != "Transformer":
            unknown = kind
    texts = read_json(source.directory / "sentence_bert_config.json") or {}
    longest = texts.get("max_seq_length")
    return SentenceHead(
        pools=pools or ("mean_tokens",),
        after=tuple(after),
        prompt=prompt,
        lower=bool(texts.get("do_lower_case")),
        longest=longest if isinstance(longest, int) and longest > 0 else None,
        unknown=unknown,
    )


def _modules(source: Source) -> Iterator[tuple[str, Path]]:
    """Class and folder of every module in order; a folder lies in the model directory itself."""
    file = source.directory / "modules.json"
    source.check_inside(file)
    for module in read_list(file):
        kind, name = (module.get("type"), module.get("path")) if isinstance(module, dict) else "??"
        if not isinstance(kind, str) or not isinstance(name, str) or Path(name).name != name:
            raise ModelDirError(
                f"{file}: is not the list of modules that sentence-transformers writes. Mend or "
                "remove it."
            )
        for part in PARTS:
            source.check_inside(source.directory / name / part)
        yield kind.rpartition(".")[2], source.directory / name


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
    listed = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    return tuple(words[word] for word in map(str, listed) if word in words)


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
    file = next((path / name for name in PARTS[1:] if (path / name).is_file()), path / PARTS[1])
    tensors = read_files([file])
    if "linear.weight" not in tensors:
        raise ModelDirError(f"{file}: no weights of a dense layer (linear.weight).")
    bias = tensors.get("linear.bias")
    return Dense(tensors["linear.weight"][:], None if bias is None else bias[:], activation)


def _prompt(file: Path) -> str:
    """The prompt that stands before every text by default."""
    config = read_json(file) or {}
    prompts, name = config.get("prompts") or {}, config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not isinstance(name, str | None):
        raise ModelDirError(
            f"{file}: prompts must be texts by name, and default_prompt_name one of the names."
        )
    return str(prompts.get(name, "")) if name else ""
