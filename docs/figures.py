"""The figures of the README, from what `benchmarks.budgets` wrote; and how a page gets what was
made for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from acn_compress import figures
from acn_compress.quality import Drop

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
BEGIN, END = "<!-- made from benchmarks/results by `make docs` -->", "<!-- end -->"
NETWORKS = {
    "minilm-sst2": "MiniLM, SST-2",
    "mpnet-sst2": "MPNet 12 x 768, SST-2",
    "dinov2-cifar": "DINOv2-S shape, CIFAR-10",
    "vit-cifar": "ViT 12 x 128, CIFAR-10",
    "mixer": "Mixer 12 x 128, CIFAR-10",
}
FIRST, FIRST_DEMAND = "minilm-sst2", "speedup=2"
SHOWN = {FIRST_DEMAND, "max_drop=0.01", "max_drop=0.01+quantize=auto"}
HEAD = """
| network | asked | speed | parameters of blocks left | accuracy | change [95 %] | last blocks dropped: speed | change [95 %] |
|---|---|---:|---:|---:|---:|---:|---:|
"""  # noqa: E501


def placed(text: str, *made: str) -> str:
    """A page with what was made for it in its places, in their order."""
    first, *rest = text.split(BEGIN)
    parts = [f"{BEGIN}{new}{END}{old.split(END)[1]}" for new, old in zip(made, rest, strict=True)]
    return "".join([first, *parts])


def readme(text: str) -> str:
    """The README with its first figure and its table in their places."""
    return placed(text, headline(), table())


def headline() -> str:
    """What came of the README's first command."""
    first = next(m for m in met(FIRST) if m["demand"] == FIRST_DEMAND)
    whole, mine, *_ = first["rows"]
    _, speed, share, accuracy, change, plain, lost = (
        cell.replace("x", " times") for cell in cells(first)
    )
    n, of_all = whole["quality"]["examples"], 100 * mine["parameters"] / whole["parameters"]
    return f"""
MiniLM, fine-tuned on SST-2: **{speed} as fast, {share} of its blocks' parameters ({of_all:.0f} %
with the embeddings), {accuracy} % accuracy: {change} points** (95 %, n = {n:,}; ONNX Runtime, one
thread, 32 tokens, nothing trained). Its last blocks dropped instead, {plain} as fast: {lost}.
"""


def table() -> str:
    """Some demands, untrained; those of all are in docs/results.md."""
    rows = (
        (name, *cells(one))
        for source, name in NETWORKS.items()
        for one in met(source)
        if one["demand"] in SHOWN and not one.get("seed")
    )
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def met(source: str) -> Iterator[dict[str, Any]]:
    """What came of every demand on a network, by draws."""
    for file in sorted(RESULTS.glob(f"compress-{source}*.json"), key=lambda f: f.stem):
        yield from json.loads(file.read_text())["rows"]


def cells(met: dict[str, Any]) -> tuple[str, ...]:
    """What was asked, and what came of it, beside the last blocks dropped."""
    whole, mine, *others = met["rows"]
    plain = others[-1]
    asked = " ".join(
        f"--{part.replace('_', '-').replace('=', ' ')}" for part in met["demand"].split("+")
    )
    return (
        f"`{asked}`" + ("" if met["held"] else " (not held)"),
        _speed(whole, mine),
        f"{100 * met['block_parameters']:.0f} %",
        f"{100 * mine['quality']['value']:.1f} of {100 * whole['quality']['value']:.1f}",
        _change(mine),
        _speed(whole, plain),
        _change(plain),
    )


def _speed(whole: dict[str, Any], row: dict[str, Any]) -> str:
    int8 = " (int8)" if "int8" in row["name"] else ""
    return f"{whole['milliseconds'] / row['milliseconds']:.1f}x{int8}"


def _change(row: dict[str, Any]) -> str:
    return figures.change(Drop.model_validate(row["drop"]), row["quality"]["metric"])
