"""The final table of a run: every model directory and ONNX file on the same examples, paired with
the original, timed side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.data.load import Data, Noise
from acn_compress.measure.quality import Scores, measure, paired, summary
from acn_compress.measure.timing import BUSY, NO_DIFFERENCE, UNCLEAR
from acn_compress.network.network import Network
from acn_compress.onnx.write import file_bytes, session
from acn_compress.steps.benchmark import benchmark
from acn_compress.tasks import score
from acn_compress.training.job import Job

BASELINE = "baseline: "  # how the names of the baseline's models begin
Named = tuple[str, str]  # (name in the table, directory)


def table(
    models: list[Named],
    exports: list[Named],
    *,
    original: str,
    final: str,
    baseline: str | None,
    job: Job,
    noise: str | None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure every model of a run.

    Args:
        models: model directories in order.
        exports: directories with a model.onnx, in the order they were made.
        original: directory of the model that drops and speed-ups are against; one of `models`.
        final, baseline: the models that the verdict compares.
        job: names the data to measure on.
        noise: also measured under it.
    Returns:
        metric, eval_data, examples, machine, busy (see `benchmark`), gain (of final over baseline,
        paired: gain, low, high; or None),
        and rows: name, path, format, value, low, high, drop (paired: drop, low, high), noisy
            (value), parameters, bytes, torch and onnx
        (seconds per example: median, and speed-up against the original).
    """
    corrupt = None if noise is None else Noise.parse(noise)
    models = sorted(models, key=lambda m: m[1] != original)  # the original is measured first
    rows: list[dict[str, Any]] = []
    scores: dict[str, Scores] = {}
    data: Data | None = None
    whole: Network | None = None
    for name, path in models:
        source = modeldir.find_source(path)
        net = checkpoint.load_source(source, device=device)
        whole = whole or net
        data = job.eval_split(net, source, whole)
        assert data is not None
        scores[path] = measure(net, data)
        row = _row(name, path, scores[path], scores[original], data)
        row |= {
            "format": "torch",
            "parameters": net.parameters,
            "bytes": source.bytes(),
        }
        if corrupt is not None:
            row["noisy"] = measure(net, data, noise=corrupt).value
        rows.append(row)
    assert data is not None
    for name, path in exports:
        file = Path(path) / "model.onnx"
        row = _row(name, path, _onnx_scores(file, data, None), scores[original], data)
        row |= {"format": "onnx", "parameters": None, "bytes": file_bytes(file)}
        if corrupt is not None:
            row["noisy"] = _onnx_scores(file, data, corrupt).value
        rows.append(row)
    rows.sort(
        key=lambda row: row["name"].startswith(BASELINE)
    )  # the chain with its exports, then the baseline
    timed = benchmark([row["path"] for row in rows])
    for row in rows:
        for t in (t for t in timed["rows"] if t["source"] == row["path"]):
            row[t["backend"]] = {
                k: t[k] for k in ("median", "ratio", "ratio_low", "ratio_high", "verdict")
            }
    before = summary(scores[original], data.task)
    gain = None if baseline is None else paired(scores[baseline], scores[final])
    return {
        "metric": before["metric"],
        "eval_data": data.name,
        "examples": before["examples"],
        "machine": timed["machine"],
        "busy": timed["busy"],
        "gain": None
        if gain is None
        else {"gain": gain["drop"], "low": gain["low"], "high": gain["high"]},
        "rows": rows,
    }


def _row(name: str, path: str, found: Scores, original: Scores, data: Data) -> dict[str, Any]:
    quality = summary(found, data.task)
    row: dict[str, Any] = {
        "name": name,
        "path": path,
        **{k: quality[k] for k in ("value", "low", "high")},
    }
    return row | ({} if found is original else {"drop": paired(found, original)})


def _onnx_scores(file: Path, data: Data, noise: Noise | None) -> Scores:
    """The quality of an ONNX file, run in ONNX Runtime on the same examples."""
    running = session(file)
    wanted, names = [i.name for i in running.get_inputs()], [o.name for o in running.get_outputs()]
    batches = []
    for batch in data.batches(64, noise=noise):
        found = running.run(names, {k: np.ascontiguousarray(batch[k].numpy()) for k in wanted})
        batches.append(
            score(data.task, _Output(zip(names, map(torch.from_numpy, found), strict=True)), batch)
        )
    return Scores.gather(batches)


