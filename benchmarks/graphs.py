"""What tools that optimise a graph make of an export, beside what ONNX Runtime does by itself.

    python -m benchmarks.graphs MODEL [MODEL ...]

onnxslim (`pip install onnxslim`) and ONNX Runtime's transformer optimizer, whose kind is told by
the modality. Outputs are compared and calls interleaved, on one thread. Writes graphs.json.
"""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.transformers import optimizer

from acn_compress import export
from acn_compress.measure.timing import interleave, judge, spread
from acn_compress.onnx.layout import file_bytes, onnx_file
from acn_compress.onnx.session import Session
from benchmarks.command import of_networks

ROUNDS = 15


def optimised(file: Path) -> dict[str, Path]:
    """The file by what was done to it."""
    slim, fused = file.with_name("slim.onnx"), file.with_name("fused.onnx")
    onnx.save(import_module("onnxslim").slim(onnx.load(str(file))), str(slim))
    texts = any(i.name == "input_ids" for i in onnx.load(str(file)).graph.input)
    kind = "bert" if texts else "vit"
    optimizer.optimize_model(str(file), model_type=kind, opt_level=0).save_model_to_file(str(fused))
    return {"as exported": file, "onnxslim": slim, "transformer optimizer": fused}


def compared(source: Path, place: Path) -> list[dict[str, Any]]:
    """Nodes, bytes, difference and milliseconds of each."""
    export(source, place / "onnx")
    files = optimised(place / "onnx" / onnx_file())
    running = [Session(path) for path in files.values()]
    feeds = running[0].feeds(1, 128)
    first, *_ = said = [session.run(None, feeds)[0] for session in running]
    calls = [lambda s=session: s.run(None, feeds) for session in running]
    seconds = interleave(calls, ROUNDS, clock=time.thread_time)
    return [
        {
            "graph": name,
            "nodes": len(onnx.load(str(path)).graph.node),
            "bytes": file_bytes(path),
            "difference": float(np.abs(output - first).max()),
            **spread(own),
            **judge(own, seconds[0], own is seconds[0]),
        }
        for (name, path), output, own in zip(files.items(), said, seconds, strict=True)
    ]


def main() -> None:
    """The command."""
    of_networks(__doc__, "graphs", compared)


if __name__ == "__main__":
    main()
