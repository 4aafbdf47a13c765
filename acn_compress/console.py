"""What the commands print: tables on stdout, progress on stderr (a live line in a terminal, plain lines elsewhere)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 140)


def show(report: dict[str, Any]) -> None:
    """Print the report of a step."""
    _SHOW.get(report["step"], _model)(report)


def step_started(number: int, total: int, name: str, reused: bool) -> None:
    """One line on stderr before a step of a recipe."""
    err.print(f"[bold]{number}/{total} {escape(name)}[/bold]" + (" (finished before, reused)" if reused else ""))


def training_progress() -> Callable[[dict[str, Any]], None]:
    """A callback for `training.fit`."""
    return _Live() if err.is_terminal else _Lines()


class _Live:
    """One moving line: step, loss, alpha, metric, time left."""

    def __init__(self) -> None:
        self._bar: Progress | None = None

    def __call__(self, info: dict[str, Any]) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.completed}/{task.total}"), BarColumn(24), TextColumn("{task.description}"), console=err, transient=True
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

    def __call__(self, info: dict[str, Any]) -> None:
        tenth = 10 * info["step"] // info["steps"]
        if info["step"] >= info["steps"] or (tenth != self._tenth and time.monotonic() - self._last > 2):
            self._last, self._tenth = time.monotonic(), tenth
            err.print(f"step {info['step']}/{info['steps']} {_numbers(info)}")


def _numbers(info: dict[str, Any]) -> str:
    metric = "" if info.get("metric") is None else f" metric {info['metric']:.3f}"
    return f"loss {info['loss']:.4f} alpha {info['alpha']:.2f}{metric} {_duration(info['seconds_left'])} left"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def quality(found: dict[str, Any]) -> str:
    """value [low, high]."""
    return f"{found['value']:.4f} [{found['low']:.4f}, {found['high']:.4f}]"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""


def _pairs(title: str, rows: list[tuple[str, Any]]) -> None:
    table = Table(title=escape(title), title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None and value != "":
            table.add_row(name, escape(str(value)))
    out.print(table)


def table(
    title: str, rows: list[dict[str, Any]], columns: list[tuple[str, Callable[[dict[str, Any]], Any]]], footer: Sequence[str] = ()
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
        rows.append(("form", f"{s['form']} (layer {s['layer']}, alpha {mean:.2g}), {len(s['blocks'])} of {s['source_blocks']} blocks"))
    for key in ("why", "achieved_of", "note"):
        rows.append((key.split("_")[0], report.get(key)))
    if "target" in report:
        rows.append(("sparsity", f"asked {report['target']:.4f}, achieved {report['achieved']:.4f} of {report.get('of', '')}"))
    if report.get("max_difference") is not None:
        rows.append(("check", f"largest difference to the masked original {report['max_difference']:.1e}"))
    before = report.get("parameters_before")
    rows.append(("parameters", f"{report['parameters']:,}" + (f" (before {before:,})" if before else "")))
    rows.append(
        ("bytes", f"{size(report['bytes'])} on disk" + (f", {size(report['gzip_bytes'])} with gzip" if "gzip_bytes" in report else ""))
    )
    for key in ("before", "after"):
        if key in report:
            q = report[key]
            rows.append((key, f"{q['metric']} {quality(q)}, loss {q['loss']:.4f}, n = {q['examples']:,}"))
    if "drop" in report:
        rows.append(("drop", f"{report['drop']['drop']:+.4f} [{report['drop']['low']:+.4f}, {report['drop']['high']:+.4f}] (paired, 95 %)"))
    elif report.get("data") and report.get("eval_data") is None and "training" in report:
        rows.append(("quality", "not measured: the data has one split only; pass --eval-data"))
    if "training" in report:
        t = report["training"]
        rows.append(("training", f"{t['steps']} steps in {_duration(t['seconds'])}, {t['precision']}, lr {t['lr']:g}"))
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
    extra = [(k, v) for k, v in r.items() if k not in {"metric", "value", "low", "high", "examples"}]
    rows: list[tuple[str, Any]] = [
        ("data", f"{report['data']}" + (f", noise {report['noise']}" if report["noise"] else "") + f", n = {r['examples']:,}")
    ]
    rows += [(r["metric"], quality(r)), *((k, f"{v:.4f}") for k, v in extra)]
    if "drop" in report:
        d = report["drop"]
        rows += [("against", f"{report['against']}: {quality(report['other'])}")]
        rows += [("drop", f"{d['drop']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}] (paired, 95 %)")]
    _pairs(f"evaluate {report['source']}", rows)


def _profile(report: dict[str, Any]) -> None:
    metric = report["full"]["metric"]
    columns: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
        ("depth", lambda r: f"{r['depth']}" + (" <- cutoff" if r["depth"] == report["cutoff"] else "")),
        (metric, lambda r: f"{r['value']:.4f}"),
        ("95 %", lambda r: f"{r['low']:.4f} .. {r['high']:.4f}"),
        ("drop", lambda r: f"{r['drop']:+.4f}"),
        ("95 % paired", lambda r: f"{r['drop_low']:+.4f} .. {r['drop_high']:+.4f}"),
        ("agreement", lambda r: f"{r['agreement']:.4f}"),
        ("KL", lambda r: f"{r['kl']:.4f}"),
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
        [verdict, "share, cosine: of what the block at this depth adds to the output.", "written: " + ", ".join(report["files"])],
    )
    if found is not None:
        out.print(f"next: acn-compress truncate {escape(str(report['source']))} OUT --max-drop {report['max_drop']:g}")


def _any(report: dict[str, Any]) -> None:
    """A report without a layout of its own: its plain values."""
    rows = [(k, ", ".join(map(str, v)) if isinstance(v, list) else v) for k, v in report.items() if k != "step" and not isinstance(v, dict)]
    nested = [(f"{k}.{n}", w) for k, v in report.items() if isinstance(v, dict) for n, w in v.items() if not isinstance(w, (dict, list))]
    _pairs(report["step"], [*rows, *nested])


def _validate(report: dict[str, Any]) -> None:
    out.print(f"{escape(report['recipe'])}: valid, {report['steps']} steps.")


_SHOW: dict[str, Callable[[dict[str, Any]], None]] = {
    "evaluate": _evaluate,
    "profile": _profile,
    "validate": _validate,
    "inspect": _any,
    "export": _any,
    "benchmark": _any,
    "compare": _any,
    "run": _any,
}
