"""compare: every way to a smaller depth, each at the same training budget, on the same examples,
with what people do without us.

    drop-last        the first K blocks, residual, distilled from the whole network: the plain
    baseline evenly-spaced    K blocks spread over the depth, residual, distilled
    best-blocks      the K blocks that acn-cut-first starts from, refitted alike, residual,
    distilled residual-prefix  ONE residual run of the whole network with prefix readouts at the
    depths (LayerSkip-like), read at each acn-cut-first    K blocks (`initial.py`, "auto") refitted
    to follow the whole network, alpha walked down while distilling acn-one-run      ONE conversion
    of the whole network with the same prefix readouts, read at each depth acn-then-cut     half of
    the budget on that conversion, then cut to K and train on

The budget is what `epochs` of the whole network with its teacher cost in floating-point operations
(`budget.py`); seconds are reported beside it. What the networks cost to run is timed side by side;
it depends on depth and form only. Finished runs are kept in OUT/runs and reused when source,
options and seed match.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint.directory import Source
from acn_compress.compression.start import cut_
from acn_compress.data.load import Data, Noise
from acn_compress.errors import ConfigError, DataError
from acn_compress.measure.budget import equal_epochs, training_flops
from acn_compress.measure.quality import Scores, interval, measure, summary
from acn_compress.measure.timing import fixed_threads, interleave, spread
from acn_compress.network.network import Network
from acn_compress.onnx.inputs import inputs_for
from acn_compress.reports import plots
from acn_compress.training.fit import fit
from acn_compress.training.hooks import Progress
from acn_compress.training.job import Job
from acn_compress.training.walk import Walk

ROUTES = (
    "drop-last",
    "evenly-spaced",
    "best-blocks",
    "residual-prefix",
    "acn-cut-first",
    "acn-one-run",
    "acn-then-cut",
)
ONE_RUN = ("residual-prefix", "acn-one-run")
BASELINE = "drop-last"
REFITTED = ("best-blocks", "acn-cut-first")
KEEP = {"evenly-spaced": "even", "best-blocks": "auto", "acn-cut-first": "auto"}
HYBRID = 0.5  # the alpha of a network that stands for one whose alphas are trained, to be timed
LENGTH = 128  # tokens of the text that is timed


@dataclass(frozen=True)
class _Setting:
    source: Source
    job: Job
    alpha_end: float
    pull: float
    device: str
    data: Data
    eval_data: Data
    noise: Noise | None
    teacher: Network
    progress: Progress | None


def compare(
    src: str | Path,
    job: Job,
    *,
    depths: tuple[int, ...],
    out: str | Path = "comparison",
    seeds: int = 2,
    routes: tuple[str, ...] | None = None,
    noise: str | None = None,
    alpha_end: float | None = None,
    pull: float = 0.1,
    config: str | Path | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run every route at every depth and seed.

    Args:
        src: the trained checkpoint, in residual form.
        job: data and recipe; its epochs are the budget, its seed the first of `seeds`.
        depths: blocks to keep.
        out: directory for compare.json, compare.png (quality over latency), README.md and the
            finished runs.
        routes: any of ROUTES; None is all.
        noise: measured besides clean data, "gaussian:SD" or "salt-pepper:SHARE".
        alpha_end: alpha at the end of the ACN routes; None lets it find its own way down.
        pull: with which it does, as in `convert`; 0.1 did best in short budgets (docs/method.md).
        overwrite: run again what is finished.
    Returns:
        whole (the untouched network's quality and latency), runs (one row per route, depth, seed),
        table (mean over seeds with the paired difference to drop-last and its 95 % interval, and
        latency: seconds per example, the fastest of 20 rounds), budget.
    Raises:
        AcnError: in one line.
    """
    chosen = routes or ROUTES
    end, pull = (HYBRID, pull) if alpha_end is None else (alpha_end, 0.0)
    if unknown := [r for r in chosen if r not in ROUTES]:
        raise ConfigError(f"route '{unknown[0]}' is not known. Known: {', '.join(ROUTES)}.")
    source = modeldir.find_source(src, config=config)
    teacher = checkpoint.load_source(source, device=device)
    if teacher.structure.form != "residual":
        raise ConfigError(
            f"{source.name} is in {teacher.structure.form} form; compare starts from a residual checkpoint."
        )
    for depth in depths:
        teacher.check_depth(depth, source.name)
    data, eval_data = job.train_split(teacher, source), job.eval_split(teacher, source)
    if eval_data is None:
        raise DataError(
            f"data {job.data} has one split only, and compare must measure on another: pass --eval-data."
        )
    setting = _Setting(
        source,
        job,
        end,
        pull,
        device,
        data,
        eval_data,
        None if noise is None else Noise.parse(noise),
        teacher,
        progress,
    )
    directory = Path(out).expanduser()
    (directory / "runs").mkdir(parents=True, exist_ok=True)
    runs, scores = _all_runs(setting, chosen, depths, seeds, directory / "runs", overwrite)
    clean = measure(teacher, eval_data)
    seconds = _latency(teacher, depths, end)
    report = {
        "step": "compare",
        "source": source.name,
        "weights_sha256": source.sha256(),
        "data": data.name,
        "eval_data": eval_data.name,
        "noise": noise,
        "alpha_end": alpha_end,
        "pull": pull,
        "options": modeldir.options_of(**asdict(job)),
        "budget": _budget(teacher, job, depths),
        "whole": summary(clean, data.task)
        | (
            {"noisy": measure(teacher, eval_data, noise=setting.noise).value}
            if setting.noise
            else {}
        )
        | {"latency": seconds[teacher.depth, False]},
        "runs": runs,
        "table": [
            row | {"latency": seconds[row["depth"], row["route"].startswith("acn")]}
            for row in _table(runs, scores)
        ],
        "machine": modeldir.machine(),
        "out": str(directory),
    }
    modeldir.write_json(directory / "compare.json", report)
    plots.comparison(report, directory / "compare.png")
    (directory / "README.md").write_text(markdown(report), encoding="utf-8")
    return report


