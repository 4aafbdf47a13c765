"""compare: every route (`compression/routes.py`) at every depth and seed, on the same examples,
with the plain baseline.

What the networks cost to run is timed side by side; it depends on depth and form only. Finished
runs are kept in OUT/runs and reused when source, options and seed match.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from acn_compress import surface
from acn_compress.backends.latency import QUANTILE, busy, clock_for, milliseconds
from acn_compress.checkpoint.directory import check_out, writing
from acn_compress.checkpoint.files import read_json, write_json, write_text
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.processors import content_sha256
from acn_compress.checkpoint.provenance import machine
from acn_compress.checkpoint.published import published
from acn_compress.checkpoint.swap import target
from acn_compress.checkpoint.write import PAGE, write
from acn_compress.compression.routes import ROUTES, Setting, go
from acn_compress.data.load import Noise
from acn_compress.data.places import fingerprint
from acn_compress.data.splits import eval_split, training_split
from acn_compress.errors import ConfigError, DataError
from acn_compress.events import ChainStep, Progress, Stage
from acn_compress.measure.budget import equal_epochs, training_flops
from acn_compress.measure.intervals import Array, Reach, mean_interval
from acn_compress.measure.original import Original
from acn_compress.measure.quality import Scores, change, measure, paired, summary
from acn_compress.measure.timing import fixed_threads, interleave, judge
from acn_compress.network.device import find_device
from acn_compress.network.network import Network
from acn_compress.onnx.inputs import inputs_for
from acn_compress.options import BASELINE, Compare, ModelSpec, Trained
from acn_compress.reports import plots
from acn_compress.reports.compared import Budget, Compared, Kept, RouteRow, RouteRun, Whole
from acn_compress.reports.html import uses

HYBRID = 0.5  # the alpha of a network that stands for one whose alphas are trained, to be timed
KEPT = "Finished runs are kept: the same command goes on with them."
LENGTH = 128  # tokens of the text that is timed
ROUNDS = 20  # of that timing
ENDS = {"": "value", "_low": "low", "_high": "high"}  # how fields end that hold such of a quality
Form = tuple[int, bool]  # depth, and whether in the form of the ACN routes


class _Asked(NamedTuple):
    """A run: a route, the depths that it serves, and its seed."""

    route: str
    depths: tuple[int, ...]
    seed: int

    @property
    def stem(self) -> str:
        """Of its files."""
        return f"{self.route}-{'-'.join(map(str, self.depths))}-seed{self.seed}"


class _Key(NamedTuple):
    route: str
    depth: int
    seed: int
    kind: str  # clean or noisy


class _Time(NamedTuple):
    """What a form takes, and that against the whole network, as `judge` has it."""

    seconds: float
    speedup: dict[str, Any]


def run(src: ModelSpec, how: Compare, progress: Progress | None = None) -> Compared:
    """Compare the routes from a trained checkpoint in residual form."""
    source, device = find_source(src, config=how.config), find_device(how.device)
    teacher = load_source(source, device=device)
    if teacher.structure.form != "residual":
        raise ConfigError(
            f"{source.name} is in {teacher.structure.form} form; "
            "compare starts from a residual checkpoint."
        )
    for depth in how.depths:
        teacher.check_depth(depth, source.name)
    trained = how.part(Trained)
    data = training_split(trained, teacher, source)
    eval_data = eval_split(trained, teacher, source)
    if eval_data is None:
        raise DataError(
            f"data {how.data} has one split only, and compare must measure on another: "
            "pass --eval-data."
        )
    free = how.alpha_end is None
    end = HYBRID if how.alpha_end is None else how.alpha_end
    noise, pull = how.noise and Noise.parse(how.noise), how.pull if free else 0.0
    setting = Setting(
        source, trained, end, pull, device, data, eval_data, noise or None, teacher, progress
    )
    directory = Path(how.out).expanduser()
    with writing(f"OUT {how.out}", KEPT):
        (target(directory) / "runs").mkdir(parents=True, exist_ok=True)
    places = {depth: directory / f"depth-{depth}" for depth in how.depths if how.winners}
    for place in places.values():
        check_out(place, source=source, overwrite=True)
    runs, scores = _all_runs(setting, how, directory / "runs")
    whole = _whole_scores(setting)
    times, disturbed = _times(teacher, how.depths, end)
    report = Compared(
        step=how.verb,
        source=source.name,
        weights_sha256=source.sha256(),
        data=data.name,
        eval_data=eval_data.name,
        read=data.read,
        eval_read=eval_data.read,
        remarks=teacher.remarks,
        noise=how.noise,
        alpha_end=how.alpha_end,
        pull=pull,
        options=how.plain(),
        budget=_budget(setting, how.depths),
        whole=_whole(setting, whole, times[teacher.depth, False].seconds),
        runs=tuple(runs),
        table=tuple(_table(runs, scores, whole, times)),
        busy=disturbed,
        machine=machine(),
        out=str(directory),
    )
    if how.winners:
        kept = tuple(_kept(setting, how, report, places, whole["clean"]))
        report = report.model_copy(update={"kept": kept})
    elif report.winners():
        again = how.changed(winners=True, overwrite=False)
        command = surface.typed(type(how), [source.name], again)
        report = report.model_copy(update={"command": command})
    with writing(f"OUT {how.out}", KEPT):
        write_json(directory / "compare.json", report.plain())
        plots.comparison(report, directory / "compare.png")
        write_text(directory / "README.md", report.markdown())
        command = published(surface.typed(type(how), [source.name], how))
        use = [code for kept in report.kept for code in uses(Path(kept.out) / "README.md")]
        write_text(directory / PAGE, report.page(use, command))
    return report


def _kept(
    setting: Setting,
    how: Compare,
    report: Compared,
    places: Mapping[int, Path],
    before: Scores,
) -> Iterator[Kept]:
    """The winners, made again as they were with the first seed, and written.

    Args:
        before: of the whole network.
    """
    data, source = setting.eval_data, setting.source
    for depth, route in report.winners().items():
        group = how.depths if ROUTES[route].for_all else (depth,)
        if setting.progress is not None:
            setting.progress(
                Stage(text=f"{_called(route, (depth,), how.seed)}: once more, to keep")
            )
        net, _ = go(setting, route, group, how.seed)
        if depth < net.depth:
            net.truncate_(depth)
        after = measure(net, data)
        original = Original.of(
            source,
            data,
            lambda other, place: eval_split(setting.how, other, place),
            known=source,
            scores=before,
            net=net,
        )
        found = dict(change(before, after, data.task))
        found |= {"original": None if original is None else original.below(after)}
        yield write(
            net,
            places[depth],
            source=source,
            step=how.verb,
            options={**how.plain(), "route": route, "depth": depth},
            report={
                "route": route,
                "depth": depth,
                "data": setting.data.name,
                "examples": len(setting.data),
                "read": setting.data.read,
                "eval_data": data.name,
                "eval_read": data.read,
                **found,
            },
            seed=how.seed,
            overwrite=True,
            kind=Kept,
        )


def _called(route: str, depths: Sequence[int], seed: int) -> str:
    """A run, for people."""
    return f"{route} at {', '.join(map(str, depths))} blocks, seed {seed}"


def _whole_scores(setting: Setting) -> dict[str, Scores]:
    """Of the untouched network, clean and, where that is asked for, noisy."""
    net, data, noise = setting.teacher, setting.eval_data, setting.noise
    clean = {"clean": measure(net, data)}
    return clean if noise is None else clean | {"noisy": measure(net, data, noise=noise)}


def _whole(setting: Setting, scores: Mapping[str, Scores], latency: float) -> Whole:
    """The quality of the untouched network."""
    clean, *others = (summary(s, setting.eval_data.task) for s in scores.values())
    noisy = {f"noisy{end}": q[name] for q in others for end, name in ENDS.items()}
    count = setting.teacher.parameters
    return Whole(**clean.model_dump(), **noisy, latency=latency, parameters=count)


def _budget(setting: Setting, depths: tuple[int, ...]) -> Budget:
    net, epochs = setting.teacher, setting.how.epochs
    prefixes = len(setting.prefixes(depths))
    at_depth = {str(k): round(equal_epochs(net, epochs, depth=k), 3) for k in depths}
    with_prefix = equal_epochs(net, epochs, depth=net.depth, prefixes=prefixes)
    return Budget(
        epochs_of_whole=epochs,
        flops_per_example=training_flops(net, teacher_depth=net.depth),
        epochs_at_depth=at_depth,
        epochs_with_prefix=round(with_prefix, 3),
    )


def _times(
    net: Network, depths: tuple[int, ...], alpha_end: float
) -> tuple[dict[Form, _Time], float]:
    """What an example takes in every form (torch, batch 1, one thread), and how far other work
    disturbed that."""
    inputs = {k: v.to(net.device) for k, v in inputs_for(net, 1, LENGTH, 0).items()}
    calls: dict[Form, Callable[[], float]] = {}
    for depth in sorted({*depths, net.depth}, reverse=True):
        for converted in (False, True):
            network = net.twin()
            network.truncate_(depth)
            if converted:
                network.set_alphas_((alpha_end,) * depth, "block")
            calls[depth, converted] = partial(_answer, network, inputs)
    with fixed_threads(1), torch.inference_mode():
        clock = clock_for(1, net.device.type)
        samples = np.asarray(interleave(list(calls.values()), ROUNDS, clock=clock))
    whole = (net.depth, False)  # timed first
    found = {
        form: _Time(ms / 1000, judge(own, samples[0], form == whole, QUANTILE))
        for form, ms, own in zip(calls, milliseconds(samples), samples, strict=True)
    }
    return found, busy(samples)


def _answer(net: Network, inputs: dict[str, Tensor]) -> float:
    """Run a network until a number is there: an accelerator answers before it has computed."""
    return float(net.answer(**inputs).flatten()[0])


def _all_runs(
    setting: Setting, how: Compare, directory: Path
) -> tuple[list[RouteRun], dict[_Key, Scores]]:
    runs: list[RouteRun] = []
    scores: dict[_Key, Scores] = {}
    asked = [
        _Asked(route, group, seed)
        for seed in range(how.seed, how.seed + how.seeds)
        for route in how.routes or ROUTES
        for group in ([how.depths] if ROUTES[route].for_all else [(d,) for d in how.depths])
    ]
    stored = [None if how.overwrite else _stored(setting, one, directory) for one in asked]
    took: list[float] = []
    for number, (one, known) in enumerate(zip(asked, stored, strict=True)):
        if setting.progress is not None:
            # every run has the same budget
            left = np.mean(took) * sum(s is None for s in stored[number:]) if took else None
            name = _called(*one)
            event = ChainStep(
                number=number + 1,
                total=len(asked),
                name=name,
                reused=known is not None,
                seconds_left=left,
            )
            setting.progress(event)
        began = time.perf_counter()
        for row, found in _one(setting, one, known, directory):
            runs.append(row)
            scores |= {_Key(one.route, row.depth, one.seed, k): s for k, s in found.items()}
        if known is None:
            took.append(time.perf_counter() - began)
    return runs, scores


def _stored(setting: Setting, one: _Asked, directory: Path) -> dict[str, Any] | None:
    """A run that was finished with these options."""
    found = read_json(directory / f"{one.stem}.json")
    mark = _fingerprint(setting, one.route, one.depths, one.seed)
    return found if found is not None and found.get("fingerprint") == mark else None


def _one(
    setting: Setting, one: _Asked, stored: dict[str, Any] | None, directory: Path
) -> Iterator[tuple[RouteRun, dict[str, Scores]]]:
    """One training run, measured at its depths; `stored` if it is there."""
    stem = one.stem
    if stored is None:
        rows, arrays = _train_and_measure(setting, *one)
        mark = _fingerprint(setting, *one)
        stored = {"fingerprint": mark, "rows": [row.plain() for row in rows]}
        with writing(f"OUT {directory.parent}", KEPT):
            with (directory / f"{stem}.npz").open("wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            write_json(directory / f"{stem}.json", stored)
    with np.load(directory / f"{stem}.npz") as found:
        for row in map(RouteRun.model_validate, stored["rows"]):
            kinds = [k for k in ("clean", "noisy") if f"{row.depth}-{k}-score" in found]
            reach = setting.eval_data.task.reach
            yield row, {kind: _scores(found, f"{row.depth}-{kind}", reach) for kind in kinds}


def _scores(arrays: Mapping[str, Array], key: str, reach: Reach) -> Scores:
    score, weight = arrays[f"{key}-score"], arrays[f"{key}-weight"]
    return Scores(np.zeros_like(score), score, weight, np.zeros(0), np.zeros(0), reach)


def _fingerprint(setting: Setting, name: str, depths: tuple[int, ...], seed: int) -> str:
    route = ROUTES[name]
    parts = {
        "options": setting.how.part(Trained, seed=seed).plain(),
        "route": name,
        "depths": depths,
        "alpha_end": setting.alpha_end if route.acn else 0.0,
        "pull": setting.pull if route.acn else 0.0,
        "noise": str(setting.noise),
        "keep": route.keep,
        "refit": route.refit,
        "source": content_sha256(setting.source),
        "data": [fingerprint(d) for d in (setting.how.data, setting.how.eval_data) if d],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _train_and_measure(
    setting: Setting, route: str, depths: tuple[int, ...], seed: int
) -> tuple[list[RouteRun], dict[str, Array]]:
    started = time.perf_counter()
    net, epochs = go(setting, route, depths, seed)
    seconds = time.perf_counter() - started
    rows: list[RouteRun] = []
    arrays: dict[str, Array] = {}
    for depth in sorted(depths, reverse=True):  # every depth is a prefix of the one before
        if depth < net.depth:
            net.truncate_(depth)
        values: dict[str, float] = {}
        for kind, noise in (("clean", None), ("noisy", setting.noise)):
            if kind == "clean" or noise is not None:
                scores = measure(net, setting.eval_data, noise=noise)
                values[kind] = scores.value
                arrays[f"{depth}-{kind}-score"] = scores.score
                arrays[f"{depth}-{kind}-weight"] = scores.weight
        structure = net.structure
        rows.append(
            RouteRun(
                route=route,
                depth=depth,
                seed=seed,
                epochs=round(epochs, 3),
                seconds=round(seconds, 1),
                blocks=structure.blocks,
                alpha=tuple(round(a, 3) for a in structure.alpha),
                parameters=net.parameters,
                **values,
            )
        )
    return rows, arrays


def _table(
    runs: Sequence[RouteRun],
    scores: Mapping[_Key, Scores],
    whole: Mapping[str, Scores],
    times: Mapping[Form, _Time],
) -> list[RouteRow]:
    """Mean over seeds per route and depth, and the paired differences to the whole network and to
    the baseline."""
    rows = []
    for route, depth in dict.fromkeys((r.route, r.depth) for r in runs):
        mine = [r for r in runs if (r.route, r.depth) == (route, depth)]
        seeds = [r.seed for r in mine]
        found: dict[str, Any] = {}
        for kind in whole:
            values = [r[kind] for r in mine]
            found |= {kind: float(np.mean(values)), f"{kind}_spread": float(np.ptp(values))}
            found |= _intervals(scores, _Key(route, depth, 0, kind), seeds, whole[kind])
        time = times[depth, ROUTES[route].acn]
        rows.append(
            RouteRow(
                route=route,
                depth=depth,
                seeds=len(mine),
                seconds=round(float(np.mean([r.seconds for r in mine])), 1),
                parameters=mine[0].parameters,
                latency=time.seconds,
                speedup=time.speedup,
                **found,
            )
        )
    order = list(ROUTES)
    return sorted(rows, key=lambda r: (-r.depth, order.index(r.route)))


def _intervals(
    scores: Mapping[_Key, Scores], key: _Key, seeds: Sequence[int], whole: Scores
) -> dict[str, Any]:
    """Its own; drop: how far below the whole network; gain: how far above drop-last at the same
    depth."""
    kind, mine = key.kind, _mean(scores, key, seeds)
    assert mine is not None  # a row is of its runs
    low, high = mean_interval(mine.score, mine.weight, mine.reach)
    found = {f"{kind}_low": low, f"{kind}_high": high, f"{kind}_drop": paired(mine, whole)}
    plain = None if key.route == BASELINE else _mean(scores, key._replace(route=BASELINE), seeds)
    if plain is None:
        return found
    ahead = paired(plain, mine)
    ends = {"": ahead.drop, "_low": ahead.low, "_high": ahead.high}
    return found | {f"{kind}_gain{end}": value for end, value in ends.items()}


def _mean(scores: Mapping[_Key, Scores], key: _Key, seeds: Sequence[int]) -> Scores | None:
    """The mean over seeds of every example, so that examples stay independent; None where one was
    not run."""
    found = [scores.get(key._replace(seed=seed)) for seed in seeds]
    there = [one for one in found if one is not None]
    if len(there) < len(found):
        return None
    return replace(there[0], score=np.mean([one.score for one in there], axis=0))
