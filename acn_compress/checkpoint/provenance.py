"""Where a model comes from: every step so far, and the machine and packages it ran on."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from acn_compress.checkpoint.source import Source
from acn_compress.errors import ConfigError, ModelDirError

PACKAGES = (
    "acn-compress",
    "torch",
    "transformers",
    "safetensors",
    "torch-pruning",
    "onnx",
    "onnxruntime",
    "timm",
)


def provenance(
    source: Source | None, step: str, options: dict[str, Any], seed: int | None
) -> dict[str, Any]:
    """The source's provenance with this step added."""
    before = (source.read("provenance.json") if source is not None else None) or {
        "version": 1,
        "steps": [],
    }
    if before.get("version") != 1 or not isinstance(before.get("steps"), list):
        raise ModelDirError(
            f"{source.name if source else ''}: provenance.json is not one that this version writes (version 1)."
        )
    entry = {
        "step": step,
        "options": options,
        "seed": seed,
        "source": None
        if source is None
        else {"name": source.name, "weights_sha256": source.sha256()},
        "packages": packages(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return {"version": 1, "steps": [*before["steps"], entry]}


def options_of(**options: Any) -> dict[str, Any]:
    """Options as provenance stores them: plain JSON, paths as text.

    Raises:
        ConfigError: if an option is not plain data.
    """
    try:
        plain: dict[str, Any] = json.loads(json.dumps(options, default=str))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"options must be plain data: {error}") from None
    return plain


def packages() -> dict[str, str]:
    """Versions of what the result depends on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str]:
    """What a measured figure depends on: processor, Python, packages."""
    return {"processor": _processor(), "python": platform.python_version(), **packages()}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
