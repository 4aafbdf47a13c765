"""export: ONNX compared with the source in ONNX Runtime before it is let through, or the compact
model directory itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint import write as output
from acn_compress.checkpoint.directory import Source
from acn_compress.errors import ConfigError
from acn_compress.measure.early_exit import check_exit
from acn_compress.network.network import Network
from acn_compress.onnx.exit import check_depth
from acn_compress.onnx.write import write_onnx


def export(
    src: str | Path,
    out: str | Path,
    *,
    format: str = "onnx",
    opset: int = 20,
    tolerance: float = 1e-4,
    quantize: str | None = None,
    exit_entropy: float | None = None,
    config: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Export a model.

    Args:
        src: the checkpoint.
        out: the directory to write: model.onnx with config and processor files, or a model
            directory.
        format: "onnx" or "safetensors".
        opset: ONNX operator set.
        tolerance: largest difference to torch, over max(1, largest output), that is let through.
        quantize: "int8": dynamic quantisation per channel; judged by the cosine of its outputs with
            the source's (at least 0.98), never by `tolerance`.
        exit_entropy: the ONNX model leaves by itself at the first depth whose readout has at most
            this entropy (nats) in every example
            of the batch, and says so: outputs logits [batch, classes] and exit_depth (int64, 1 to
                L). The threshold is an input with
            this default.
        seed: of the inputs that are compared.
    Returns:
        The report: file, bytes, max_difference, agreement, inputs, outputs, compared, seconds; with
            `exit_entropy` also exit_depths, at
        which the compared inputs left.
    Raises:
        VerificationError: if the exported model is not the source; nothing is left behind.
    """
    if format not in {"onnx", "safetensors"}:
        raise ConfigError(f"format '{format}' is not known. Expected onnx or safetensors.")
    if quantize not in {None, "int8"}:
        raise ConfigError(f"quantize '{quantize}' is not known. Expected int8.")
    if Path(out).suffix == ".onnx":
        raise ConfigError(
            f"OUT {out} names a file. Name a directory: model.onnx is written into it, beside its config and processor files."
        )
    if exit_entropy is not None and (quantize or format != "onnx"):
        raise ConfigError("exit_entropy only works with format onnx, and not with quantize.")
    source = modeldir.find_source(src, config=config)
    modeldir.check_out(out, source=source, overwrite=overwrite)
    net = checkpoint.load_source(source)
    if exit_entropy is not None:
        check_exit(net, exit_entropy, source.name)
        check_depth(net, source.name)
    if format == "safetensors":
        if quantize:
            raise ConfigError("quantize only works with format onnx.")
        return _export_safetensors(net, source, out, overwrite)
    started = time.perf_counter()
    with modeldir.new_directory(out, source=source, overwrite=overwrite) as directory:
        report = write_onnx(
            net,
            directory / "model.onnx",
            source,
            opset=opset,
            tolerance=tolerance,
            quantize=quantize,
            exit_entropy=exit_entropy,
            seed=seed,
        )
        net.config.save_pretrained(directory)
        modeldir.copy_processors(source, directory)
        report |= {
            "step": "export",
            "source": source.name,
            "out": str(out),
            "format": format,
            "seconds": round(time.perf_counter() - started, 2),
        }
        options = modeldir.options_of(
            format=format,
            opset=opset,
            tolerance=tolerance,
            quantize=quantize,
            exit_entropy=exit_entropy,
        )
        modeldir.write_json(directory / "report.json", report)
        modeldir.write_json(
            directory / "provenance.json", modeldir.provenance(source, "export", options, seed)
        )
        (directory / "README.md").write_text(_card(report), encoding="utf-8")
    return report


def _export_safetensors(
    net: Network, source: Source, out: str | Path, overwrite: bool
) -> dict[str, Any]:
    report = {"format": "safetensors", "max_difference": 0.0}
    return output.write(
        net,
        out,
        source=source,
        step="export",
        options={"format": "safetensors"},
        report=report,
        overwrite=overwrite,
    )


def _card(report: dict[str, Any]) -> str:
    lines = [
        "---",
        "library_name: onnx",
        "tags: [acn-compress, model-compression, onnx]",
        "---",
        "",
        f"# {Path(report['out']).name}: ONNX export",
        "",
    ]
    lines += [
        f"Made with acn-compress from `{report['source']}`, opset {report['opset']}.",
        "",
        "| | |",
        "|---|---|",
    ]
    lines += [
        f"| inputs | {', '.join(report['inputs'])} (dynamic batch) |",
        f"| outputs | {', '.join(report['outputs'])} |",
    ]
    lines += [f"| bytes | {report['bytes']:,} (parameters: {report['parameter_bytes']:,}) |"]
    lines += [
        f"| largest difference to torch | {report['max_difference']:.1e} over {', '.join(report['compared'])} |"
    ]
    if "exit_entropy" in report:
        lines += [
            f"| early exit | at an entropy of at most {report['exit_entropy']:g} nats (input `exit_entropy`); a batch leaves when all of it is sure |"
        ]
    if "cosine" in report:
        lines += [
            f"| int8 | mean cosine with the source {report['cosine']:.4f}, same answer in {report['agreement']:.1%} |"
        ]
    return "\n".join(
        [
            *lines,
            "",
            "Labels and the network's structure are in the file's metadata (`id2label`, `acn_structure`).",
            "",
        ]
    )
