"""What the commands share: how they read their options, and where their results go."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from acn_compress.checkpoint.files import read_json, write_json
from acn_compress.checkpoint.provenance import machine
from acn_compress.checkpoint.published import published
from acn_compress.found import Found

RESULTS = Path(__file__).parent / "results"
Row = TypeVar("Row", bound=Found)


def parser(text: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows the docstring of its command as it stands."""
    return argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def rounded(data: object) -> object:
    """Plain data with floats cut to five digits behind the point, and text for keys."""
    if isinstance(data, Found):
        return rounded(data.plain())
    if isinstance(data, dict):
        return {str(k): rounded(v) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [rounded(v) for v in data]
    return round(data, 5) if isinstance(data, float) else data


def write(file: Path, report: object) -> None:
    """Write a result, without the places of this machine."""
    write_json(file, published(report))


def stored(file: Path, kind: type[Row], **of: object) -> list[Row]:
    """What a file has from earlier runs of the same: rows of other routes and seeds stay in it.

    Args:
        of: what the file must say beside its rows for them to be of the same.
    """
    report = read_json(file) or {}
    same = "rows" in report and all(report.get(name) == value for name, value in of.items())
    return [kind.model_validate(row) for row in report["rows"]] if same else []


def of_networks(
    text: str | None, benchmark: str, rows: Callable[[Path, Path], list[dict[str, object]]]
) -> None:
    """A command that looks at networks one by one.

    Args:
        rows: (network, a folder of its own) -> what was found.
    """
    command = parser(text)
    command.add_argument("sources", type=Path, nargs="+", help="networks")
    found = {}
    for source in command.parse_args().sources:
        with tempfile.TemporaryDirectory() as place:
            found[source.name] = rows(source, Path(place))
        for row in found[source.name]:
            print(source.name, row, flush=True)
    report = {"benchmark": benchmark, "machine": machine(), "models": found}
    write(RESULTS / f"{benchmark}.json", report)
