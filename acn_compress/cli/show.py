"""What the commands print: tables on stdout, progress on stderr (a live line in a terminal, plain
lines elsewhere)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from acn_compress.checkpoint.directory import size

if TYPE_CHECKING:
    from acn_compress.training.hooks import Step

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 140)


def show(report: dict[str, Any]) -> None:
    """Print the report of a step."""
    _SHOW.get(report["step"], _model)(report)


def step_started(number: int, total: int, name: str, reused: bool) -> None:
    """One line on stderr before a step of a recipe."""
    err.print(
        f"[bold]{number}/{total} {escape(name)}[/bold]"
        + (" (finished before, reused)" if reused else "")
    )


def training_progress() -> Callable[[Step], None]:
    """A callback for `training.fit`."""
    return _Live() if err.is_terminal else _Lines()


class _Live:
    """One moving line: step, loss, alpha, metric, time left."""

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def __call__(self, info: Step) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.completed}/{task.total}"),
                BarColumn(24),
                TextColumn("{task.description}"),
                console=err,
                transient=True,
            )
            self._task = self._bar.add_task("", total=info["steps"])
            self._bar.start()
        self._bar.update(self._task, completed=info["step"], description=_numbers(info))
        if info["step"] >= info["steps"]:
            self._bar.stop()
            self._bar = None


class _Lines:
    """A line at every tenth of the run, and never more than one in two seconds."""

    def __init__(self) -> None:
        self._last, self._tenth = 0.0, -1

    def __call__(self, info: Step) -> None:
        tenth = 10 * info["step"] // info["steps"]
        if info["step"] >= info["steps"] or (
            tenth != self._tenth and time.monotonic() - self._last > 2
        ):
            self._last, self._tenth = time.monotonic(), tenth
            err.print(f"step {info['step']}/{info['steps']} {_numbers(info)}")


def _numbers(info: Step) -> str:
    metric = "" if info.get("metric") is None else f" metric {info['metric']:.3f}"
    return f"loss {info['loss']:.4f} alpha {info['alpha']:.2f}{metric} {_duration(info['seconds_left'])} left"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def quality(found: dict[str, Any]) -> str:
    """value [low, high]."""
    return f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"


def _pairs(title: str, rows: list[tuple[str, Any]]) -> None:
    table = Table(
        title=escape(title), title_justify="left", show_header=False, box=None, pad_edge=False
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None and value != "":
            table.add_row(name, escape(str(value)))
    out.print(table)


def table(
    title: str,
    rows: list[dict[str, Any]],
    columns: list[tuple[str, Callable[[dict[str, Any]], Any]]],
    footer: Sequence[str] = (),
) -> None:
    """Rows of plain data as a table; the first column is text, the others numbers."""
    grid = Table(title=escape(title), title_justify="left")
    for i, (name, _) in enumerate(columns):
        grid.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        grid.add_row(*(escape(_cell(get(row))) for _, get in columns))
    out.print(grid)
    for line in footer:
        out.print(escape(line))


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _model(report: dict[str, Any]) -> None:
    """convert, finetune, truncate, prune: what came out, against what went in."""
    s = report.get("structure") or {}
    rows: list[tuple[str, Any]] = [("from", report.get("source") or "random weights")]
    if s:
        mean = sum(s["alpha"]) / len(s["alpha"])
        rows.append(("form", f"{s['form']} (layer {s['layer']}, alpha {mean:.2g})"))
        kept, of = len(s["blocks"]), s["source_blocks"]
        rows.append(
            ("blocks", f"{kept} of {of}" + ("" if kept == of else f": {_places(s['blocks'])}"))
        )
    for key in ("why", "note"):
        rows.append((key, report.get(key)))
    if "target" in report:
        rows.append(
            (
                "sparsity",
                f"asked {report['target']:.4f}, achieved {report['achieved']:.4f} ({report.get('of', '')})",
            )
        )
    if report.get("max_difference") is not None:
        rows.append(
            ("check", f"largest difference to the masked original {report['max_difference']:.1e}")
        )
    before = report.get("parameters_before")
    rows.append(
        ("parameters", f"{report['parameters']:,}" + (f" (before {before:,})" if before else ""))
    )
    rows.append(
        (
            "bytes",
            f"{size(report['bytes'])} on disk"
            + (f", {size(report['gzip_bytes'])} with gzip" if "gzip_bytes" in report else ""),
        )
    )
    for key in ("before", "after"):
        if key in report:
            q = report[key]
            rows.append(
                (key, f"{q['metric']} {quality(q)}, loss {q['loss']:.4f}, n = {q['examples']:,}")
            )
    if "drop" in report:
        rows.append(
            (
                "drop",
                f"{report['drop']['drop']:+.4f} [{report['drop']['low']:+.4f}, {report['drop']['high']:+.4f}] (paired, 95 %)",
            )
        )
    elif report.get("data") and report.get("eval_data") is None and "training" in report:
        rows.append(("quality", "not measured: the data has one split only; pass --eval-data"))
    if "training" in report:
        t = report["training"]
        rows.append(
            (
                "training",
                f"{t['steps']} steps in {_duration(t['seconds'])}, {t['precision']}, lr {t['lr']:g}",
            )
        )
    rows.append(("written", report["out"]))
    _pairs(report["step"], rows)
    _next(report)


def _next(report: dict[str, Any]) -> None:
    target, data = report["out"], report.get("data", "DATA")
    data = str(data).rsplit(":", 1)[0] if data else "DATA"
    follow = {
        "convert": f"acn-compress profile {target} --data {data}",
        "truncate": f"acn-compress prune {target} OUT --target-sparsity 0.3 --data {data} --epochs 2",
        "prune": f"acn-compress export {target} OUT --format onnx",
        "finetune": f"acn-compress convert {target} OUT --data {data}",
    }.get(report["step"])
    if follow:
        out.print(f"next: {escape(follow)}")


def _evaluate(report: dict[str, Any]) -> None:
    r = report["result"]
    extra = [
        (k, v) for k, v in r.items() if k not in {"metric", "value", "low", "high", "examples"}
    ]
    rows: list[tuple[str, Any]] = [
        (
            "data",
            f"{report['data']}"
            + (f", noise {report['noise']}" if report["noise"] else "")
            + f", n = {r['examples']:,}",
        )
    ]
    rows += [(r["metric"], quality(r)), *((k, f"{v:.4f}") for k, v in extra)]
    if "drop" in report:
        d = report["drop"]
        rows += [("against", f"{report['against']}: {quality(report['other'])}")]
        rows += [("drop", f"{d['drop']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}] (paired, 95 %)")]
    _pairs(f"evaluate {report['source']}", rows)
    if "exit" in report:
        _exits(report["exit"])


def _exits(r: dict[str, Any]) -> None:
    d, f, s = r["drop"], r["flops"], r["seconds"]
    left = ", ".join(f"{row['depth']}: {row['share']:.1%}" for row in r["depths"] if row["share"])
    threads = f"{s['threads']} thread" + ("s" if s["threads"] > 1 else "")
    rows: list[tuple[str, Any]] = [
        (r["result"]["metric"], quality(r["result"])),
        (
            "drop",
            f"{d['drop']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}] (to the full depth, paired, 95 %)",
        ),
        (
            "depth",
            f"{r['mean_depth']:.2f} of {len(r['depths'])} on average; examples that leave at {left}",
        ),
        (
            "MFLOP",
            f"{f['early'] / 1e6:,.2f} per example, {f['full'] / 1e6:,.2f} at full depth: {f['speedup']:.2f}x",
        ),
        (
            "ms",
            f"{1000 * s['early']:.3f} per example, {1000 * s['full']:.3f} at full depth: {s['speedup']:.2f}x [{s['low']:.2f}, {s['high']:.2f}] "
            f"(batch 1, PyTorch, {threads}, {s['examples']} examples side by side)",
        ),
    ]
    _pairs(f"early exit at an entropy of at most {r['entropy']:g} nats", rows)


_ANSWERS = (("agreement", "agreement"), ("KL", "kl"), ("MSE", "mse"))  # with the whole network


def _profile(report: dict[str, Any]) -> None:
    metric = report["full"]["metric"]
    columns: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
        (
            "depth",
            lambda r: f"{r['depth']}" + (" <- cutoff" if r["depth"] == report["cutoff"] else ""),
        ),
        (metric, lambda r: f"{r['value']:.4f}"),
        ("95 %", lambda r: f"{r['low']:.4f} .. {r['high']:.4f}"),
        ("drop", lambda r: f"{r['drop']:+.4f}"),
        ("95 % paired", lambda r: f"{r['drop_low']:+.4f} .. {r['drop_high']:+.4f}"),
        *(
            (name, lambda r, key=key: f"{r[key]:.4f}")
            for name, key in _ANSWERS
            if key in report["depths"][0]
        ),
        ("share", lambda r: f"{100 * r['share']:.1f} %"),
        ("cosine", lambda r: f"{r['cosine']:+.3f}"),
    ]
    for name in ("influence", "angle", "cka", "leave_one_out", "taylor"):
        if name in report["blocks"][0]:
            columns.append((name.replace("_", "-"), lambda r, name=name: f"{r[name]:.4f}"))  # type: ignore[misc]
    rows = [d | b for d, b in zip(report["depths"], report["blocks"], strict=True)]
    found = report["cutoff"]
    verdict = (
        f"cutoff: {found} of {len(rows) - 1} blocks keep the drop within {report['max_drop']:g} ({report['bound']} bound)."
        if found is not None
        else f"no depth below {len(rows) - 1} keeps the drop within {report['max_drop']:g} ({report['bound']} bound)."
    )
    title = f"profile {report['source']} ({report['structure']['form']} form) on {report['data']}, n = {report['full']['examples']:,}"
    table(
        title,
        rows,
        columns,
        [
            verdict,
            "share, cosine: of what the block at this depth adds to the output.",
            "written: " + ", ".join(report["files"]),
        ],
    )
    if found is not None:
        out.print(
            f"next: acn-compress truncate {escape(str(report['source']))} OUT --max-drop {report['max_drop']:g}"
        )


def _inspect(r: dict[str, Any]) -> None:
    rows: list[tuple[str, Any]] = [("family", r["family"] or "unknown")]
    if not r["supported"]:
        _pairs(
            f"inspect {r['source']}",
            [
                *rows,
                ("supported", f"no: {r['why']}"),
                ("bytes", size(r["bytes"])),
                ("dtype", r["dtype"]),
            ],
        )
        return
    kept, of = len(r["blocks"]), r["source_blocks"]
    alphas = f", alpha {_range(r['alpha'])}" if r["form"] == "hybrid" else ""
    full = ", ".join(f"{n} {k}" for k, n in r["full_widths"].items())
    cut = [
        f"block {b}: " + ", ".join(f"{n} {k}" for k, n in w.items())
        for b, w in zip(r["blocks"], r["widths"], strict=True)
    ]
    parts = ", ".join(f"{k} {n:,}" for k, n in r["parts"].items())
    takes = ", ".join(
        f"{k} {v}" for k, v in r["input"].items() if k != "modality" and v is not None
    )
    rows += [
        ("class", r["class"]),
        ("task", r["task"] or "none: no head that can be trained here"),
        ("form", f"{r['form']} (layer: {r['layer']}{alphas})"),
        ("blocks", f"{kept}" if kept == of else f"{kept} of {of}: {_places(r['blocks'])}"),
        (
            "widths",
            f"{full} per block"
            if all(w == r["full_widths"] for w in r["widths"])
            else "; ".join(cut) + f" (of {full})",
        ),
        (
            "sparsity",
            f"{r['sparsity']:.1%} zeros among the weight matrices of the blocks"
            if r["sparsity"]
            else None,
        ),
        ("parameters", f"{r['parameters']:,} ({parts})"),
        ("weights", f"{size(r['bytes'])}, {r['dtype']}"),
        (r["input"]["modality"], takes),
        ("labels", _first_few(r["labels"])),
        ("made by", " -> ".join(s["step"] for s in r["history"])),
        (
            "profile",
            None
            if r["profile"] is None
            else "of these weights"
            if r["profile"]["matches"]
            else "of other weights: run profile again",
        ),
    ]
    _pairs(f"inspect {r['source']}", rows)


def _range(alpha: list[float]) -> str:
    low, high = min(alpha), max(alpha)
    return f"{low:g}" if low == high else f"{low:.3f} to {high:.3f}"


def _places(blocks: list[int]) -> str:
    first, last = blocks[0], blocks[-1]
    return (
        f"{first} to {last}"
        if blocks == list(range(first, last + 1))
        else ", ".join(map(str, blocks))
    )


def _first_few(names: list[str]) -> str:
    return (
        f"{len(names)}: {', '.join(names[:5])}" + (", ..." if len(names) > 5 else "")
        if names
        else ""
    )


def _export(r: dict[str, Any]) -> None:
    if r["format"] == "safetensors":
        _model(r)
        return
    quantized = (
        f"int8, mean cosine with the source {r['cosine']:.4f} (lowest {r['cosine_min']:.4f})"
        if "cosine" in r
        else None
    )
    exits = None
    if "exit_entropy" in r:
        left = ", ".join(map(str, r["exit_depths"]))
        exits = f"at an entropy of at most {r['exit_entropy']:g} nats (input exit_entropy); verified leaving at depth {left}"
    rows = [
        (
            "file",
            f"{r['out']}/{r['file']}, {size(r['bytes'])} (parameters alone: {size(r['parameter_bytes'])})",
        ),
        ("inputs", ", ".join(r["inputs"]) + " (dynamic batch)"),
        ("outputs", ", ".join(r["outputs"])),
        (
            "verified",
            f"in ONNX Runtime at {', '.join(r['compared'])}: largest difference {r['max_difference']:.1e} of {r['tolerance']:.0e} allowed",
        ),
        ("early exit", exits),
        ("int8", quantized),
        ("same answer", f"{r['agreement']:.1%}"),
        ("note", r.get("note")),
    ]
    _pairs(
        f"export {r['source']} (opset {r['opset']}, {r['nodes']} nodes, {r['seconds']:.0f} s)", rows
    )
    # how many leave early depends on what comes in, and a benchmark's inputs are random
    follow = (
        f"evaluate {r['source']} --data D --exit-entropy {r['exit_entropy']:g}"
        if exits
        else f"benchmark ORIGINAL {r['out']}"
    )
    out.print(escape(f"next: acn-compress {follow}"))


def _benchmark(r: dict[str, Any]) -> None:
    columns: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
        ("model", lambda v: v["source"]),
        ("runs in", lambda v: {"torch": "torch", "onnx": "ONNX Runtime"}[v["backend"]]),
        ("median ms", lambda v: f"{1000 * v['median']:.3f}"),
        ("middle half", lambda v: f"{1000 * v['q1']:.3f} .. {1000 * v['q3']:.3f}"),
        ("against the first", lambda v: v["verdict"]),
        (
            "95 %",
            lambda v: (
                ""
                if v["ratio_low"] == v["ratio_high"]
                else f"{v['ratio_low']:.2f} .. {v['ratio_high']:.2f}"
            ),
        ),
        ("parameters", lambda v: f"{v['parameters']:,}" if "parameters" in v else ""),
        ("MFLOP", lambda v: f"{v['flops'] / 1e6:,.1f}" if "flops" in v else ""),
        ("bytes", lambda v: size(v["bytes"])),
    ]
    threads = f"{r['threads']} thread" + ("s" if r["threads"] > 1 else "")
    title = f"batch {r['batch_size']}, {threads}, {r['repeats']} rounds, interleaved, on {r['machine']['processor']}"
    from acn_compress.recipe.table import busy_note

    table(title, r["rows"], columns, [note for note in [busy_note(r["busy"]).strip()] if note])


def _compare(r: dict[str, Any]) -> None:
    from acn_compress.steps.compare import gain, milliseconds

    metric, noise = r["whole"]["metric"], r["noise"]
    columns: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
        ("depth", lambda v: v["depth"]),
        ("route", lambda v: v["route"]),
        (metric, lambda v: f"{v['clean']:.4f}"),
        ("above drop-last [95 %, paired]", lambda v: gain(v, "clean")),
    ]
    if noise:
        columns += [
            (f"under {noise}", lambda v: f"{v['noisy']:.4f}"),
            ("above drop-last", lambda v: gain(v, "noisy")),
        ]
    columns += [
        ("ms", milliseconds),
        ("seeds", lambda v: v["seeds"]),
        ("training seconds", lambda v: f"{v['seconds']:.0f}"),
    ]
    whole = (
        f"whole network: {metric} {quality(r['whole'])}"
        + (f", under {noise} {r['whole']['noisy']:.4f}" if noise else "")
        + f", {milliseconds(r['whole'])} ms per example"
    )
    title = f"compare {r['source']}: every route for what {r['budget']['epochs_of_whole']:g} epochs of the whole network cost"
    table(
        title,
        r["table"],
        columns,
        [whole, f"written: {r['out']}/compare.json, compare.png, README.md"],
    )


def _run(r: dict[str, Any]) -> None:
    from acn_compress.recipe.table import cells, speed_note, verdict

    head, body = cells(r)
    grid = Table(
        title=escape(
            f"{r['recipe']}: {r['eval_data']}, n = {r['examples']:,}; speed with batch 1, one thread"
        ),
        title_justify="left",
    )
    for i, name in enumerate(head):
        grid.add_column(escape(name), justify="left" if i == 0 else "right")
    for number, line in enumerate(body):
        grid.add_row(
            *map(escape, line),
            end_section=number + 1 < len(body)
            and body[number + 1][0].startswith("baseline") > line[0].startswith("baseline"),
        )
    out.print(grid)
    if said := verdict(r):
        out.print(escape(said))
    out.print(escape(f"{speed_note(r)} {len(r['steps'])} steps, {_duration(r['seconds'])}."))
    if r["compare"] is not None:
        _compare(r["compare"])
    lies = [
        ("model", r["final"]),
        *(("ONNX", f"{e}/model.onnx") for e in r["exports"]),
        ("this table", f"{r['out']}/README.md, table.json"),
    ]
    _pairs("", lies)
    target = r["exports"][-1] if r["exports"] else r["final"]
    out.print(
        escape(
            f"next: acn-compress inspect {r['final']}, or your own: acn-compress run {r['recipe']} --source CHECKPOINT --data DATA"
        )
    )
    out.print(escape(f"      acn-compress benchmark {r['rows'][0]['path']} {target}"))


def _validate(report: dict[str, Any]) -> None:
    out.print(f"{escape(report['recipe'])}: valid, {report['steps']} steps.")


_SHOW: dict[str, Callable[[dict[str, Any]], None]] = {
    "benchmark": _benchmark,
    "compare": _compare,
    "evaluate": _evaluate,
    "export": _export,
    "inspect": _inspect,
    "profile": _profile,
    "run": _run,
    "validate": _validate,
}
