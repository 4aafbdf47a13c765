"""One network for every depth, at a length where nothing more is gained: what an ACN, a converted
checkpoint and a residual network give at each depth, beside networks made for one depth alone.

    python -m benchmarks.depths [--data digits] [--seeds 0,1,2] [--work FOLDER]

Every network is made by a command of the tool, which is in the file; one that is in the work folder
is not made again, one that was interrupted goes on. What is made for one depth alone gets the
floating-point operations of the conversion. Drops are paired by image with the residual network of
the same seed. `late` is the accuracy gained in the last fifth of a training: the mean of what was
measured in it above the mean of the fifth before. Seeds that are not asked for stay in the file as
they are. Writes depths-DATA.json and its picture.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from acn_compress.checkpoint.files import write_json
from acn_compress.checkpoint.provenance import machine
from acn_compress.data.load import Noise
from acn_compress.found import Found
from acn_compress.measure.quality import measure, paired
from acn_compress.quality import Drop
from acn_compress.reports.plots import ACCENT, INK, MUTED, canvas
from acn_compress.training.state import resumable
from benchmarks.command import RESULTS, parser, rounded, stored, write
from benchmarks.paper.entry import seeds_of
from benchmarks.paper.watch import late
from benchmarks.whole import Whole

BLOCKS = 12
VIT = {
    "model_type": "vit",
    "architectures": ["ViTForImageClassification"],
    "num_channels": 3,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
}
SMALL = {"image_size": 8, "patch_size": 2, "hidden_size": 64, "intermediate_size": 128}
LARGER = {"image_size": 32, "patch_size": 8, "hidden_size": 96, "intermediate_size": 192}
NOISE = "gaussian:0.2"
SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {"config": VIT | SMALL, "augment": "crop", "scratch": 300, "further": 240},
    "cifar10": {
        **{"config": VIT | LARGER, "augment": "flip-crop", "scratch": 30, "further": 20},
        "limit": 15000,
    },
}
"""By data: the network, how many epochs from scratch and from a trained checkpoint, and of how many
rows where not of all."""
DEPTHS = (2, 4)
"""For which networks are made alone."""
STORY = {"residual": INK, "ACN": MUTED, "converted": ACCENT, "residual, readouts": "#b7791f"}
"""Routes in the picture, and their colours; dots are those made for one depth."""


def equal(epochs: float, depth: int) -> int:
    """Epochs of a student of `depth` blocks with as many floating-point operations as a whole one
    has in `epochs`: three forwards' worth of its own and one of its teacher's."""
    return round(epochs * 4 / (1 + 3 * depth / BLOCKS))


def routes(setting: dict[str, Any]) -> dict[str, list[str]]:
    """Commands by route, {source} and {out} to be filled in."""
    fresh = ["finetune", "{config}", "{out}", "--init", "random", "--task-weight", "1"]
    long, further = str(setting["scratch"]), setting["further"]
    trained = ["finetune", "{residual}", "{out}", "--teacher", "{residual}"]
    alone = {
        f"cut to {k}": [*trained, "--depth", str(k), "--epochs", str(equal(further, k))]
        for k in DEPTHS
    }
    return {
        "residual": [*fresh, "--epochs", long],
        "converted": [
            *["convert", "{residual}", "{out}", "--layer", "plain"],
            *["--prefix-loss", "1", "--epochs", str(further)],
        ],
        "residual, readouts": [*trained, "--prefix-loss", "1", "--epochs", str(further)],
        **alone,
        "ACN": [*fresh, "--alpha", "0", "--layer", "plain", "--epochs", long],
        "converted, no readouts": [
            *["convert", "{residual}", "{out}", "--layer", "plain", "--epochs", str(further)]
        ],
    }


class Depth(Found):
    """A network cut to its first blocks."""

    depth: int
    value: float
    drop: Drop
    """From the whole residual network."""


class Row(Found):
    """A network of one seed."""

    route: str
    seed: int
    command: str
    steps: int
    seconds: float
    late: float
    noisy: float
    """Accuracy of the whole network under `NOISE`."""
    depths: list[Depth]


class Lab:
    """A setting, a seed, and the folder of its networks."""

    def __init__(self, data: str, name: str, seed: int, work: Path) -> None:
        self.data, self.seed, self.setting = data, seed, SETTINGS[name]
        self.at = work / name / str(seed)
        self.at.mkdir(parents=True, exist_ok=True)
        write_json(self.at / "vit.json", self.setting["config"])
        self.name = data
        if Path(data).is_dir():
            # A link to it beside the networks: a command reads the same wherever the folder lies.
            self.name = Path(data).name
            (self.at / self.name).unlink(missing_ok=True)
            (self.at / self.name).symlink_to(Path(data).resolve())

    def place(self, route: str) -> Path:
        """Of a network."""
        return self.at / route.replace(", ", "-").replace(" ", "-")

    def command(self, route: str) -> list[str]:
        """That makes it."""
        places = {"config": "vit.json", "residual": "residual", "out": self.place(route).name}
        given = [word.format(**places) for word in routes(self.setting)[route]]
        how = ["--data", self.name, "--augment", self.setting["augment"], "--lr", "1e-3"]
        limit = ["--limit", str(self.setting["limit"])] if "limit" in self.setting else []
        return [*given, *how, *limit, "--seed", str(self.seed)]

    def training(self, route: str) -> dict[str, Any]:
        """What its training told; it is made if it is not there."""
        out, command = self.place(route), self.command(route)
        told = out.with_suffix(".json")
        if not told.is_file():
            again = ["--resume"] if resumable(out) else ["--overwrite"]
            tool = [sys.executable, "-m", "acn_compress", *command, *again, "--json"]
            done = subprocess.run(tool, cwd=self.at, check=True, stdout=subprocess.PIPE)
            told.write_bytes(done.stdout)
        report: dict[str, Any] = json.loads(told.read_text())["training"]
        return report

    def whole(self, route: str) -> Whole:
        """A network that is made, and how it does on the test split."""
        return Whole.read(self.place(route), self.data)


def found(lab: Lab, route: str) -> Row:
    """Make a network and read it out at every depth."""
    training = lab.training(route)
    of, residual = lab.whole(route), lab.whole("residual").scores
    noisy = measure(of.net, of.test, noise=Noise.parse(NOISE)).value
    depths = list[Depth]()
    for k in range(of.net.depth, 0, -1):
        of.net.truncate_(k)
        scores = measure(of.net, of.test)
        depths.insert(0, Depth(depth=k, value=scores.value, drop=paired(scores, residual)))
    return Row(
        route=route,
        seed=lab.seed,
        command=" ".join(["acn-compress", *lab.command(route)]),
        steps=training["steps"],
        seconds=training["seconds"],
        late=late(
            [(at["step"], at["metric"]) for at in training["history"] if at["metric"] is not None]
        ),
        noisy=noisy,
        depths=depths,
    )


def picture(rows: Sequence[Row], data: str, path: Path) -> None:
    """Accuracy over depth: means over seeds, bands from the lowest seed to the highest."""
    with canvas(path, 1, (6.6, 4.4)) as (_, (axis,)):
        for route, colour in STORY.items():
            if runs := [row for row in rows if row.route == route]:
                depths = [at.depth for at in runs[0].depths]
                value = 100 * np.array([[at.value for at in row.depths] for row in runs])
                axis.fill_between(depths, value.min(0), value.max(0), color=colour, alpha=0.15)
                label = f"{route} ({seeds_of([row.seed for row in runs])})"
                axis.plot(
                    depths, value.mean(0), color=colour, marker="o", markersize=4, label=label
                )
        alone = [row for row in rows if row.route.startswith("cut to")]
        if alone:
            ends = [(row.depths[-1].depth, 100 * row.depths[-1].value) for row in alone]
            x, y = zip(*ends, strict=True)
            axis.scatter(x, y, marker="x", color=INK, zorder=3, label="made for this depth alone")
        axis.set(xlabel="blocks kept", ylabel="accuracy, %", title=f"One network, cut: {data}")
        axis.set_xticks(range(1, BLOCKS + 1))
        axis.legend(frameon=False, loc="lower right")


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("--data", default="digits", help="digits, or a folder of CIFAR-10")
    command.add_argument("--setting", choices=list(SETTINGS), default="digits")
    command.add_argument("--seeds", default="0,1,2")
    command.add_argument("--routes", help="these alone")
    command.add_argument("--work", type=Path, default=Path("runs") / "depths")
    command.add_argument("--results", type=Path, default=RESULTS)
    options = command.parse_args()
    setting, file = SETTINGS[options.setting], options.results / f"depths-{options.setting}.json"
    rows = {(row.route, row.seed): row for row in stored(file, Row)}
    for seed in map(int, options.seeds.split(",")):
        lab = Lab(options.data, options.setting, seed, options.work)
        for route in options.routes.split(";") if options.routes else routes(setting):
            rows[route, seed] = row = found(lab, route)
            ends = " ".join(f"{100 * at.value:.1f}" for at in row.depths)
            print(f"{route}, seed {seed}: {ends}; {row.seconds:.0f} s", flush=True)
            report = {
                "benchmark": "depths",
                "data": options.setting,
                **setting,
                "noise": NOISE,
                "machine": machine(),
                "rows": list(rows.values()),
            }
            write(file, rounded(report))
    picture(list(rows.values()), options.setting, file.with_suffix(".png"))


if __name__ == "__main__":
    main()
