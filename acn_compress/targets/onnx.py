"""ONNX: a graph that ONNX Runtime runs, compared with torch, in a directory that whoever runs such
graphs opens as it is (`onnx/layout.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from acn_compress import figures
from acn_compress.backends.files import MeasuredFile, measure_files
from acn_compress.checkpoint.card import TAGS, header, quality_of
from acn_compress.checkpoint.files import size
from acn_compress.checkpoint.processors import copy_processors, name_tokenizer_plainly
from acn_compress.checkpoint.provenance import history
from acn_compress.checkpoint.save import save_graph_config
from acn_compress.checkpoint.snippets import of_graph
from acn_compress.checkpoint.source import Source
from acn_compress.data.load import Data
from acn_compress.data.read import Read
from acn_compress.errors import ConfigError
from acn_compress.found import Found
from acn_compress.measure.early_exit import check_exit
from acn_compress.measure.original import Original
from acn_compress.measure.quality import measure, summary
from acn_compress.network.network import Network
from acn_compress.onnx.cache import in_short, is_past
from acn_compress.onnx.exit import check_depth
from acn_compress.onnx.inputs import picture_size
from acn_compress.onnx.layout import FILES, file_bytes, onnx_file, opset_of, weights_of
from acn_compress.onnx.metadata import tell_quality
from acn_compress.onnx.quantize import Judged, check, complain, quantize, random_rows, real_rows
from acn_compress.onnx.quantize import Rows as Judging
from acn_compress.onnx.session import Session
from acn_compress.onnx.write import OnnxFile, write_onnx
from acn_compress.options import Export, Quantize
from acn_compress.quality import NOT_MEASURED, Below, Outcome, Quality
from acn_compress.reports.base import LOOK, few_lines, follows, read_lines
from acn_compress.reports.blocks import Block, Grid, Line, Pairs, grid
from acn_compress.reports.measured import busy_note
from acn_compress.targets.base import Exported, Rows

ALONE = ", and not with quantize"
JS = "transformers.js_config"  # what transformers.js alone reads of config.json


class FileRow(Found):
    """A file of the directory."""

    file: str
    """Its name within the directory."""
    precision: Quantize | None = None
    """None is that of the source."""
    bytes: int
    """Of it and the weights beside it."""
    opset: int
    judged: Judged | None = None
    """What fewer bits change in the answers of the float file."""
    measured: MeasuredFile | None = None
    """On the data, where there was some."""

    def cells(self) -> Iterator[tuple[str, str]]:
        """Names and texts of what is told of it."""
        yield "file", self.file
        yield "MB", f"{self.bytes / 1e6:.1f}"
        if (m := self.measured) is not None:
            yield "ms", f"{m.milliseconds:.2f}"
            yield figures.title(m.quality.metric), f"{m.quality.value:.4f}"
            yield "change [95 %]", figures.change(m.drop, m.quality.metric)
        cosine = None if self.judged is None else self.judged.cosine
        yield "cosine", "" if cosine is None else f"{cosine:.4f}"


class Files(OnnxFile):
    """What an export writes: the float file, and those in fewer bits beside it."""

    files: tuple[FileRow, ...]
    """All of them, the float one first."""
    data: str | None = None
    """That they were measured on."""
    read: Read | None = None
    """Which rows and columns of it."""
    quality: Quality | None = None
    """Of the source in torch on it."""
    calibrated_on: str | None = None
    """The rows that static quantisation looked at."""
    outcome: Outcome | None = None
    """What became of the quality of the float file."""


class OnnxExported(Exported, Files):
    """What an export to ONNX reports."""

    def display(self) -> Iterator[Block]:
        """A list, a table of files, and what to do next."""
        title = f"export {self.source} (opset {self.opset}, {self.nodes} nodes, "
        yield Pairs(f"{title}{self.seconds:.0f} s)", list(self._rows()))
        if len(self.files) > 1 or self.quality is not None:
            yield self._table()
            yield from map(Line, self.remarks())
        if self.quality is not None:
            yield from few_lines(self.quality.examples)
            yield from read_lines(self.read, "measured on")
        # how many leave early depends on what comes in, and a benchmark's inputs are random
        follow = "acn-compress benchmark {original} {out}"
        if self.exit_entropy is not None:
            exits = f"--data {{data}} --exit-entropy {self.exit_entropy:g}"
            follow = f"acn-compress evaluate {{source}} {exits}"
        elif self.outcome is None:
            follow = LOOK
        yield follows(follow, self.out, self.source, self.again)

    def _rows(self) -> Iterator[tuple[str, object]]:
        alone = f"parameters alone: {size(self.parameter_bytes)}"
        yield "file", f"{self.out}/{self.file}, {size(self.bytes)} ({alone})"
        yield "inputs", f"{in_short(self.inputs)} (dynamic batch)"
        yield "outputs", in_short(self.outputs)
        worst = f"largest difference {self.max_difference:.1e} of {self.tolerance:.0e} allowed"
        yield "verified", f"in ONNX Runtime at {', '.join(self.compared)}: {worst}"
        if self.exit_depths is not None:
            left = ", ".join(map(str, self.exit_depths))
            how = f"at an entropy of at most {self.exit_entropy:g} nats (input exit_entropy)"
            yield "early exit", f"{how}; verified leaving at depth {left}"
        yield "note", self.note
        if self.quality is not None:
            yield "quality", self.outcome
        elif self.exit_entropy is not None:
            yield "quality", f"{NOT_MEASURED}: add --data"
        else:
            fewer = f"; of files in fewer bits {NOT_MEASURED}: add --data"
            yield "quality", self.same() + (fewer if len(self.files) > 1 else "")

    def warning(self) -> str | None:
        """That files with other answers were not measured."""
        if self.quality is not None or (self.exit_entropy is None and len(self.files) == 1):
            return None
        which = "" if self.exit_entropy is not None else " of files in fewer bits"
        return f"quality{which} {NOT_MEASURED}: add --data"

    def _table(self) -> Grid:
        """A row per file; before them the source."""
        rows = [list(row.cells()) for row in self.files]
        title = ""
        if (q := self.quality) is not None:
            title = f"measured on {self.data}, n = {q.examples:,}; change: against {self.source}"
            quality = (figures.title(q.metric), f"{q.value:.4f}")
            rows.insert(0, [("file", "source (torch)"), ("MB", ""), ("ms", ""), quality])
        return grid(title, rows, spare=["cosine", "MB"])

    def remarks(self) -> Iterator[str]:
        """What the columns of the table are, and how far they can be trusted."""
        judged = [row.judged for row in self.files if row.judged is not None]
        if judged:
            seen = f"on {judged[0].judged_on}, n = {judged[0].examples:,}"
            yield f"cosine: of centred scores with those of the float file, {seen}."
        if self.calibrated_on is not None:
            yield f"int8-static was calibrated on {self.calibrated_on}."
        if (measured := self.files[0].measured) is not None:
            yield f"ms: one example, one thread.{busy_note(measured.busy)}"
        higher = [row for row in self.files if row.opset != self.opset]
        if higher:
            names = ", ".join(f"{row.file} has opset {row.opset}" for row in higher)
            yield f"{names}: its types of numbers came with it."

    def card(
        self,
        net: Network,
        provenance: dict[str, object],
        inherited: Mapping[str, object],
        directory: Path,
    ) -> str:
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
            f"| quality | {quality_of(provenance)}{self._of_which()} |",
            "",
            *self._card_of_files(),
            "## Use",
            "",
            *of_graph(
                directory,
                self.out,
                self.file,
                self.inputs,
                colours,
                cached=any(map(is_past, self.inputs)),
            ),
            "Labels, preprocessing, where it comes from and what became of the quality are in the "
            "file's metadata (`id2label`, `preprocessor`, `acn_structure`, `provenance`, "
            "`quality`).",
            "",
        ]
        return "\n".join(lines)

    def _of_which(self) -> str:
        """Of which file a card tells the quality, where there are several."""
        if len(self.files) == 1:
            return ""
        fewer = "" if self.quality is not None else f"; of files in fewer bits {NOT_MEASURED}"
        return f" (of {self.file}{fewer})"

    def _card_of_files(self) -> Iterator[str]:
        if len(self.files) == 1 and self.quality is None:
            return
        table = self._table()
        if table.title:
            yield f"Files, {table.title}:"
            yield ""
        yield f"| {' | '.join(table.head)} |"
        yield "|---" + "|---:" * (len(table.head) - 1) + "|"
        yield from (f"| {' | '.join(row)} |" for row in table.rows)
        yield ""
        yield " ".join(self.remarks())
        yield ""

    def _facts(self) -> Iterator[tuple[str, str | None]]:
        yield "inputs", f"{in_short(self.inputs)} (dynamic batch)"
        yield "outputs", in_short(self.outputs)
        yield "bytes", f"{self.bytes:,} (parameters: {self.parameter_bytes:,})"
        compared = ", ".join(self.compared)
        yield "largest difference to torch", f"{self.max_difference:.1e} over {compared}"
        if self.exit_entropy is not None:
            leaves = f"at an entropy of at most {self.exit_entropy:g} nats (input `exit_entropy`)"
            yield "early exit", f"{leaves}; a batch leaves when all of it is sure"


class Onnx:
    """See `targets.base.Target`."""

    writes = f"{onnx_file()}, beside its config and processor files"
    files: tuple[str, ...] = tuple(
        name for file in map(onnx_file, FILES) for name in (file, str(weights_of(Path(file))))
    )
    measures = True
    takes: Mapping[str, str] = dict.fromkeys(
        ("opset", "tolerance", "quantize", "max_drop", "bound"), ""
    ) | {"exit_entropy": ALONE}
    verified = "In ONNX Runtime it says what torch says, at several batch sizes and lengths."
    report: type[Exported] = OnnxExported

    def check(self, net: Network, source: Source, how: Export) -> None:
        """Early exit needs a classifier of not too many blocks, in float."""
        if how.exit_entropy is not None:
            if how.quantize:
                raise ConfigError(f"exit_entropy only works with format onnx{ALONE}.")
            check_exit(net, how.exit_entropy, source.name)
            check_depth(net, source.name)

    def write(
        self, net: Network, source: Source, directory: Path, how: Export, rows: Rows | None = None
    ) -> Files:
        """The files, config.json and processor files."""
        file, data = directory / onnx_file(), None if rows is None else rows.measured
        file.parent.mkdir()
        scores = original = None
        if rows is not None and data is not None:
            scores = measure(net, data)
            original = Original.of(source, data, rows.read, known=source, scores=scores, net=net)
        drawn = random_rows(net, picture_size(net, source), how.seed) if how.quantize else None
        whole = write_onnx(
            net,
            file,
            source,
            opset=how.opset,
            tolerance=how.tolerance,
            exit_entropy=how.exit_entropy,
            seed=how.seed,
        )
        judged = {} if drawn is None else _quantize(net, file, how, rows, drawn)
        files = [directory / onnx_file(precision) for precision in (None, *judged)]
        measured: Sequence[MeasuredFile | None] = [None] * len(files)
        if data is not None and scores is not None:
            size = 64 if how.exit_entropy is None else 1  # a batch leaves when all of it is sure
            measured = measure_files(files, data, scores, original, batch_size=size, seed=how.seed)
            complain(_losses(how, dict(zip(judged, measured[1:], strict=True))))
        beside = {f.name: 1 for f in files if weights_of(f).is_file()}
        for_browsers = {JS: {"use_external_data_format": beside}} if beside else {}
        save_graph_config(net, directory, **for_browsers)
        copy_processors(source, directory)
        name_tokenizer_plainly(directory)
        names = [f.relative_to(directory).as_posix() for f in files]
        outcomes = _outcomes(measured, data, source, how)
        for path, outcome in zip(files, outcomes, strict=True):
            tell_quality(path, outcome)
        told = tuple(
            FileRow(
                file=name,
                precision=precision,
                bytes=file_bytes(directory / name),
                opset=whole.opset if precision is None else opset_of(directory / name),
                judged=None if precision is None else judged[precision],
                measured=found,
            )
            for name, precision, found in zip(names, (None, *judged), measured, strict=True)
        )
        return Files(
            **{**whole, "file": names[0], "bytes": told[0].bytes},
            files=told,
            data=None if data is None else data.name,
            read=None if data is None else data.read,
            quality=None if data is None or scores is None else summary(scores, data.task),
            calibrated_on=None if rows is None else rows.calibrated_on,
            outcome=outcomes[0],
        )


def _outcomes(
    measured: Sequence[MeasuredFile | None], data: Data | None, source: Source, how: Export
) -> list[Outcome | None]:
    """What became of the quality in every file, the float one first: it gives the source's answers
    unless it leaves early."""
    if data is None:
        same = None if how.exit_entropy is not None else history(source).quality
        return [same, *[None] * (len(measured) - 1)]
    return [
        Outcome.of(data.name, m.quality, Below(name=source.name, drop=m.drop), m.original)
        for m in measured
        if m is not None
    ]


def _quantize(
    net: Network,
    file: Path,
    how: Export,
    rows: Rows | None,
    drawn: Judging,
) -> dict[Quantize, Judged]:
    """Files in fewer bits, judged on the data or on what was drawn where there is none; with a
    `max_drop` that is what decides."""
    whole, seen = Session(file), None
    if rows is not None:
        drawn = real_rows(rows.measured, whole.inputs)
        seen = None if rows.calibration is None else real_rows(rows.calibration, whole.inputs)
    judged = quantize(net, file, how.quantize, whole.outputs, drawn, seen)
    if how.max_drop is None:
        check(judged)
    return judged


def _losses(how: Export, measured: Mapping[Quantize, MeasuredFile | None]) -> dict[Quantize, str]:
    """Files that lose more than they may, and how much."""
    found: dict[Quantize, str] = {}
    for precision, file in measured.items():
        if file is None or how.max_drop is None:
            continue
        if not file.drop.within(how.max_drop, how.bound):
            told = figures.told(file.drop, file.quality.metric)
            text = f"{precision}: {told} against its source, allowed a drop of {how.max_drop:g}"
            found[precision] = f"{text} ({how.bound} bound)"
    return found


TARGET = Onnx()
