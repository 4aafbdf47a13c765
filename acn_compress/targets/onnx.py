"""ONNX: a graph that ONNX Runtime runs, compared with torch, in a directory that whoever runs such
graphs opens as it is (`onnx/layout.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from acn_compress.checkpoint.card import TAGS, header
from acn_compress.checkpoint.files import size
from acn_compress.checkpoint.processors import copy_processors, name_tokenizer_plainly
from acn_compress.checkpoint.save import save_graph_config
from acn_compress.checkpoint.snippets import of_graph
from acn_compress.checkpoint.source import Source
from acn_compress.data.load import Data
from acn_compress.errors import ConfigError
from acn_compress.measure.early_exit import check_exit
from acn_compress.network.network import Network
from acn_compress.onnx.exit import check_depth
from acn_compress.onnx.layout import onnx_file, weights_of
from acn_compress.onnx.write import OnnxFile, write_onnx
from acn_compress.options import Export
from acn_compress.reports.blocks import Block, Line, Pairs
from acn_compress.targets.base import Exported

ALONE = ", and not with quantize"
JS = "transformers.js_config"  # what transformers.js alone reads of config.json


class OnnxExported(Exported, OnnxFile):
    """What an export to ONNX reports."""

    def display(self) -> Iterator[Block]:
        """A list, and what to do next."""
        title = f"export {self.source} (opset {self.opset}, {self.nodes} nodes, "
        yield Pairs(f"{title}{self.seconds:.0f} s)", list(self._rows()))
        # how many leave early depends on what comes in, and a benchmark's inputs are random
        follow = f"benchmark ORIGINAL {self.out}"
        if self.exit_entropy is not None:
            follow = f"evaluate {self.source} --data D --exit-entropy {self.exit_entropy:g}"
        yield Line(f"next: acn-compress {follow}")

    def _rows(self) -> Iterator[tuple[str, object]]:
        alone = f"parameters alone: {size(self.parameter_bytes)}"
        yield "file", f"{self.out}/{self.file}, {size(self.bytes)} ({alone})"
        yield "inputs", ", ".join(self.inputs) + " (dynamic batch)"
        yield "outputs", ", ".join(self.outputs)
        worst = f"largest difference {self.max_difference:.1e} of {self.tolerance:.0e} allowed"
        yield "verified", f"in ONNX Runtime at {', '.join(self.compared)}: {worst}"
        if self.exit_depths is not None:
            left = ", ".join(map(str, self.exit_depths))
            how = f"at an entropy of at most {self.exit_entropy:g} nats (input exit_entropy)"
            yield "early exit", f"{how}; verified leaving at depth {left}"
        yield "int8", self.int8()
        yield "same answer", None if self.agreement is None else f"{self.agreement:.1%}"
        yield "note", self.note

    def int8(self) -> str | None:
        """What int8 changes, in words, and on what that was seen; None if it is not int8."""
        if self.quantized is None:
            return None
        cosine = "" if self.cosine is None else f"cosine with the source {self.cosine:.4f}, "
        error = f"mean error {self.error:.1%} of the outputs' spread"
        return f"{cosine}{error}, on {self.judged_on}, n = {self.examples:,}"

    def card(self, net: Network, inherited: Mapping[str, object], directory: Path) -> str:
        """What the file takes and gives, and how it was proven: Markdown."""
        colours = net.channels if net.modality == "image" else None
        lines = [
            *header("onnx", inherited, (*TAGS, "onnx")),
            f"# {Path(self.out).name}: ONNX export",
            "",
            f"Made with acn-compress from `{self.source}`, opset {self.opset}.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in self._facts() if value is not None),
            "",
            "## Use",
            "",
            *of_graph(directory, self.out, self.file, self.inputs, colours),
            "Labels, preprocessing and where it comes from are in the file's metadata (`id2label`, "
            "`preprocessor`, `acn_structure`, `provenance`).",
            "",
        ]
        return "\n".join(lines)

    def _facts(self) -> Iterator[tuple[str, str | None]]:
        yield "inputs", f"{', '.join(self.inputs)} (dynamic batch)"
        yield "outputs", ", ".join(self.outputs)
        yield "bytes", f"{self.bytes:,} (parameters: {self.parameter_bytes:,})"
        compared = ", ".join(self.compared)
        yield "largest difference to torch", f"{self.max_difference:.1e} over {compared}"
        if self.exit_entropy is not None:
            leaves = f"at an entropy of at most {self.exit_entropy:g} nats (input `exit_entropy`)"
            yield "early exit", f"{leaves}; a batch leaves when all of it is sure"
        yield "int8", self.int8()
        if self.quantized is not None and self.agreement is not None:
            yield "same answer as the source (int8)", f"{self.agreement:.1%}"


class Onnx:
    """See `targets.base.Target`."""

    writes = f"{onnx_file()}, beside its config and processor files"
    takes: Mapping[str, str] = dict.fromkeys(("opset", "tolerance", "quantize"), "") | {
        "exit_entropy": ALONE
    }
    verified = "In ONNX Runtime it says what torch says, at several batch sizes and lengths."
    report: type[Exported] = OnnxExported

    def check(self, net: Network, source: Source, how: Export) -> None:
        """Early exit needs a classifier of not too many blocks, in float."""
        if how.exit_entropy is not None:
            if how.quantize is not None:
                raise ConfigError(f"exit_entropy only works with format onnx{ALONE}.")
            check_exit(net, how.exit_entropy, source.name)
            check_depth(net, source.name)

    def write(
        self, net: Network, source: Source, directory: Path, how: Export, data: Data | None = None
    ) -> OnnxFile:
        """The file, config.json and processor files."""
        file = directory / onnx_file(how.quantize)
        file.parent.mkdir()
        found = write_onnx(
            net,
            file,
            source,
            opset=how.opset,
            tolerance=how.tolerance,
            quantize=how.quantize,
            exit_entropy=how.exit_entropy,
            seed=how.seed,
            data=data,
        )
        beside = {file.name: 1} if weights_of(file).is_file() else None
        for_browsers = {} if beside is None else {JS: {"use_external_data_format": beside}}
        save_graph_config(net, directory, **for_browsers)
        copy_processors(source, directory)
        name_tokenizer_plainly(directory)
        return found.model_copy(update={"file": file.relative_to(directory).as_posix()})

    def card(
        self,
        net: Network,
        report: Exported,
        provenance: dict[str, object],
        inherited: Mapping[str, object],
        directory: Path,
    ) -> str:
        """The report's own."""
        assert isinstance(report, OnnxExported)
        return report.card(net, inherited, directory)


TARGET = Onnx()
