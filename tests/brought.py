"""What people bring, made small: checkpoints with a tokenizer or a processor, and tables."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas
import torch
import transformers as hf
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.data.load import Data, load_data
from acn_compress.network.network import Network

WORDS = [f"w{i}" for i in range(30)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


def tokenizer(directory: Path, frame: bool = True, longest: int = 64, **special: Any) -> Any:
    """A tokenizer of words, one token each, as transformers saves one."""
    vocabulary = {t: i for i, t in enumerate([*SPECIAL, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if frame:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    names = {f"{n}_token": f"[{n.upper()}]" for n in ("pad", "unk", "cls", "sep", "mask")}
    kept = {k: v for k, v in (names | special).items() if v is not None}
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=longest, **kept)
    fast.save_pretrained(directory)
    return fast


def bert(
    directory: Path,
    head: str = "ForSequenceClassification",
    labels: Sequence[str] | None = None,
    longest: int = 64,
    **fields: Any,
) -> Path:
    """A BERT of random weights that tells its inputs apart."""
    torch.manual_seed(0)
    fields = {"max_position_embeddings": longest, "vocab_size": 5 + len(WORDS)} | fields
    config = hf.BertConfig(**SMALL, **fields)
    if labels is not None:
        config.id2label = dict(enumerate(labels))
        config.label2id = {name: i for i, name in enumerate(labels)}
    model = getattr(hf, f"Bert{head}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(directory)
    tokenizer(directory, longest=longest)
    return directory


def encoder(directory: Path, pooling: dict[str, Any], *rest: str) -> Path:
    """A sentence encoder with its modules, as sentence-transformers writes them."""
    bert(directory, "Model")
    (directory / "1_Pooling").mkdir()
    (directory / "1_Pooling/config.json").write_text(json.dumps(pooling))
    modules = ["Transformer", "Pooling", *rest]
    listed = [
        {
            "idx": i,
            "name": str(i),
            "path": f"{i}_{m}" if i else "",
            "type": f"sentence_transformers.models.{m}",
        }
        for i, m in enumerate(modules)
    ]
    (directory / "modules.json").write_text(json.dumps(listed))
    return directory


def dense(directory: Path, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """A dense layer behind a pooling, with tanh."""
    directory.mkdir()
    save_file({"linear.weight": weight, "linear.bias": bias}, directory / "model.safetensors")
    config: dict[str, object] = {"in_features": weight.shape[1], "out_features": weight.shape[0]}
    config |= {"bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
    (directory / "config.json").write_text(json.dumps(config))


def loaded(directory: Path, **options: Any) -> Network:
    """The network of a directory."""
    return load_source(find_source(directory), **options)


def read(spec: Any, directory: Path, role: Any = "eval", **options: Any) -> Data:
    """Data as a checkpoint reads it."""
    return load_data(spec, loaded(directory), find_source(directory), role=role, **options)


def texts(count: int, seed: int = 0, words: int = 6) -> list[str]:
    """Sentences of random words."""
    drawn = random.Random(seed)
    return [" ".join(drawn.choices(WORDS, k=drawn.randint(2, words))) for _ in range(count)]


def table(path: Path, **columns: Sequence[object]) -> str:
    """A csv, json or parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pandas.DataFrame(columns)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    return str(path)


def targets(data: Data) -> list[int]:
    """The labels of all examples, in their order."""
    return [int(data.examples[i]["labels"]) for i in range(len(data))]
