"""doctor: whether this machine can do the work, and what to do where it cannot."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from acn_compress import compat
from acn_compress.checkpoint.config import config_source
from acn_compress.checkpoint.files import size
from acn_compress.checkpoint.load import from_config
from acn_compress.checkpoint.provenance import machine
from acn_compress.errors import AcnError
from acn_compress.events import Progress
from acn_compress.onnx.write import write_onnx
from acn_compress.options import EXTRAS, Doctor
from acn_compress.reports.helped import Check, Doctored

ROOM = 2_000_000_000  # bytes of disk and of memory below which work on usual models fails
TINY = {
    "model_type": "vit",
    "architectures": ["ViTForImageClassification"],
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 8,
    "patch_size": 4,
}


def run(how: Doctor, progress: Progress | None = None) -> Doctored:
    """Look at this machine; nothing outside a temporary directory is written."""
    checks = [*_versions(), *_processors(), *_extras(), *_room(), _export()]
    return Doctored(step=how.verb, checks=tuple(checks))


def _versions() -> Iterator[Check]:
    for name, version in machine().items():
        if name not in EXTRAS:
            yield Check(name=name, found=version)


def _processors() -> Iterator[Check]:
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = torch.get_num_threads()
    many = None
    if usable is not None and threads > usable:
        many = f"more threads than processors: export OMP_NUM_THREADS={usable}"
    yield Check(name="threads", found=f"{threads} of torch on {usable} processors", advice=many)
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else "none that torch can use: work is on the CPU"
    yield Check(name="accelerator", found=device)


def _extras() -> Iterator[Check]:
    for name, (extra, what) in EXTRAS.items():
        there = find_spec(name) is not None
        install = f"For {what}: pip install 'acn-compress[{extra}]'"
        found = machine()[name] if there else "not installed"
        yield Check(name=name, found=found, hint=None if there else install)
    if compat.stands_in_for_torchvision():
        found = "of another build than torch: acn-compress works, transformers alone does not"
        yield Check(name="torchvision", found=found, hint=compat.fitting_torchvision())


def _room() -> Iterator[Check]:
    for name, where in (("disk here", Path.cwd()), ("disk for temporary", tempfile.gettempdir())):
        free = shutil.disk_usage(where).free
        advice = f"less than {size(ROOM)}: make room, or work elsewhere" if free < ROOM else None
        yield Check(name=name, found=f"{size(free)} free", advice=advice)
    if (left := _memory()) is not None:
        advice = f"less than {size(ROOM)}: close what uses it" if left < ROOM else None
        yield Check(name="memory", found=f"{size(left)} free", advice=advice)


def _memory() -> int | None:
    """Bytes that can be had, or None where the system does not say."""
    table = Path("/proc/meminfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    found = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((1024 * int(kilobytes) for kilobytes in found), None)


def _export() -> Check:
    """Whether a small network, exported, says in ONNX Runtime what it says in torch."""
    name = "export to ONNX"
    with tempfile.TemporaryDirectory() as place:
        config = Path(place) / "config.json"
        config.write_text(json.dumps(TINY), encoding="utf-8")
        try:
            net = from_config(config)
            found = write_onnx(net, Path(place) / "model.onnx", config_source(config)[0])
        except (AcnError, ImportError, OSError, RuntimeError) as error:
            why = " ".join(str(error).split())[:200]
            told = "install the versions that acn-compress asks for: pip install -U acn-compress"
            return Check(name=name, found=f"fails ({type(error).__name__}: {why})", advice=told)
    return Check(name=name, found=f"agrees with torch to {found.max_difference:.0e}")
