"""Single choices of a conversion, each beside "drop the last blocks and fine-tune" at the same
training budget.

    python -m benchmarks.trials vit  --source VIT  --data CIFAR10  # a ViT with 12 blocks
    python -m benchmarks.trials bert --source BERT --data SST2     # an encoder with 6 layers
    python -m benchmarks.trials bert --source BERT --data SST2 --only pull-0.1 --seeds 3

docs/method.md says what came out. VIT and BERT are the trained networks of benchmarks/README.md.
Every trial has the floating-point operations of so many epochs of the whole network with its
teacher, as in `compare`, and its gain is paired with the `drop-last` of its depth and seed. Writes
trials-NAME.json; what is finished in --work is reused. To try an idea, add a line to
`choices/table.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from acn_compress.checkpoint.provenance import machine
from acn_compress.measure.intervals import Array, interval
from benchmarks.choices.bench import Bench, Run, Scores
from benchmarks.choices.table import BASELINES, KINDS, Trial
from benchmarks.command import RESULTS, parser, rounded, write

Rows = dict[tuple[str, int], tuple[Run, Scores]]  # by trial and seed
Cell = dict[str, float]  # a mean over seeds and its gain over the baseline, clean and noisy


def gains(rows: Rows, name: str, seeds: range) -> dict[str, Cell]:
    """Per depth that was read: the mean over seeds, and how far it is above drop-last, paired over
    test images or sentences."""
    found: dict[str, Cell] = {}
    for key in rows[name, seeds[0]][1]:
        depth, kind = key.split("-")
        mine = _mean(rows, name, key, seeds)
        cell = found.setdefault(depth, {})
        cell[kind] = float(mine.mean())
        base = BASELINES.get(int(depth))
        if base is not None and base != name and all((base, s) in rows for s in seeds):
            cell |= _gain(kind, mine - _mean(rows, base, key, seeds))
    return found


def _mean(rows: Rows, name: str, key: str, seeds: Iterable[int]) -> Array:
    """Every test example's score, the mean over seeds: [examples]."""
    return np.asarray(np.mean([rows[name, s][1][key] for s in seeds], axis=0))


def _gain(kind: str, difference: Array) -> Cell:
    low, high = interval(difference, np.ones_like(difference))
    return {
        f"{kind}_gain": float(difference.mean()),
        f"{kind}_gain_low": low,
        f"{kind}_gain_high": high,
    }


def table(found: dict[str, dict[str, Cell]]) -> str:
    """As text, in points."""
    return "\n".join(
        f"{name:22} depth {depth:>2}{_in_words(cell, 'clean')}{_in_words(cell, 'noisy')}"
        for name, cells in found.items()
        for depth, cell in cells.items()
    )


def _in_words(cell: Cell, kind: str) -> str:
    if kind not in cell:
        return ""
    text = f"  {kind} {100 * cell[kind]:5.1f}"
    if f"{kind}_gain" in cell:
        gain, low, high = (100 * cell[f"{kind}_gain{end}"] for end in ("", "_low", "_high"))
        text += f" ({gain:+.1f} [{low:+.1f}, {high:+.1f}])"
    return text


def report(
    bench: Bench, data: str, seeds: range, trials: dict[str, dict[str, object]]
) -> dict[str, object]:
    """What is written."""
    return {
        "benchmark": "trials",
        "source": bench.source.name,
        "weights_sha256": bench.source.sha256(),
        "seeds": list(seeds),
        "job": bench.how.plain() | {"data": Path(data).name, "eval_data": "test"},
        "noise": None if bench.noise is None else str(bench.noise),
        "machine": machine(),
        "trials": trials,
    }


def one(trial: Trial, runs: Iterable[Run], at: dict[str, Cell]) -> dict[str, object]:
    """What is written of a trial."""
    return {
        "settings": trial.settings(),
        "runs": [run.model_dump(exclude={"at"}) for run in runs],
        "at": at,
    }


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("name", choices=list(KINDS))
    command.add_argument("--source", type=Path, required=True, help="the trained network")
    command.add_argument("--data", required=True, help="folder with the parquet files")
    command.add_argument("--only", help="these trials (with the drop-last of their depth)")
    command.add_argument("--seeds", type=int, default=1)
    command.add_argument("--device", default="cpu")
    command.add_argument("--work", type=Path, default=Path("runs/trials"))
    command.add_argument("--results", type=Path, default=RESULTS)
    options = command.parse_args()
    kind, work = KINDS[options.name], options.work / options.name
    wanted = options.only.split(",") if options.only else list(kind.trials)
    if unknown := [n for n in wanted if n not in kind.trials]:
        command.error(f"no trial {unknown[0]}; there are {', '.join(kind.trials)}")
    trials, seeds = kind.named(wanted), range(options.seeds)
    bench = Bench(kind, options.source, options.data, work, options.device)
    rows: Rows = {}
    for seed in seeds:
        for name, trial in trials.items():
            rows[name, seed] = bench.scores(name, trial, seed)
            print(f"{name}, seed {seed}: {rows[name, seed][0].at}", flush=True)
    options.results.mkdir(parents=True, exist_ok=True)
    at = {name: gains(rows, name, seeds) for name in trials}
    found = {n: one(t, (rows[n, s][0] for s in seeds), at[n]) for n, t in trials.items()}
    full = report(bench, options.data, seeds, found)
    write(options.results / f"trials-{options.name}.json", rounded(full))
    print(table(at))


if __name__ == "__main__":
    main()
