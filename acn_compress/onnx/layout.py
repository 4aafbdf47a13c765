"""What lies where in an ONNX directory, as transformers.js, optimum and sentence-transformers look
for it:

    config.json, tokenizer or image processor    as beside any checkpoint, the family's own type
    onnx/model.onnx                              the graph and its weights
    onnx/model_fp16.onnx, model_quantized.onnx   beside it, in fewer bits (`FILES`)
    onnx/model.onnx_data                         the weights of a graph too large for one file
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from acn_compress.checkpoint.files import check_readable
from acn_compress.checkpoint.find import LAYOUTS
from acn_compress.errors import ModelDirError
from acn_compress.options import Quantize

FOLDER = "onnx"
# by precision, as transformers.js names them: fp16, q8 and q4; it has no name for static int8
FILES: Mapping[Quantize | None, str] = {
    None: "model.onnx",
    "fp16": "model_fp16.onnx",
    "int8": "model_quantized.onnx",
    "int8-static": "model_static_quantized.onnx",
    "int4": "model_q4.onnx",
}
LIMIT = 3 << 29  # bytes of weights; larger ones go beside the graph, as a file ends at 2 GiB


def onnx_file(precision: Quantize | None = None) -> str:
    """The path of a file within its directory."""
    return f"{FOLDER}/{FILES[precision]}"


# in the order in which they are looked for; the last is where version 0.1 wrote it
PLACES = (*map(onnx_file, FILES), "model.onnx")


def find_onnx(path: str | Path) -> Path | None:
    """The ONNX file that `path` names: itself, the one in a directory that `export` wrote (the
    float one first), or the only one in somebody else's. A directory with weights of its own is a
    checkpoint, whatever else lies in it.

    Raises:
        ModelDirError: if there are several, and none has a name that is known, or if this user may
            not read it.
    """
    found = _found(Path(path).expanduser())
    check_readable([] if found is None else [found])
    return found


def _found(path: Path) -> Path | None:
    if path.suffix == ".onnx" and path.is_file():
        return path
    if any((path / name).is_file() for layout in LAYOUTS for name in layout):
        return None
    known = [path / place for place in PLACES if (path / place).is_file()]
    if known:
        return known[0]
    found = sorted([*path.glob("*.onnx"), *path.glob(f"{FOLDER}/*.onnx")])
    if len(found) > 1:
        names = ", ".join(p.relative_to(path).as_posix() for p in found)
        raise ModelDirError(f"{path}: has several ONNX files ({names}). Name one of them.")
    return found[0] if found else None


def beside(file: Path) -> str:
    """Which file of its directory was taken, and how to name the others; empty if it is the only
    one."""
    others = sorted(p.name for p in file.parent.glob("*.onnx") if p != file)
    if not others:
        return ""
    return f"{file.name} was taken; beside it lie {', '.join(others)}: name the file to take it"


def weights_of(path: Path) -> Path:
    """The file beside a graph that holds its weights where it cannot."""
    return path.with_name(f"{path.name}_data")


def opset_of(path: Path) -> int:
    """The operator set that a file has."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    return next(int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx"))


def file_bytes(path: Path) -> int:
    """Bytes of an ONNX file and of the weights that lie beside it."""
    return sum(p.stat().st_size for p in path.parent.glob(path.name + "*"))
