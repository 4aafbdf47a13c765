"""Single choices of a conversion, each beside "drop the last blocks and fine-tune" at the same
training budget.

    python benchmarks/trials.py vit  --source VIT  --data CIFAR10            # a ViT with 12 blocks
    python benchmarks/trials.py bert --source BERT --data SST2               # an encoder with 6
    layers python benchmarks/trials.py bert --source BERT --data SST2 --only pull-0.1 --seeds 3

docs/method.md says what came out. VIT and BERT are the trained networks of benchmarks/README.md.
Every trial has the floating-point operations of so many epochs of the whole network with its
teacher, as in `compare`, and its gain is paired with the `drop-last` of its depth and seed. Writes
trials-NAME.json; what is finished in --work is reused. To try an idea, add a line to TRIALS.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from paper.entry import rounded

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.compression import refit
from acn_compress.compression.start import Keep, cut_
from acn_compress.data.load import Noise
from acn_compress.form import LayerKind
from acn_compress.measure.budget import equal_epochs
from acn_compress.measure.quality import interval, measure
from acn_compress.training.fit import Recipe, Walk, fit
from acn_compress.training.job import Job

STEP_DOWN = 0.02  # of a cautious walk, at every hundredth of the run


@dataclass(frozen=True)
class Trial:
    """One way to a smaller network.

    Args:
        depth: blocks that are trained.
        end: alpha at the end of the walk; None stays residual.
        share: of the run that the walk takes.
        layer: what one layer is.
        pull: let alpha be trained under this pull instead.
        cautious: walk on only while the training loss does not rise.
        keep: which ones, as in `convert --keep`.
        refit: before training, as in `convert --refit`; "read" refits what is read out at a depth
            instead, as `truncate --refit` does.
        norm: of the sum of a post-norm encoder: "scale" divides by 1 + sum (1 - alpha), "last"
            takes the last block's own norm.
        read: depths that are measured; none is `depth` alone.
        budget: times the budget of the others.
        recipe: what differs from the budget's recipe.
    """

    depth: int
    end: float | None = None
    share: float = 0.5
    layer: LayerKind = "block"
    pull: float = 0.0
    cautious: bool = False
    keep: Keep = "first"
    refit: bool | str = False
    norm: str | None = None
    read: tuple[int, ...] = ()
    budget: float = 1.0
    recipe: dict[str, Any] = field(default_factory=dict)


MATCHED = {"hidden_weight": 1.0}
RANDOM, CHOSEN = {"prefix_loss": 1.0}, {"prefix_loss": 1.0, "prefix_depths": (3, 4, 6)}
READ = (3, 4, 6, 12)
TRIALS: dict[str, dict[str, Trial]] = {
    "vit": {
        "drop-last": Trial(3),
        "drop-last-4": Trial(4),
        "drop-last-6": Trial(6),
        # which blocks to start from
        "evenly-spaced": Trial(3, keep="even"),
        "best": Trial(3, keep="best"),
        "best-0.5": Trial(3, 0.5, keep="best"),
        # refitted first, with as much training and with a third of it
        "drop-last-refit": Trial(3, refit=True),
        "best-refit": Trial(3, keep="best", refit=True),
        "best-refit-0.5": Trial(3, 0.5, keep="best", refit=True),
        "drop-last-third": Trial(3, budget=1 / 3),
        "best-refit-third": Trial(3, keep="best", refit=True, budget=1 / 3),
        "best-refit-0.5-third": Trial(3, 0.5, keep="best", refit=True, budget=1 / 3),
        # how far alpha walks, how, and what one layer is
        "alpha-0": Trial(3, 0.0),
        "alpha-0.5": Trial(3, 0.5),
        "best-0": Trial(3, 0.0, keep="best"),
        "branch-0.5": Trial(3, 0.5, layer="branch"),
        "pull-0.1-at-6": Trial(6, pull=0.1),
        "walk-0.9": Trial(3, 0.5, share=0.9),
        # the teacher's hidden states
        "drop-last-matched": Trial(3, recipe=MATCHED),
        "best-0.5-matched": Trial(3, 0.5, keep="best", recipe=MATCHED),
        # the learning rate
        "drop-last-lr-5e-4": Trial(3, recipe={"lr": 5e-4}),
        "drop-last-lr-2e-3": Trial(3, recipe={"lr": 2e-3}),
        "best-0.5-lr-2e-3": Trial(3, 0.5, keep="best", recipe={"lr": 2e-3}),
        # more of everything
        "drop-last-longer": Trial(3, budget=3.0),
        "best-0.5-longer": Trial(3, 0.5, keep="best", budget=3.0),
        "best-0-longer": Trial(3, 0.0, keep="best", budget=3.0),
        # one run for every depth
        "one-residual-random": Trial(12, read=READ, recipe=RANDOM),
        "one-residual-chosen": Trial(12, read=READ, recipe=CHOSEN),
        "one-0.5-chosen": Trial(12, 0.5, read=READ, recipe=CHOSEN),
        "one-0.5-chosen-refit": Trial(12, 0.5, read=READ, recipe=CHOSEN, refit="read"),
        "one-residual-chosen-refit": Trial(12, read=READ, recipe=CHOSEN, refit="read"),
        "one-0.5-longer-refit": Trial(
            12, 0.5, read=READ, recipe=CHOSEN | {"prefix_loss": 3.0}, budget=3.0, refit="read"
        ),
        "one-0.5-longer": Trial(12, 0.5, read=READ, recipe=CHOSEN, budget=3.0),
        "one-0.5-longer-weighted": Trial(
            12, 0.5, read=READ, recipe=CHOSEN | {"prefix_loss": 3.0}, budget=3.0
        ),
        "one-0.25-chosen": Trial(12, 0.25, read=READ, recipe=CHOSEN),
        "one-0-chosen": Trial(12, 0.0, read=READ, recipe=CHOSEN),
    },
    "bert": {
        "drop-last": Trial(3),
        "evenly-spaced": Trial(3, keep="even"),
        "best": Trial(3, keep="best"),
        "even-refit": Trial(3, keep="even", refit=True),
        "even-refit-0.5": Trial(3, 0.5, keep="even", refit=True),
        "drop-last-half": Trial(3, budget=0.5),
        "even-refit-half": Trial(3, keep="even", refit=True, budget=0.5),
        "alpha-0": Trial(3, 0.0),
        "alpha-0.25": Trial(3, 0.25),
        "alpha-0.5": Trial(3, 0.5),
        "pull-0.1": Trial(3, pull=0.1),
        "cautious": Trial(3, cautious=True),
        "drop-last-matched": Trial(3, recipe=MATCHED),
        "alpha-0.5-matched": Trial(3, 0.5, recipe=MATCHED),
        "alpha-0-matched": Trial(3, 0.0, recipe=MATCHED),
        "alpha-0-scaled": Trial(3, 0.0, norm="scale"),
        "alpha-0-normed": Trial(3, 0.0, norm="last"),
        "alpha-0.5-scaled": Trial(3, 0.5, norm="scale"),
    },
}
BUDGETS = {
    "vit": Job("", Recipe(epochs=3.0, batch_size=128, lr=1e-3), limit=15_000, augment="flip-crop"),
    "bert": Job("", Recipe(epochs=2.0, batch_size=32, lr=2e-4), limit=1_600),
}
BASELINES = {3: "drop-last", 4: "drop-last-4", 6: "drop-last-6"}


class Bench:
    """The network, the data and the budget of all trials of one run."""

    def __init__(self, name: str, source: Path, data: str, work: Path, device: str) -> None:
        self.source, self.device, self.work = modeldir.find_source(source), device, work
        self.teacher = checkpoint.load_source(self.source, device=device)
        self.job = replace(BUDGETS[name], data=data, eval_data=f"{data}:test")
        self.train = self.job.train_split(self.teacher, self.source)
        self.test = self.job.eval_split(self.teacher, self.source)
        self.noise = Noise.parse("gaussian:0.2") if name == "vit" else None
        work.mkdir(parents=True, exist_ok=True)

    def scores(self, name: str, trial: Trial, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the trial gave, and the scores of every test example, by "DEPTH-clean" and
        "DEPTH-noisy"; kept in `work`."""
        asked = json.dumps(
            [asdict(trial), asdict(self.job), seed, self.source.sha256()],
            default=str,
            sort_keys=True,
        )
        mark = hashlib.sha256(asked.encode()).hexdigest()[:12]
        path = self.work / f"{name}-seed{seed}-{mark}.json"
        arrays = path.with_suffix(".npz")
        if (row := modeldir.read_json(path)) is None:
            row, found = self.run(trial, seed)
            np.savez_compressed(arrays, **found)
            modeldir.write_json(path, row)
        return row, dict(np.load(arrays))

    def run(self, trial: Trial, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Train and measure."""
        started = time.perf_counter()
        net = checkpoint.load_source(self.source, device=self.device, verify=False)
        recipe = replace(self.job.recipe, seed=seed, **trial.recipe)
        budget = trial.budget * recipe.epochs
        job = replace(
            self.job,
            recipe=replace(recipe, epochs=equal_epochs(self.teacher, budget, depth=trial.depth)),
        )
        spent = cut_(
            net, trial.depth, trial.keep, job, self.source, refitted=trial.refit is True
        ) / len(self.train)
        recipe = replace(
            recipe,
            epochs=equal_epochs(
                self.teacher, budget, depth=trial.depth, prefixes=recipe.prefixes, spent=spent
            ),
        )
        kept = list(net.structure.blocks)
        if trial.norm:
            norm_sum_(net, trial.norm)
        done = fit(
            net,
            self.train,
            recipe,
            walk=walk_of(trial),
            teacher=self.teacher,
            progress=caution(net) if trial.cautious else None,
        )
        seconds = time.perf_counter() - started
        alpha = net.current_alphas()
        last = [entry["loss"] for entry in done.history[-10:]]
        row: dict[str, Any] = {
            "epochs": recipe.epochs,
            "seconds": seconds,
            "blocks": kept,
            "alpha": alpha,
            "training_loss": float(np.mean(last)),
            "at": {},
        }
        found: dict[str, Any] = {}
        for depth in trial.read or (trial.depth,):
            cut = net.twin()
            if depth < trial.depth:
                cut.truncate_(depth)
            if trial.refit == "read":
                few = replace(self.job, limit=min(refit.EXAMPLES, len(self.train)), augment=None)
                refit.refit_(cut, net, few.train_split(self.teacher, self.source))
            row["at"][str(depth)] = {}
            for kind, noise in (("clean", None), ("noisy", self.noise)):
                if kind == "clean" or noise is not None:
                    scores = measure(cut, self.test, noise=noise)
                    row["at"][str(depth)][kind] = scores.value
                    found[f"{depth}-{kind}"] = scores.score
        return row, found


def walk_of(trial: Trial) -> Walk | None:
    """The walk of alpha, from 1."""
    if trial.end is None and not trial.pull:
        return None
    layers = trial.depth * (2 if trial.layer == "branch" else 1)
    end = 1.0 if trial.end is None else trial.end
    return Walk((1.0,) * layers, (end,) * layers, trial.share, trial.layer, pull=trial.pull)


def caution(net: Any) -> Callable[[dict[str, Any]], None]:
    """Lowers alpha a little whenever the mean loss of late is not above the mean of longer ago."""
    losses: list[float] = []
    alpha = [1.0]

    def step(state: dict[str, Any]) -> None:
        losses.append(state["loss"])
        if len(losses) < 10 or np.mean(losses[-3:]) <= np.mean(losses[-10:]):
            alpha[0] = max(0.0, alpha[0] - STEP_DOWN)
            blocks = len(net.blocks)
            net.set_structure_(net.structure.with_alpha((alpha[0],) * blocks))

    return step


def norm_sum_(net: Any, norm: str) -> None:
    """Let what reads the sum of a BERT encoder see it through a norm, in place."""
    encoder = net.model.base_model.encoder

    def read(module: Any, inputs: Any, output: Any) -> Any:
        y = output.last_hidden_state
        blocks = net.blocks
        if norm == "last":
            output.last_hidden_state = blocks[-1].output.LayerNorm(y)
        else:
            output.last_hidden_state = y / (1 + sum(1 - a for a in net.current_alphas()))
        return output

    encoder.register_forward_hook(read)


def gains(
    bench: Bench, rows: dict[tuple[str, int], Any], name: str, seeds: range
) -> dict[str, Any]:
    """Per depth that was read: the mean over seeds, and how far it is above drop-last, paired over
    test images or sentences."""
    found: dict[str, Any] = {}
    for key in rows[name, seeds[0]][1]:
        depth, kind = key.split("-")
        mine = np.mean([rows[name, s][1][key] for s in seeds], axis=0)
        cell = found.setdefault(depth, {})
        cell[kind] = float(mine.mean())
        base = BASELINES.get(int(depth))
        if base in (None, name) or any((base, s) not in rows for s in seeds):
            continue
        difference = mine - np.mean([rows[base, s][1][key] for s in seeds], axis=0)
        low, high = interval(difference, np.ones_like(difference))
        cell |= {
            f"{kind}_gain": float(difference.mean()),
            f"{kind}_gain_low": low,
            f"{kind}_gain_high": high,
        }
    return found


def table(report: dict[str, Any]) -> str:
    """As text, in points."""
    lines = []
    for name, trial in report["trials"].items():
        for depth, cell in trial["at"].items():
            line = f"{name:22} depth {depth:>2}"
            for kind in ("clean", "noisy"):
                if kind in cell:
                    line += f"  {kind} {100 * cell[kind]:5.1f}"
                if f"{kind}_gain" in cell:
                    gain, low, high = (
                        100 * cell[f"{kind}_gain{end}"] for end in ("", "_low", "_high")
                    )
                    line += f" ({gain:+.1f} [{low:+.1f}, {high:+.1f}])"
            lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=list(TRIALS))
    parser.add_argument("--source", type=Path, required=True, help="the trained network")
    parser.add_argument("--data", required=True, help="folder with the parquet files")
    parser.add_argument("--only", help="these trials (with the drop-last of their depth)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, default=Path("runs/trials"))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    trials = TRIALS[options.name]
    if options.only:
        wanted = options.only.split(",")
        if unknown := [n for n in wanted if n not in trials]:
            parser.error(f"no trial {unknown[0]}; there are {', '.join(trials)}")
        bases = {
            BASELINES[d]
            for n in wanted
            for d in trials[n].read or (trials[n].depth,)
            if d in BASELINES
        }
        trials = {n: t for n, t in trials.items() if n in bases or n in wanted}
    bench = Bench(
        options.name, options.source, options.data, options.work / options.name, options.device
    )
    seeds = range(options.seeds)
    rows: dict[tuple[str, int], Any] = {}
    for seed in seeds:
        for name, trial in trials.items():
            rows[name, seed] = bench.scores(name, trial, seed)
            print(f"{name}, seed {seed}: {rows[name, seed][0]['at']}", flush=True)
    report = {
        "benchmark": "trials",
        "source": bench.source.name,
        "weights_sha256": bench.source.sha256(),
        "seeds": list(seeds),
        "job": asdict(bench.job) | {"data": Path(options.data).name, "eval_data": "test"},
        "noise": None if bench.noise is None else str(bench.noise),
        "machine": modeldir.machine(),
        "trials": {
            name: {
                "settings": {k: v for k, v in asdict(trial).items() if v != getattr(Trial(0), k)},
                "runs": [{k: v for k, v in rows[name, s][0].items() if k != "at"} for s in seeds],
                "at": gains(bench, rows, name, seeds),
            }
            for name, trial in trials.items()
        },
    }
    options.results.mkdir(parents=True, exist_ok=True)
    modeldir.write_json(options.results / f"trials-{options.name}.json", rounded(report))
    print(table(report))


if __name__ == "__main__":
    main()
