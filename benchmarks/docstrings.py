"""English text that every installation has, and a small decoder to train on it: the docstrings of
Python's standard library, numpy, scipy, scikit-learn and torch (PSF and BSD licences).

    python -m benchmarks.docstrings OUT

writes OUT/docstrings (train.parquet, test.parquet; a row is a docstring, every paragraph is there
once, every 32nd file is held out) and OUT/config (a Llama-shaped config.json of 10 blocks, and a
byte-level BPE tokenizer of 2,048 tokens made from the training text), and prints what the text
holds. How the network is trained on it is in benchmarks/README.md.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from platform import python_version

from acn_compress.checkpoint.files import write_json
from benchmarks.command import parser

PACKAGES = {"numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn", "torch": "torch"}
LEFT_OUT = {"site-packages", "test", "tests"}  # folders
HELD_OUT = 32  # every 32nd file, by the hash of its path
VOCABULARY, END = 2048, "<|endoftext|>"
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": VOCABULARY,
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 10,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


def roots() -> dict[str, Path]:
    """Where the sources lie, by name."""
    found: dict[str, Path] = {"python": Path(sysconfig.get_path("stdlib"))}
    return found | {name: Path(str(files(name))) for name in PACKAGES}


def docstrings(source: bytes) -> Iterator[str]:
    """Of a module, its classes and functions; none of a file that does not parse."""
    documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            yield text


def texts(root: Path, seen: set[str]) -> Iterator[tuple[str, list[str]]]:
    """(path, its docstrings) of every file; paragraphs that were seen before are left out."""
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if not LEFT_OUT & set(inside.parts):
            new = [unseen(text, seen) for text in docstrings(path.read_bytes())]
            yield inside.as_posix(), [text for text in new if text]


def unseen(text: str, seen: set[str]) -> str:
    """The paragraphs that were not seen before; now they are."""
    new = [p for p in dict.fromkeys(text.split("\n\n")) if p.strip() and p not in seen]
    seen.update(new)
    return "\n\n".join(new)


def split() -> dict[str, list[str]]:
    """All texts, by "train" and "test"."""
    found: dict[str, list[str]] = {"train": [], "test": []}
    seen: set[str] = set()
    for name, root in roots().items():
        for path, own in texts(root, seen):
            number = int(hashlib.sha256(f"{name}/{path}".encode()).hexdigest(), 16)
            found["train" if number % HELD_OUT else "test"] += own
    return found


def write_tokenizer(training: list[str], out: Path) -> None:
    """A byte-level BPE, as GPT-2 has it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=END,
        model_max_length=CONFIG["max_position_embeddings"],
    ).save_pretrained(out)


def main() -> None:
    """The command."""
    from datasets import Dataset

    command = parser(__doc__)
    command.add_argument("out", type=Path, help="folder to write")
    out = command.parse_args().out
    found = split()
    for folder in ("docstrings", "config"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for name, rows in found.items():
        Dataset.from_dict({"text": rows}).to_parquet(out / "docstrings" / f"{name}.parquet")
        print(f"{name}: {len(rows):,} docstrings, {sum(map(len, rows)):,} characters")
    versions = {"python": python_version()} | {p: version(p) for p in PACKAGES.values()}
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    write_json(out / "config" / "config.json", CONFIG)
    write_tokenizer(found["train"], out / "config")


if __name__ == "__main__":
    main()