def _budget(net: Network, job: Job, depths: tuple[int, ...]) -> dict[str, Any]:
    whole = net.depth
    epochs = job.recipe.epochs
    return {
        "epochs_of_whole": epochs,
        "flops_per_example": training_flops(net, teacher_depth=whole),
        "epochs_at_depth": {str(k): round(equal_epochs(net, epochs, depth=k), 3) for k in depths},
        "epochs_with_prefix": round(
            equal_epochs(net, epochs, depth=whole, prefixes=len(_prefixes(depths, whole))), 3
        ),
    }


def _latency(
    net: Network, depths: tuple[int, ...], alpha_end: float
) -> dict[tuple[int, bool], float]:
    """Seconds per example at every depth and of the whole, as (depth, in the form of the ACN
    routes): torch, batch 1, one thread."""
    whole = net.depth
    inputs = {k: v.to(net.device) for k, v in inputs_for(net, 1, LENGTH, 0).items()}
    calls: dict[tuple[int, bool], Callable[[], Any]] = {}
    for depth in {*depths, whole}:
        for converted in (False, True):
            network = net.twin()
            network.truncate_(depth)
            if converted:
                network.set_alphas_((alpha_end,) * depth, "block")
            calls[depth, converted] = partial(_answer, network, inputs)
    with fixed_threads(1), torch.inference_mode():
        samples = interleave(list(calls.values()), repeats=20)
    return {
        key: spread(found)["min"] for key, found in zip(calls, samples, strict=True)
    }  # other work on the machine only adds time


def _answer(network: Network, inputs: dict[str, torch.Tensor]) -> float:
    """Run a network until a number is there: an accelerator answers before it has computed."""
    return float(network.answer(**inputs).flatten()[0])


def _all_runs(
    setting: _Setting,
    routes: tuple[str, ...],
    depths: tuple[int, ...],
    seeds: int,
    directory: Path,
    overwrite: bool,
) -> tuple[list[dict[str, Any]], dict[tuple[str, int, int, str], Scores]]:
    runs: list[dict[str, Any]] = []
    scores: dict[tuple[str, int, int, str], Scores] = {}
    for seed in range(setting.job.recipe.seed, setting.job.recipe.seed + seeds):
        for route in routes:
            for group in [depths] if route in ONE_RUN else [(d,) for d in depths]:
                for row, clean, noisy in _one(setting, route, group, seed, directory, overwrite):
                    runs.append(row)
                    scores[route, row["depth"], seed, "clean"] = clean
                    if noisy is not None:
                        scores[route, row["depth"], seed, "noisy"] = noisy
    return runs, scores


