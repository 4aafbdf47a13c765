"""Whether two processes of one launch end where one does with the same batches.

    python -m benchmarks.processes [--out benchmarks/results/processes.json]

Every command that trains or measures, on tiny networks of the kinds that differ: images with crops,
texts of different lengths with masked tokens, a causal language model. Nothing has dropout, which
every process draws for itself. Of each result the largest difference of its answers to fixed random
inputs, and of the losses that were logged; weights may differ where they move no answer (a key's
bias, of whose rounded gradient AdamW makes steps). The processes run on the CPU, through gloo.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import acn_compress as acn
from acn_compress import processes
from acn_compress.checkpoint.files import write_json
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import machine
from acn_compress.checkpoint.scratch import scratch
from benchmarks.command import RESULTS, parser, write

TEXT = Path(__file__).parent.parent / "docs" / "method.md"  # lines of many lengths
SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
VIT = {"model_type": "vit", "architectures": ["ViTForImageClassification"], **SHAPE}
VIT |= {"intermediate_size": 64, "image_size": 8, "patch_size": 2, "num_channels": 3}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BERT = {"model_type": "bert", "architectures": ["BertForMaskedLM"], **SHAPE, **NO_DROPOUT}
BERT |= {"intermediate_size": 64, "max_position_embeddings": 64}
GPT = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 32, "n_layer": 3}
GPT |= {"n_head": 4, "n_positions": 64, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[EOS]")
TRAINED: dict[str, Any] = {"epochs": 1, "batch_size": 16, "limit": 320, "eval_limit": 100}
IMAGES = {**TRAINED, "data": "digits"}

Case = Callable[[Path, Path], object]
"""(the source models, where to write)"""


def _convert(kind: str, **how: Any) -> Case:
    def convert(at: Path, out: Path) -> object:
        data = "digits" if kind == "vit" else str(at / "text.txt")
        return acn.convert(at / kind, out, data, progress=None, **TRAINED, **how)

    return convert


def _prune(**how: Any) -> Case:
    return lambda at, out: acn.prune(at / "vit", out, progress=None, **IMAGES, **how)


def _finetune(at: Path, out: Path) -> object:
    how = {**IMAGES, "label_smoothing": 0.1, "accumulate": 2, "teacher": str(at / "vit")}
    return acn.finetune(at / "vit", out, progress=None, depth=2, refit=True, **how)


def _compare(at: Path, out: Path) -> object:
    how = {**IMAGES, "depths": (2,), "routes": ("drop-last", "acn-cut-first"), "out": str(out)}
    return acn.compare(at / "vit", progress=None, **how)


def _compress(at: Path, out: Path) -> object:
    how = {**IMAGES, "target_params": 0.6, "backend": "torch"}
    return acn.compress(at / "vit", out, progress=None, **how)


def _run(at: Path, out: Path) -> object:
    steps: list[dict[str, Any]] = [{"convert": {"epochs": 1}}, {"truncate": {"depth": 2}}]
    steps += [{"prune": {"target_sparsity": 0.3, "epochs": 0.5}}]
    training = {"batch_size": 16}
    given: dict[str, Any] = {
        "source": str(at / "vit"),
        "data": "digits",
        "training": training,
        "limit": 320,
    }
    return acn.run(
        acn.Recipe.model_validate({**given, "steps": steps}), out=str(out), progress=None
    )


ALL = {"prefix_loss": 1.0, "hidden_weight": 1.0, "pull": 0.1}
CASES: dict[str, Case] = {
    "convert, crops": _convert("vit", augment="flip-crop", **ALL),
    "convert, masked-lm": _convert("bert", **ALL),
    "convert, causal-lm": _convert("gpt2", max_length=48, **ALL),
    "finetune after a cut and a refit": _finetune,
    "prune and train back": _prune(target_sparsity=0.4),
    "prune by movement": _prune(target_sparsity=0.4, method="movement"),
    "compare": _compare,
    "compress and train back": _compress,
    "run": _run,
}
WHERE = {"run": "3-prune"}  # in what a case writes, the model


def make(at: Path) -> None:
    """The source models: random texts' ones, and a ViT that is trained a little."""
    text = at / "text.txt"
    text.write_text(TEXT.read_text(encoding="utf-8"), encoding="utf-8")
    for name, shape in (("vit", VIT), ("bert", BERT), ("gpt2", GPT)):
        config: dict[str, Any] = dict(shape)
        place = at / f"{name}-config"
        place.mkdir(parents=True)
        if name != "vit":
            config["vocab_size"] = tokenizer(place)
        write_json(place / "config.json", config)
        how: dict[str, Any] = {**TRAINED, "epochs": 4 if name == "vit" else 1, "init": "random"}
        data = "digits" if name == "vit" else str(text)
        if name == "gpt2":
            how["max_length"] = 48
        acn.finetune(place, at / name, data, progress=None, task_weight=1.0, **how)


def tokenizer(place: Path) -> int:
    """A tokenizer of the words of the text. Returns the size of its vocabulary."""
    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(vocab_size=500, special_tokens=list(TOKENS))
    words.train([str(TEXT)], trainer)
    named = dict(zip(("pad", "unk", "cls", "sep", "mask", "eos"), TOKENS, strict=True))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=words, **{f"{name}_token": token for name, token in named.items()}
    )
    fast.save_pretrained(place)
    return int(words.get_vocab_size())


def do(at: Path, where: str) -> None:
    """All cases, in this process or in all of a launch."""
    torch.set_num_threads(1)
    for number, case in enumerate(CASES.values()):
        case(at, at / where / str(number))


def difference(one: Path, two: Path, name: str) -> dict[str, float]:
    """Of what two runs of a case left."""
    if name == "compare":
        return {"scores": _apart_in_scores(one, two)}
    one, two = (path / WHERE.get(name, "") for path in (one, two))
    nets = [load_source(find_source(path)) for path in (one, two)]
    with torch.inference_mode():
        a, b = (net.answer(**net.example_inputs(batch=64, length=24)) for net in nets)
    losses = [_losses(path) for path in (one, two)]
    return {
        "answers": float((a - b).abs().max()),
        "losses": max((abs(x - y) for x, y in zip(*losses, strict=True)), default=0.0),
    }


def _losses(path: Path) -> list[float]:
    training = json.loads((path / "report.json").read_text()).get("training") or {}
    return [entry["loss"] for entry in training.get("history", [])]


def _apart_in_scores(one: Path, two: Path) -> float:
    rows = [json.loads((path / "compare.json").read_text())["runs"] for path in (one, two)]
    return max(abs(float(a["clean"]) - float(b["clean"])) for a, b in zip(*rows, strict=True))


def report() -> dict[str, object]:
    """All cases, done in one process and in two."""
    with scratch() as at:
        make(at)
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        launch += ["--nproc_per_node", "2", "-m", "benchmarks.processes", "--do", str(at)]
        subprocess.run(launch, check=True)
        do(at, "1")
        found = {
            name: difference(at / "1" / str(number), at / "2" / str(number), name)
            for number, name in enumerate(CASES)
        }
    return {
        "benchmark": "processes",
        "machine": machine(),
        "goal": 1e-5,
        "largest_difference_of_two_processes_from_one": found,
    }


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("--out", type=Path, default=RESULTS / "processes.json")
    command.add_argument("--do", type=Path, help=argparse.SUPPRESS)
    options = command.parse_args()
    if options.do:
        do(options.do, str(processes.world()))
        return
    found = report()
    write(options.out, found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
