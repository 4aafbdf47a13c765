"""Peak memory of the commands on a checkpoint far larger than the tests': a Llama-shaped model with
random weights in bfloat16.

    python -m benchmarks.memory                        # 1.5 billion parameters: 3 GB in a
                                                       # temporary folder, removed afterwards
    python -m benchmarks.memory --blocks 4 --folder D  # smaller, in D
    python -m benchmarks.memory --within 1.5           # where there is no more than 1.5 times the
                                                       # checkpoint's bytes: a memory cgroup of
                                                       # Linux, for root

Writes results/memory.json and prints it: the machine, the checkpoint's bytes, and for each command
its seconds, the bytes it wrote and its peak memory, also as a multiple of the checkpoint's bytes:
resident (of the process and its children, as the system counts it, file pages included) and, on
Linux, private (without the pages of files that are only mapped, which the system drops where memory
is short; looked at every 20 ms). Within a cgroup those pages count, and are dropped: where a
command ends there, that was enough.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from acn_compress.checkpoint.provenance import machine
from benchmarks.command import RESULTS, parser

HIDDEN, INNER, HEADS, KEY_HEADS, VOCABULARY = 2048, 5632, 16, 4, 32000
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KEY_HEADS,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 2048,
    "dtype": "bfloat16",
}
KEYS = HIDDEN // HEADS * KEY_HEADS
BLOCK: dict[str, tuple[int, ...]] = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KEYS, HIDDEN),
    "self_attn.v_proj": (KEYS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
    "input_layernorm": (HIDDEN,),
    "post_attention_layernorm": (HIDDEN,),
}
REST: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
    "model.norm.weight": (HIDDEN,),
    "lm_head.weight": (VOCABULARY, HIDDEN),
}
# runs one command and says what its process and children used: a process inherits the peak of what
# it was forked from, so this one imports nothing. A folder is that of a cgroup, or empty
CHILD = """
import json, re, resource, subprocess, sys, tempfile, time
group, *command = sys.argv[1:]
if group:
    open(group + "/cgroup.procs", "w").write("0")
def private(pid):
    try:
        return int(re.search("RssAnon:[^0-9]*([0-9]+)", open(f"/proc/{pid}/status").read())[1])
    except (OSError, TypeError):  # it has just ended, or this is no Linux
        return 0
with tempfile.TemporaryFile("w+") as error:
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=error, text=True)
    most = 0
    while run.poll() is None:
        most = max(most, private(run.pid))
        time.sleep(0.02)
    error.seek(0)
    said = error.read()[-2000:]
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
found = {"code": run.returncode, "peak": peak * 1024, "private": most * 1024, "error": said}
print(json.dumps(found))
"""


def write_checkpoint(folder: Path, blocks: int) -> int:
    """A sharded `save_pretrained` directory, one shard per block, made one at a time. Returns its
    bytes."""
    torch.manual_seed(0)
    shards = [
        {f"model.layers.{i}.{name}.weight": shape for name, shape in BLOCK.items()}
        for i in range(blocks)
    ]
    places: dict[str, str] = {}
    for number, shapes in enumerate([*shards, REST], 1):
        file = f"model-{number:05d}-of-{blocks + 1:05d}.safetensors"
        tensors = {name: weights(shape) for name, shape in shapes.items()}
        save_file(tensors, folder / file, {"format": "pt"})
        places |= dict.fromkeys(shapes, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": blocks}))
    return size(folder)


def weights(shape: tuple[int, ...]) -> Tensor:
    """Ones for a norm, small random numbers for a matrix."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    return torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02)


def size(folder: Path) -> int:
    """Bytes of all files in a folder; 0 if there is none."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def commands(source: Path, out: Path, depth: int) -> dict[str, list[str]]:
    """What is measured: importing alone, loading, and the commands themselves."""
    python, tool = [sys.executable, "-c"], [sys.executable, "-m", "acn_compress"]
    paths = [str(source), str(out)]
    names = "import acn_compress, torch, transformers; transformers.LlamaForCausalLM"
    pruned = [*tool, "prune", *paths, "--target-sparsity", "0.3"]
    return {
        "import": [*python, names],
        "load": [*python, f"import acn_compress; acn_compress.load({str(source)!r})"],
        "inspect": [*tool, "inspect", str(source)],
        "truncate": [*tool, "truncate", *paths, "--depth", str(depth)],
        "export safetensors": [*tool, "export", *paths, "--format", "safetensors"],
        "export onnx": [*tool, "export", *paths, "--format", "onnx"],
        "prune structured": pruned,
        "prune magnitude": [*pruned, "--method", "magnitude"],
    }


@contextmanager
def confined(limit: float | None) -> Iterator[str]:
    """The folder of a cgroup whose processes may take so many bytes together, pages of files
    included; none without a limit."""
    if limit is None:
        yield ""
        return
    old = Path("/sys/fs/cgroup/memory")  # cgroups of version 1
    root, name = (old, "memory.limit_in_bytes") if old.is_dir() else (old.parent, "memory.max")
    group = root / f"acn-{os.getpid()}"
    group.mkdir()
    try:
        (group / name).write_text(str(int(limit)))
        yield str(group)
    finally:
        group.rmdir()


def forget(folder: Path) -> None:
    """Drop the pages of all files in a folder that the system keeps: read again, they count where
    they are read."""
    for path in (p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def usage(command: list[str], checkpoint: int, within: float | None = None) -> dict[str, object]:
    """Peak bytes, resident and private, and seconds of a command in a process of its own;
    `checkpoint` are the bytes of what it reads, and `within` how many times those there are."""
    started = time.perf_counter()
    with confined(within and within * checkpoint) as group:
        child = [sys.executable, "-c", CHILD, group, *command]
        done = json.loads(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
    said = [f"exit code {done['code']}", *done["error"].strip().splitlines()]
    failed = {"failed": said[-1]} if done["code"] else {}
    return {
        **failed,
        "peak_bytes": done["peak"],
        "private_bytes": done["private"],
        "seconds": round(time.perf_counter() - started, 1),
        "of_checkpoint": round(done["peak"] / checkpoint, 3),
        "private_of_checkpoint": round(done["private"] / checkpoint, 3),
        **({} if within is None else {"within": within}),
    }


def report(
    folder: Path, blocks: int, only: list[str] | None, within: float | None
) -> dict[str, object]:
    """The commands named in `only` (None: all), measured in `folder`; each command's output is
    removed before the next."""
    source, out = folder / "source", folder / "out"
    source.mkdir()
    written = write_checkpoint(source, blocks)
    found: dict[str, dict[str, object]] = {}
    for name, command in commands(source, out, max(1, blocks // 2)).items():
        if only is None or name in only:
            if within is not None:
                forget(source)
            found[name] = usage(command, written, within) | {"written_bytes": size(out)}
            print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
            shutil.rmtree(out, ignore_errors=True)
    return {
        "machine": machine(),
        "blocks": blocks,
        "checkpoint_bytes": written,
        "commands": found,
    }


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("--blocks", type=int, default=31, help="31 make 1.5 billion parameters")
    command.add_argument("--folder", type=Path, help="for all of it; default: the system's own")
    command.add_argument("--out", type=Path, default=RESULTS / "memory.json", help="the JSON file")
    command.add_argument("--only", nargs="*", help="names of the measurements to take")
    command.add_argument("--within", type=float, help="of so many times the checkpoint's bytes")
    options = command.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = report(Path(folder), options.blocks, options.only, options.within)
        text = json.dumps(found, indent=1)
    options.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