def _one(
    setting: _Setting,
    route: str,
    depths: tuple[int, ...],
    seed: int,
    directory: Path,
    overwrite: bool,
) -> Iterator[tuple[dict[str, Any], Scores, Scores | None]]:
    """One training run, measured at its depths; read from disk if it is there."""
    mark = _fingerprint(setting, route, depths, seed)
    stem = f"{route}-{'-'.join(map(str, depths))}-seed{seed}"
    stored = modeldir.read_json(directory / f"{stem}.json")
    if overwrite or stored is None or stored.get("fingerprint") != mark:
        rows, arrays = _train_and_measure(setting, route, depths, seed)
        with (directory / f"{stem}.npz").open("wb") as file:
            np.savez_compressed(file, **arrays)
        stored = {"fingerprint": mark, "rows": rows}
        modeldir.write_json(directory / f"{stem}.json", stored)
    with np.load(directory / f"{stem}.npz") as arrays:
        for row in stored["rows"]:
            found = {
                kind: _scores(arrays, f"{row['depth']}-{kind}")
                for kind in ("clean", "noisy")
                if f"{row['depth']}-{kind}-score" in arrays
            }
            yield row, found["clean"], found.get("noisy")


def _scores(arrays: Any, key: str) -> Scores:
    score, weight = arrays[f"{key}-score"], arrays[f"{key}-weight"]
    return Scores(np.zeros_like(score), score, weight, np.zeros(0), np.zeros(0))


def _fingerprint(setting: _Setting, route: str, depths: tuple[int, ...], seed: int) -> str:
    job = asdict(replace(setting.job, recipe=replace(setting.job.recipe, seed=seed)))
    options = {
        "job": job,
        "route": route,
        "depths": depths,
        "alpha_end": setting.alpha_end if route.startswith("acn") else 0.0,
        "pull": setting.pull if route.startswith("acn") else 0.0,
        "noise": str(setting.noise),
        "keep": KEEP.get(route, "first"),
        "refit": route in REFITTED,
    }
    text = json.dumps(options, default=str, sort_keys=True) + setting.source.sha256()
    return hashlib.sha256(text.encode()).hexdigest()


