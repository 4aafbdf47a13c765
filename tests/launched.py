"""What `test_processes.py` has every process of a launch do:

    torchrun --nproc_per_node 2 launched.py MODEL PLACE

Rank r leaves what it found in PLACE/r.json; a signal and an error come to rank 1 alone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

import acn_compress as acn
from acn_compress import processes
from acn_compress.errors import AcnError, ConfigError, DataError
from acn_compress.training.batches import Seeded
from acn_compress.training.hooks import Stop
from acn_compress.training.interrupt import handling

HOW: dict[str, Any] = {"data": "digits", "batch_size": 32, "limit": 320, "eval_limit": 100}
CONVERT = {**HOW, "prefix_loss": 1.0, "hidden_weight": 1.0, "pull": 0.1, "augment": "crop"}
CONVERT |= {"epochs": 0.5, "label_smoothing": 0.1}
FINETUNE = {**HOW, "epochs": 0.8}
PROFILE: dict[str, Any] = {"data": "digits:test", "batch_size": 50, "limit": 130}
PROFILE |= {"measures": "influence,cka,leave-one-out,taylor"}
CUT: dict[str, Any] = {"depth": 2, "refit_data": "digits"}
CLIPS: dict[str, Any] = {"epochs": 2, "batch_size": 4, "prefix_loss": 1.0, "limit": 12}
STEP = 3  # in which the signal comes


def uneven() -> tuple[float, float]:
    """The mean over 1 + 2 values as this process has it, by weight and by number."""
    values = torch.arange(3.0)[processes.part()] + 1
    return float(processes.mean(values, values)), float(processes.mean(values))


def tell_one(args: object, state: Any, control: object, **_: object) -> None:
    """SIGTERM, to one process."""
    if processes.rank() and state.global_step == STEP:
        os.kill(os.getpid(), signal.SIGTERM)


def damaged(self: Seeded, drawn: object) -> dict[str, Any]:
    """An example that cannot be read."""
    raise DataError("row 7 is no image.")


def told(error: type[AcnError], name: str, *where: object, **how: Any) -> tuple[str, int]:
    """The error that a command ends with."""
    try:
        getattr(acn, name)(*where, progress=None, **how)
    except error as found:
        return str(found), found.exit_code
    raise AssertionError(f"{name} did not fail")


def main(model: str, place: Path) -> None:
    """Everything; what breaks the connection is the last."""
    own = processes.rank()
    found: dict[str, Any] = {"mean": processes.led(lambda: processes.together(uneven))}
    report = acn.convert(model, place / "converted", progress=None, **CONVERT)
    found["converted"] = report["after"]["value"]
    measured = acn.evaluate(model, data="digits:test", batch_size=50, progress=None)
    found["evaluated"] = measured["result"].plain()
    profiled = acn.profile(model, to=place / "profiled", progress=None, **PROFILE)
    found["profiled"] = profiled.plain()
    acn.truncate(model, place / "cut", progress=None, **CUT)
    kept = {**HOW, "epochs": 0.8, "teacher": model, "cache_teacher": True, "hidden_weight": 1.0}
    acn.finetune(model, place / "taught", progress=None, workers=1, **kept)
    if (place / "clips").is_dir():
        acn.convert(place / "hearing", place / "heard", place / "clips", progress=None, **CLIPS)
    odd = {**FINETUNE, "batch_size": 33}
    found["odd"] = told(ConfigError, "finetune", model, place / "odd", **odd)
    Stop.on_step_begin = lambda self, *args, **more: tell_one(*args, **more)
    with handling():
        found["stopped"] = told(AcnError, "finetune", model, place / "stopped", **FINETUNE)
    del Stop.on_step_begin
    if own:
        Seeded.__getitem__ = damaged  # type: ignore[method-assign]
    found["damaged"] = told(DataError, "finetune", model, place / "damaged", **FINETUNE)
    (place / f"{own}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
