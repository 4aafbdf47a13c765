"""The model directory: what the steps share. It is read whole or not at all, and written atomically
(a sibling temporary directory, then a rename), never into its own source.

    config.json, model.safetensors, tokenizer and image-processor files    as transformers users
    know them; structure in config.json report.json          what the step that wrote the directory
    found
    provenance.json      every step so far: options, seed, package versions, SHA-256 of the source's
        weights
    README.md            a model card written from them
    profile.json, .png   added by `profile`
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from acn_compress.architectures import timm
from acn_compress.errors import AcnError, CheckpointError, ConfigError, ModelDirError

PROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "chat_template*",
    "generation_config.json",
    "sentence_bert_config.json",
    "1_Pooling",
    "modules.json",
)
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


@dataclass(frozen=True)
class Source:
    """A checkpoint on this machine.

    Args:
        name: what the user called it.
        directory: where config and processor files lie.
        weights: the weight files, in order.
        loose: the weights are a file the user named, not part of a `save_pretrained` directory.
        architecture: the timm model that a loose file holds, where the user named one instead of a
            config.
    """

    name: str
    directory: Path
    weights: tuple[Path, ...]
    loose: bool = False
    architecture: str | None = None

    def sha256(self) -> str:
        """SHA-256 over the bytes of the weight files."""
        digest = hashlib.sha256()
        for path in self.weights:
            with path.open("rb") as file:
                while chunk := file.read(1 << 22):
                    digest.update(chunk)
        return digest.hexdigest()

    def bytes(self) -> int:
        """Bytes of the weight files on disk."""
        return sum(p.stat().st_size for p in self.weights)

    def read(self, file: str) -> dict[str, Any] | None:
        """A JSON object beside the weights, or None if there is no such file."""
        return None if self.loose else read_json(self.directory / file)

    @property
    def config(self) -> dict[str, Any]:
        """config.json."""
        return read_json(self.directory / "config.json") or {}


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None if there is no such file.

    Raises:
        ModelDirError: if the file is not a JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ModelDirError(f"{path}: cannot be read as JSON ({error}).") from None
    if not isinstance(data, dict):
        raise ModelDirError(f"{path}: found a JSON {type(data).__name__}, expected an object.")
    return data


def write_json(path: Path, data: Any) -> None:
    """Write JSON in one rename, so that a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def find_source(
    src: str | Path, *, config: str | Path | None = None, revision: str | None = None
) -> Source:
    """Find a checkpoint: a directory, a weight file (with `config`, unless config.json lies beside
    it), or a Hub id.

    A Hub id may end in "@" and a branch, tag or commit, which is the same as `revision`.

    Raises:
        ModelDirError, CheckpointError: if there is none.
    """
    path = Path(src).expanduser()
    if path.is_file():
        return _loose_source(path, config)
    if path.is_dir():
        if not (path / "config.json").is_file():
            found = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"
            raise ModelDirError(
                f"{src}: not a model directory: no config.json (found: {found}). Expected what save_pretrained writes."
            )
        return Source(str(src), path, _weight_files(path, str(src)))
    text = str(src)
    if (
        path.is_absolute()
        or text.startswith((".", "~"))
        or text.count("/") > 1
        or path.suffix in {".safetensors", ".bin", ".pth", ".pt"}
    ):
        raise ModelDirError(f"{src}: no such file or directory.{_near(path)}")
    name, _, at = text.partition("@")
    directory = _download(name, revision or at or None)
    return Source(text, directory, _weight_files(directory, text))


def _near(path: Path) -> str:
    import difflib

    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f" Did you mean {path.parent / near[0]}?" if near else ""


def _loose_source(path: Path, config: str | Path | None) -> Source:
    where = Path(config).expanduser() if config else path.parent
    if config and not where.exists() and timm.is_name(str(config)):
        timm.check_name(str(config), "--architecture")
        return Source(str(path), path.parent, (path,), loose=True, architecture=str(config))
    where = where.parent if where.is_file() else where
    if not (where / "config.json").is_file():
        raise CheckpointError(
            f"{path}: a weight file says nothing about its architecture. Pass --config with a config.json or its directory, "
            "or --architecture with the name of a timm model."
        )
    return Source(str(path), where, (path,), loose=True)