class _Output(dict[str, torch.Tensor]):
    """What ONNX Runtime gave, with the names as attributes: what a scorer reads."""

    def __getattr__(self, name: str) -> torch.Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def cells(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table as text."""
    noisy = report["noise"]
    head = [
        "model",
        f"{report['metric']} [95 %]",
        "drop [95 %, paired]",
        *([f"under {noisy}"] if noisy else []),
    ]
    head += ["parameters", "bytes", "torch ms", "ONNX ms", "speed-up"]
    body = []
    for r in report["rows"]:
        drop = r.get("drop")
        line = [r["name"], f"{r['value']:.4f} [{r['low']:.4f}, {r['high']:.4f}]"]
        line += [
            "" if drop is None else f"{drop['drop']:+.4f} [{drop['low']:+.4f}, {drop['high']:+.4f}]"
        ]
        line += [f"{r['noisy']:.4f}"] if noisy else []
        line += [
            "" if r["parameters"] is None else f"{r['parameters']:,}",
            modeldir.size(r["bytes"]),
        ]
        line += [f"{1000 * r[b]['median']:.2f}" if b in r else "" for b in ("torch", "onnx")]
        body.append([*line, _speed(r)])
    return head, body


def _speed(row: dict[str, Any]) -> str:
    """The speed-up in ONNX Runtime, or none where it lies within the noise."""
    timed = row.get("onnx") or row.get("torch")
    if timed is None or timed["verdict"] == "the measure of the others":
        return ""
    short = {NO_DIFFERENCE: "none", UNCLEAR: "unclear"}
    return short.get(timed["verdict"]) or f"{timed['ratio']:.2f}x"


def speed_note(report: dict[str, Any]) -> str:
    """How the last column is to be read."""
    note = "speed-up: in ONNX Runtime against the original; none = within the noise."
    return note + busy_note(report["busy"])


def busy_note(busy: float) -> str:
    """A warning if other work disturbed the timing, else nothing."""
    if busy <= BUSY:
        return ""
    return f" The machine was busy (a median is {busy:.1f} times its fastest sample): time again with acn-compress benchmark when it is quiet."


def verdict(report: dict[str, Any]) -> str:
    """The chain's last model beside the last baseline, in one sentence; also when we lose."""
    rows, gain = report["rows"], report["gain"]
    if gain is None:
        return ""
    ours = next(r for r in rows if r["path"] == report["final"])
    theirs = next(r for r in rows if r["path"] == report["baseline"])
    said = "ahead" if gain["low"] > 0 else "behind" if gain["high"] < 0 else "a draw"
    text = f"{ours['name']} against {theirs['name']}, same training budget: {report['metric']} {gain['gain']:+.4f} "
    text += f"[{gain['low']:+.4f}, {gain['high']:+.4f}] (paired, 95 %), {said}"
    if report["noise"]:
        text += f"; under noise {ours['noisy']:.4f} against {theirs['noisy']:.4f}"
    return text + "."


def markdown(report: dict[str, Any]) -> str:
    """The table as Markdown, with where everything lies."""
    head, body = cells(report)
    lines = [
        f"# {report['recipe']}",
        "",
        f"Measured on {report['eval_data']}, n = {report['examples']:,}; speed with batch 1, one thread.",
    ]
    lines += ["", "| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    lines += ["| " + " | ".join(line) + " |" for line in body]
    lines += ["", verdict(report), "", speed_note(report), ""]
    if report["compare"] is not None:
        lines += ["Every route to that depth with that budget: [compare](compare/README.md).", ""]
    lines += ["| folder | seconds |", "|---|---:|"]
    lines += [f"| `{s['folder']}` | {s['seconds']} |" for s in report["steps"]]
    machine = report["machine"]
    lines += ["", "Machine: " + ", ".join(f"{k} {v}" for k, v in machine.items()) + ".", ""]
    return "\n".join(lines)