def _train_and_measure(
    setting: _Setting, route: str, depths: tuple[int, ...], seed: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    started = time.perf_counter()
    net, epochs = _train(setting, route, depths, seed)
    seconds = time.perf_counter() - started
    rows: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    for depth in sorted(
        depths, reverse=True
    ):  # one run is cut from the deepest on: every depth is a prefix of the last
        if depth < net.depth:
            net.truncate_(depth)
        row: dict[str, Any] = {
            "route": route,
            "depth": depth,
            "seed": seed,
            "epochs": round(epochs, 3),
            "seconds": round(seconds, 1),
        }
        structure = net.structure
        row |= {
            "blocks": list(structure.blocks),
            "alpha": [round(a, 3) for a in structure.alpha],
            "parameters": net.parameters,
        }
        for kind, noise in (("clean", None), ("noisy", setting.noise)):
            if kind == "clean" or noise is not None:
                scores = measure(net, setting.eval_data, noise=noise)
                row[kind] = scores.value
                arrays |= {
                    f"{depth}-{kind}-score": scores.score,
                    f"{depth}-{kind}-weight": scores.weight,
                }
        rows.append(row)
    return rows, arrays


def _train(setting: _Setting, route: str, depths: tuple[int, ...], seed: int) -> tuple[Any, float]:
    """Train one route in memory. Returns the model and the epochs its budget bought (of the last
    stage)."""
    net = checkpoint.load_source(setting.source, device=setting.device, verify=False)
    recipe = replace(setting.job.recipe, seed=seed)
    whole = net.depth
    prefix = _prefixes(depths, whole)

    def train(epochs: float, *, acn: bool = False, prefix: tuple[int, ...] = ()) -> None:
        n = net.depth
        walk = (
            Walk((1.0,) * n, (setting.alpha_end,) * n, 0.5, "block", pull=setting.pull)
            if acn
            else None
        )
        data = setting.data
        fit(
            net,
            data,
            replace(
                recipe, epochs=epochs, prefix_loss=1.0 if prefix else 0.0, prefix_depths=prefix
            ),
            walk=walk,
            teacher=setting.teacher,
            progress=setting.progress,
        )

    if route in ONE_RUN:
        epochs = equal_epochs(net, recipe.epochs, depth=whole, prefixes=len(prefix))
        train(epochs, acn=route != "residual-prefix", prefix=prefix)
        return net, epochs
    (depth,) = depths
    if route == "acn-then-cut":
        epochs = equal_epochs(net, recipe.epochs / 2, depth=depth)
        train(
            equal_epochs(net, recipe.epochs / 2, depth=whole, prefixes=len(prefix)),
            acn=True,
            prefix=prefix,
        )
        net.truncate_(depth)
        train(epochs)
        return net, epochs
    job = replace(
        setting.job, recipe=replace(recipe, epochs=equal_epochs(net, recipe.epochs, depth=depth))
    )
    examples = len(setting.data)
    start = KEEP.get(route, "first")
    spent = cut_(
        net,
        depth,
        start,
        job,
        setting.source,
        setting.teacher,
        refitted=route in REFITTED,
        examples=examples,
    )
    epochs = equal_epochs(
        setting.teacher, recipe.epochs, depth=depth, spent=spent / examples
    )  # not free
    train(epochs, acn=route == "acn-cut-first")
    return net, epochs


def _prefixes(depths: tuple[int, ...], whole: int) -> tuple[int, ...]:
    """The depths that a run for every depth reads out beside the whole network."""
    return tuple(d for d in depths if d < whole)


def _table(
    runs: list[dict[str, Any]], scores: dict[tuple[str, int, int, str], Scores]
) -> list[dict[str, Any]]:
    """Mean over seeds per route and depth, and the paired difference to the baseline over all
    seeds' examples."""
    rows = []
    for route, depth in dict.fromkeys((r["route"], r["depth"]) for r in runs):
        mine = [r for r in runs if r["route"] == route and r["depth"] == depth]
        row: dict[str, Any] = {
            "route": route,
            "depth": depth,
            "seeds": len(mine),
            "seconds": round(float(np.mean([r["seconds"] for r in mine])), 1),
        }
        row["parameters"] = mine[0]["parameters"]
        for kind in ("clean", "noisy"):
            if kind in mine[0]:
                values = [r[kind] for r in mine]
                row |= {
                    kind: float(np.mean(values)),
                    f"{kind}_spread": float(np.max(values) - np.min(values)),
                }
                row |= _against_baseline(scores, route, depth, [r["seed"] for r in mine], kind)
        rows.append(row)
    return sorted(rows, key=lambda r: (-r["depth"], ROUTES.index(r["route"])))


def _against_baseline(
    scores: dict[tuple[str, int, int, str], Scores],
    route: str,
    depth: int,
    seeds: list[int],
    kind: str,
) -> dict[str, Any]:
    """gain: how far above drop-last at the same depth, averaged over seeds per example, so that
    examples stay independent."""
    pairs = [(scores[route, depth, s, kind], scores.get((BASELINE, depth, s, kind))) for s in seeds]
    if route == BASELINE or any(b is None for _, b in pairs):
        return {}
    weight = pairs[0][0].weight
    difference = np.mean([(a.score - b.score) * weight for a, b in pairs if b is not None], axis=0)
    low, high = interval(difference, weight)
    return {
        f"{kind}_gain": float(difference.sum() / weight.sum()),
        f"{kind}_gain_low": low,
        f"{kind}_gain_high": high,
    }


def markdown(report: dict[str, Any]) -> str:
    """The table as Markdown, with what it means."""
    whole, noisy = report["whole"], report["noise"]
    lines = [f"# {report['source']}: routes to a smaller depth at equal training budget", ""]
    lines += [
        f"Whole network: {whole['metric']} {whole['value']:.4f}"
        + (f", under {noisy} {whole['noisy']:.4f}" if noisy else "")
        + f" (n = {whole['examples']:,})."
    ]
    lines += [
        f"Budget: {report['budget']['epochs_of_whole']:g} epochs of the whole network. Gain: above drop-last at the same depth, paired, 95 % interval.",
        "",
    ]
    head = [
        "depth",
        "route",
        whole["metric"],
        "gain",
        *([f"under {noisy}", "gain"] if noisy else []),
        "ms",
        "seeds",
        "training seconds",
    ]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for r in report["table"]:
        cells = [
            str(r["depth"]),
            r["route"],
            f"{r['clean']:.4f}",
            gain(r, "clean"),
            *([f"{r['noisy']:.4f}", gain(r, "noisy")] if noisy else []),
        ]
        lines.append(
            "| "
            + " | ".join([*cells, milliseconds(r), str(r["seeds"]), f"{r['seconds']:.0f}"])
            + " |"
        )
    lines += [
        "",
        "ms: one example in torch on one thread, the fastest of 20 interleaved rounds; the whole network: "
        + milliseconds(whole)
        + ".",
    ]
    return "\n".join([*lines, "", "![quality over latency](compare.png)", ""])


def milliseconds(row: dict[str, Any]) -> str:
    """The latency of a row as text."""
    return f"{1000 * row['latency']:.2f}"


def gain(row: dict[str, Any], kind: str) -> str:
    """The gain over the baseline with its interval, as text; nothing for the baseline itself."""
    if f"{kind}_gain" not in row:
        return ""
    return f"{row[f'{kind}_gain']:+.4f} [{row[f'{kind}_gain_low']:+.4f}, {row[f'{kind}_gain_high']:+.4f}]"
