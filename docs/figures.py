"""The table of the README, from what `benchmarks.budgets` wrote; and how a page gets its tables."""

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
HEAD = """
| network | asked | speed | parameters of blocks left | accuracy | change [95 %] | last blocks dropped: speed | change [95 %] |
|---|---|---:|---:|---:|---:|---:|---:|
"""  # noqa: E501


def placed(text: str, made: str) -> str:
    """A page with what was made for it in its place."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{made}{END}{rest.split(END)[1]}"


def readme(text: str) -> str:
    """The README with the table in its place."""
    return placed(text, table())


def table() -> str:
    """Every demand on every network that was measured, untrained unless it asks for epochs."""
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in _rows())


def _rows() -> Iterator[tuple[str, ...]]:
    for source, name in NETWORKS.items():
        for file in sorted(RESULTS.glob(f"compress-{source}*.json"), key=lambda f: f.stem):
            for met in json.loads(file.read_text())["rows"]:
                if met.get("seed", 0) == 0:
                    yield (name, *cells(met))


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
