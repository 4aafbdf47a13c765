"""What each format that export writes costs and says: ONNX, OpenVINO and torch.export of the same
network, run side by side.

    python -m benchmarks.formats MODEL [MODEL ...]

One example of 128 tokens (or one image) on one thread, interleaved with the network as transformers
runs it; a format whose package is missing is left out. Writes formats.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from acn_compress import export
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.errors import MissingDependencyError
from acn_compress.found import Found
from acn_compress.measure.timing import fixed_threads, interleave, judge, spread
from acn_compress.onnx.compare import Run
from acn_compress.onnx.layout import onnx_file
from acn_compress.onnx.session import Array, Session
from acn_compress.options import Format
from acn_compress.targets import openvino, torch_export
from benchmarks.command import of_networks

ROUNDS = 15
OPENED: dict[Format, Callable[[Path], Run]] = {
    "onnx": lambda out: Session(out / onnx_file()).run,
    "openvino": lambda out: openvino.running(out / openvino.FILE),
    "torch-export": lambda out: torch_export.running(out / torch_export.FILE),
}


def exported(source: Path, place: Path) -> dict[Format, Found]:
    """What the export to each format reports."""
    found: dict[Format, Found] = {}
    for name in OPENED:
        try:
            found[name] = export(source, place / name, format=name)
        except MissingDependencyError as error:
            print(error)
    return found


def compared(source: Path, place: Path) -> list[dict[str, Any]]:
    """Bytes, largest difference and milliseconds of each, the network in torch first."""
    reports, net = exported(source, place), load_source(find_source(source))
    feeds = Session(place / "onnx" / onnx_file()).feeds(1, 128)

    def plain() -> Array:
        with torch.inference_mode():
            given = {name: torch.from_numpy(value) for name, value in feeds.items()}
            logits: Array = net(**given).logits.numpy()
        return logits

    opened = {name: OPENED[name](place / name) for name in reports}
    calls = [plain, *(lambda r=run: r(["logits"], feeds)[0] for run in opened.values())]
    first, *_ = said = [call() for call in calls]
    with net.evaluating(), fixed_threads(1):
        # of the whole process: OpenVINO computes in a thread of its own
        seconds = interleave(calls, ROUNDS, clock=time.process_time)
    rows = []
    for name, output, own in zip(["torch", *opened], said, seconds, strict=True):
        report = reports.get(name)  # type: ignore[call-overload]
        rows.append(
            {
                "format": name,
                "bytes": None if report is None else report["bytes"],
                "compared": None if report is None else report["compared"],
                "max_difference": None if report is None else report["max_difference"],
                "difference": float(np.abs(output - first).max()),
                **spread(own),
                **judge(own, seconds[0], own is seconds[0]),
            }
        )
    return rows


def main() -> None:
    """The command."""
    of_networks(__doc__, "formats", compared)


if __name__ == "__main__":
    main()