def _weight_files(directory: Path, name: str) -> tuple[Path, ...]:
    for single, index in (
        ("model.safetensors", "model.safetensors.index.json"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ):
        if (directory / single).is_file():
            return (directory / single,)
        if (listed := read_json(directory / index)) is not None:
            files = tuple(directory / f for f in sorted(set(listed.get("weight_map", {}).values())))
            missing = [f.name for f in files if not f.is_file()]
            if missing:
                raise CheckpointError(
                    f"{name}: {index} lists {len(files)} shards, missing: {', '.join(missing[:3])}."
                )
            return files
    others = sorted(
        p.name
        for p in directory.iterdir()
        if p.suffix in {".safetensors", ".bin", ".pth", ".pt", ".ckpt"}
    )
    hint = f" Found {', '.join(others[:3])}: name the file itself as SRC." if others else ""
    raise CheckpointError(
        f"{name}: no weights: expected model.safetensors (or its shards) or pytorch_model.bin.{hint}"
    )


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import list_repo_files, snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    small = ["*.json", "*.txt", "*.model", "*.jinja", "1_Pooling/*"]
    try:
        try:
            files = list_repo_files(name, revision=revision)
            safe = {"model.safetensors", "model.safetensors.index.json"} & set(
                files
            )  # and no second copy under another name
            weights = "model*.safetensors" if safe else "pytorch_model*.bin"
            return Path(
                snapshot_download(name, revision=revision, allow_patterns=[*small, weights])
            )
        except (OfflineModeIsEnabled, OSError):
            return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelDirError(
            f"{name}: no such directory here, and as a Hugging Face Hub id it cannot be had either ({type(error).__name__}: {reason})."
        ) from None


def check_out(out: str | Path, *, source: Source | None = None, overwrite: bool = False) -> Path:
    """Refuse an output directory that would be lost or would damage its source, before any work is
    done.

    Raises:
        ModelDirError: saying which.
    """
    path = Path(out).expanduser()
    resolved = path.resolve()
    if source is not None and source.directory.exists():
        own = source.directory.resolve()
        inside = own in resolved.parents and not source.loose  # beside a weight file is not in it
        if resolved == own or inside or resolved in own.parents:
            raise ModelDirError(
                f"OUT {out} and SRC {source.name} overlap. A step never writes into its source: choose another OUT."
            )
    if path.exists() and not path.is_dir():
        raise ModelDirError(f"OUT {out} is a file, expected a directory to create.")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise ModelDirError(
            f"OUT {out} exists and is not empty. Choose another, or pass --overwrite to replace it."
        )
    parent = path.parent
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK):
        raise ModelDirError(f"OUT {out}: no permission to write in {parent}.")
    return path


@contextmanager
def new_directory(
    out: str | Path, *, source: Source | None = None, overwrite: bool = False
) -> Iterator[Path]:
    """A directory to fill; it appears at `out` when the context ends well, and leaves nothing
    behind when it does not.

    Raises:
        ModelDirError: as `check_out`, or if the disk is full or not writable.
    """
    path = check_out(out, source=source, overwrite=overwrite)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        _swap(temporary, path)
    except AcnError:
        raise
    except Exception as error:
        if (reason := _disk_reason(error)) is None:
            raise
        raise ModelDirError(f"OUT {out}: {reason}. Nothing was written.") from None
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _swap(temporary: Path, path: Path) -> None:
    """Put the finished directory in place; what stood there is removed only after."""
    old = None
    if path.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent)) / "old"
        path.replace(old)
    temporary.replace(path)
    if old is not None:
        shutil.rmtree(old.parent, ignore_errors=True)


def _disk_reason(error: Exception) -> str | None:
    """What the user can mend about a failed write; safetensors raises its own class with the
    system's text."""
    number = getattr(error, "errno", None)
    text = str(error)
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "os error 28" in text:
        return "no space left on the device"
    if number == errno.EFBIG or "File too large" in text or "os error 27" in text:
        return "the file system does not take a file this large"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS) or "Permission denied" in text:
        return "no permission to write there"
    return None


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def copy_processors(source: Source | None, out: Path) -> None:
    """Copy tokenizer and image-processor files."""
    if source is None or source.architecture is not None:
        return
    for pattern in PROCESSOR_FILES:
        for path in source.directory.glob(pattern):
            if path.is_dir():
                shutil.copytree(path, out / path.name, dirs_exist_ok=True)
            elif path.suffix not in {".safetensors", ".bin"}:
                shutil.copyfile(path, out / path.name)


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
