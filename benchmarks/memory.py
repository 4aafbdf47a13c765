"""Peak memory of the commands on a checkpoint far larger than the tests': a Llama-shaped model with
random weights in bfloat16.

    python benchmarks/memory.py                        # 1.5 billion parameters: 3 GB in a temporary
    folder, removed afterwards python benchmarks/memory.py --blocks 4 --folder D  # smaller, in D

Writes results/memory.json and prints it: the machine, the checkpoint's bytes, and for each command
its seconds, the bytes it wrote and its peak resident memory (of the process and its children, as
the system counts it, file pages included), also as a multiple of the checkpoint's bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "dtype": "bfloat16",
}
# runs one command and says what its process and children used: a process inherits the peak of what
# it was forked from, so this one imports nothing
CHILD = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
print(json.dumps({"code": done.returncode, "peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, "error": done.stderr[-2000:]}))
"""


def write_checkpoint(folder: Path, blocks: int) -> int:
    """A sharded `save_pretrained` directory, one shard per block, made one at a time. Returns its
    bytes."""
    import torch
    from safetensors.torch import save_file

    h, inner, vocabulary = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["vocab_size"]
    keys = h // CONFIG["num_attention_heads"] * CONFIG["num_key_value_heads"]
    torch.manual_seed(0)
    block = {
        "self_attn.q_proj": (h, h),
        "self_attn.k_proj": (keys, h),
        "self_attn.v_proj": (keys, h),
        "self_attn.o_proj": (h, h),
        "mlp.gate_proj": (inner, h),
        "mlp.up_proj": (inner, h),
        "mlp.down_proj": (h, inner),
        "input_layernorm": (h,),
        "post_attention_layernorm": (h,),
    }
    shards = [
        {f"model.layers.{i}.{name}.weight": shape for name, shape in block.items()}
        for i in range(blocks)
    ]
    shards.append(
        {
            "model.embed_tokens.weight": (vocabulary, h),
            "model.norm.weight": (h,),
            "lm_head.weight": (vocabulary, h),
        }
    )
    places = {}
    for number, shapes in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {
            name: torch.ones(shape, dtype=torch.bfloat16)
            if len(shape) == 1
            else torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02)
            for name, shape in shapes.items()
        }
        save_file(tensors, folder / file, {"format": "pt"})
        places |= dict.fromkeys(shapes, file)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": places})
    )
    (folder / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": blocks}))
    return size(folder)


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def measure(command: list[str]) -> dict[str, Any]:
    """Peak resident bytes and seconds of a command in a process of its own."""
    started = time.perf_counter()
    done = json.loads(
        subprocess.run(
            [sys.executable, "-c", CHILD, *command], capture_output=True, text=True, check=True
        ).stdout
    )
    seconds = round(time.perf_counter() - started, 1)
    if done["code"]:
        return {
            "failed": done["error"].strip().splitlines()[-1],
            "peak_bytes": done["peak"],
            "seconds": seconds,
        }
    return {"peak_bytes": done["peak"], "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--blocks", type=int, default=31, help="blocks of the model; 31 make 1.5 billion parameters"
    )
    parser.add_argument(
        "--folder", type=Path, help="where to put it all; default: the system's temporary folder"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent / "results" / "memory.json",
        help="the JSON file",
    )
    parser.add_argument("--only", nargs="*", help="names of the measurements to take")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, out = Path(folder) / "source", Path(folder) / "out"
        source.mkdir()
        cli = [sys.executable, "-m", "acn_compress"]
        half = str(max(1, options.blocks // 2))
        commands = {
            "import": [
                sys.executable,
                "-c",
                "import acn_compress, torch, transformers; transformers.LlamaForCausalLM",
            ],
            "load": [
                sys.executable,
                "-c",
                f"import acn_compress; acn_compress.load({str(source)!r})",
            ],
            "inspect": [*cli, "inspect", str(source)],
            "truncate": [*cli, "truncate", str(source), str(out), "--depth", half],
            "export safetensors": [
                *cli,
                "export",
                str(source),
                str(out),
                "--format",
                "safetensors",
            ],
            "export onnx": [*cli, "export", str(source), str(out), "--format", "onnx"],
            "prune structured": [*cli, "prune", str(source), str(out), "--target-sparsity", "0.3"],
            "prune magnitude": [
                *cli,
                "prune",
                str(source),
                str(out),
                "--target-sparsity",
                "0.3",
                "--method",
                "magnitude",
            ],
        }
        written = write_checkpoint(source, options.blocks)
        from acn_compress.checkpoint.directory import machine

        report: dict[str, Any] = {
            "machine": machine(),
            "blocks": options.blocks,
            "checkpoint_bytes": written,
            "commands": {},
        }
        for name, command in commands.items():
            if options.only and name not in options.only:
                continue
            found = measure(command)
            found |= {
                "of_checkpoint": round(found["peak_bytes"] / written, 3),
                "written_bytes": size(out) if out.is_dir() else 0,
            }
            report["commands"][name] = found
            print(f"{name}: {found}", file=sys.stderr, flush=True)
            shutil.rmtree(out, ignore_errors=True)
    text = json.dumps(report, indent=1)
    options.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
