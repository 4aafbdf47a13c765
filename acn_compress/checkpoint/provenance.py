"""Where a model comes from: every step so far, and the machine and packages it ran on."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from acn_compress.checkpoint.published import published
from acn_compress.checkpoint.source import Source
from acn_compress.errors import ConfigError, ModelDirError
from acn_compress.found import Found
from acn_compress.options import STEPS
from acn_compress.quality import Outcome

PACKAGES = (
    "acn-compress",
    "torch",
    "transformers",
    "safetensors",
    "torch-pruning",
    "onnx",
    "onnxruntime",
    "openvino",
    "executorch",
    "timm",
    "peft",
    "soundfile",
    "soxr",
)


class Origin(Found):
    """What a step read."""

    name: str
    weights_sha256: str
    """Of the weights as they were when they were read."""


class Entry(Found):
    """One step."""

    step: str
    options: dict[str, Any]
    seed: int | None
    source: Origin | None
    """None is random weights."""
    packages: dict[str, str]
    finished: str
    quality: Outcome | None = None
    """Of what the step made; None if it was not measured."""

    @property
    def prepares(self) -> bool:
        """Whether what it made is still an original (`options.Verb.prepares`)."""
        verb = STEPS.get(self.step)
        return verb is not None and verb.model_construct(**self.options).prepares


class Provenance(Found):
    """provenance.json."""

    version: Literal[1] = 1
    steps: tuple[Entry, ...] = ()
    files: tuple[str, ...] | None = None
    """What the last step wrote beside it; None where an earlier version did."""

    @property
    def quality(self) -> Outcome | None:
        """Of what the last step made; None if it was not measured."""
        return self.steps[-1].quality if self.steps else None

    @property
    def first(self) -> Entry | None:
        """The first step that did more than prepare: it began with the original."""
        return next((e for e in self.steps if e.source is not None and not e.prepares), None)

    @classmethod
    def read(cls, data: object, where: str) -> Provenance:
        """Validate what was read from a file.

        Raises:
            ModelDirError: in one line, if this version does not write such a thing.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ModelDirError(
                f"{where}: provenance.json is not one that this version writes (version 1): "
                f"{place}: {first['msg']}."
            ) from None


def history(source: Source | None) -> Provenance:
    """The steps that led to a source; none for a checkpoint of somebody else's.

    Raises:
        ModelDirError: for a provenance.json that is not ours.
    """
    stored = None if source is None else source.read("provenance.json")
    return (
        Provenance() if source is None or stored is None else Provenance.read(stored, source.name)
    )


def provenance(
    source: Source | None,
    step: str,
    options: dict[str, Any],
    seed: int | None,
    quality: Outcome | None = None,
) -> dict[str, Any]:
    """The source's provenance with this step added, as it is published.

    Args:
        quality: of what the step made; None if it was not measured.
    """
    entry = Entry(
        step=step,
        options=published(options),
        seed=seed,
        source=None
        if source is None
        else Origin(name=published(source.name), weights_sha256=source.sha256()),
        packages=packages(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        quality=handed_on(quality),
    )
    return Provenance(steps=(*history(source).steps, entry)).plain()


def handed_on(quality: Outcome | None) -> Outcome | None:
    """What became of the quality, without places of this machine."""
    return None if quality is None else Outcome.model_validate(published(quality.plain()))


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
