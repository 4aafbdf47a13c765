"""What an export of the whole network into one program reports, whatever runs it: its files, how
they were proven, and a card that says how a stranger loads them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from acn_compress.checkpoint.card import TAGS, header, quality_of
from acn_compress.checkpoint.files import size
from acn_compress.checkpoint.processors import copy_processors
from acn_compress.checkpoint.save import save_graph_config
from acn_compress.checkpoint.source import Source
from acn_compress.network.network import Network
from acn_compress.onnx.compare import Run
from acn_compress.onnx.trace import Traced
from acn_compress.onnx.write import Prepared, WrittenFile, check_size
from acn_compress.options import Export
from acn_compress.reports.blocks import Block, Pairs
from acn_compress.targets.base import Exported, Rows


class ProgramExported(Exported, WrittenFile):
    """What such an export reports."""

    library: ClassVar[str]
    """The Hub's name of what runs it."""
    runner: ClassVar[str]
    """What runs it, for people."""
    snippet: ClassVar[str]
    """Python that loads it and asks it; {file}, {given} (inputs by name) and {output} (the first)
    are filled in, or {inputs} and {outputs} in their order."""

    def display(self) -> Iterator[Block]:
        """A list."""
        yield Pairs(f"export {self.source} ({self.seconds:.0f} s)", list(self._rows()))
        yield from self.measuring(self.source)  # evaluate does not run such a file

    def _rows(self) -> Iterator[tuple[str, object]]:
        alone = f"parameters alone: {size(self.parameter_bytes)}"
        yield "file", f"{self.out}/{self.file}, {size(self.bytes)} ({alone})"
        yield "inputs", ", ".join(self.inputs) + " (dynamic batch)"
        yield "outputs", ", ".join(self.outputs)
        worst = f"largest difference {self.max_difference:.1e} of {self.tolerance:.0e} allowed"
        yield "verified", f"in {self.runner} at {', '.join(self.compared)}: {worst}"
        yield "quality", self.same()
        yield "data", self.unmeasured
        yield "note", self.note

    def card(
        self,
        net: Network,
        provenance: dict[str, object],
        inherited: Mapping[str, object],
        directory: Path,
    ) -> str:
        """What the file takes and gives, how it was proven, and how it is loaded: Markdown."""
        name = Path(self.out).name
        rows = [(k, v) for k, v in self._rows() if v is not None and k != "quality"]
        rows.append(("quality", quality_of(provenance)))
        given = ", ".join(f"{key}={key}" for key in self.inputs)
        lines = [
            *header(self.library, inherited, TAGS),
            f"# {name}: export for {self.runner}",
            "",
            f"Made with acn-compress from `{self.source}`.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {key} | {value} |" for key, value in rows),
            "",
            "## Use",
            "",
            "```python",
            self.snippet.format(
                file=self.file,
                given=given,
                output=self.outputs[0],
                inputs=", ".join(self.inputs),
                outputs=", ".join(self.outputs) + "," * (len(self.outputs) == 1),
            ),
            "```",
            "",
        ]
        return "\n".join(lines)


class Program(ABC):
    """What targets have in common whose export is one program (see `targets.base.Target`)."""

    files: tuple[str, ...]
    """The program, and what belongs to it."""
    made: str
    """What it is called in errors."""
    measures = False
    takes: Mapping[str, str] = {"tolerance": ""}

    def check(self, net: Network, source: Source, how: Export) -> None:  # noqa: B027  # most do not
        """Whether a network can be exported is seen when it is."""

    @abstractmethod
    def save(self, ready: Prepared, file: Path, name: str) -> None:
        """Write the program; `name` is what the user calls the network.

        Raises:
            UnsupportedError: in one line, if it cannot be written.
        """

    @abstractmethod
    def running(self, file: Path, traced: Traced) -> Run:
        """The program, loaded by what runs it."""

    def write(
        self, net: Network, source: Source, directory: Path, how: Export, rows: Rows | None = None
    ) -> WrittenFile:
        """The program, config.json and processor files."""
        file, ready = directory / self.files[0], Prepared.of_(net, source, caching=False)
        self.save(ready, file, source.name)
        written = sum((directory / name).stat().st_size for name in self.files)
        check_size(written, ready.parameter_bytes, self.made)
        cases = ready.expected_(how.seed)
        run = self.running(file, ready.traced)
        found = ready.proven(file, written, cases, run, tolerance=how.tolerance, made=self.made)
        save_graph_config(net, directory)
        copy_processors(source, directory)
        return found
