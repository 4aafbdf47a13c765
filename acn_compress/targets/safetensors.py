"""safetensors: the compact model directory itself, as every step writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from acn_compress.checkpoint import card
from acn_compress.checkpoint.files import size
from acn_compress.checkpoint.processors import copy_processors
from acn_compress.checkpoint.save import save
from acn_compress.checkpoint.source import Source
from acn_compress.found import Found
from acn_compress.network.network import Network
from acn_compress.network.structure import Structure
from acn_compress.options import Export
from acn_compress.reports.blocks import Block, Pairs, kept
from acn_compress.targets.base import Exported, Rows


class Saved(Found):
    """A model directory."""

    structure: Structure
    """Of the network."""
    parameters: int
    """Tied ones once."""
    bytes: int
    """Of the weight files."""
    max_difference: float = 0.0
    """Between the network's tensors and the file's: it is written only if they are equal."""


class SafetensorsExported(Exported, Saved):
    """What an export to safetensors reports."""

    def display(self) -> Iterator[Block]:
        """A list."""
        s = self.structure
        rows: list[tuple[str, object]] = [
            ("from", self.source),
            ("form", f"{s.form} (layer {s.layer}, alpha {sum(s.alpha) / len(s.alpha):.2g})"),
            ("blocks", kept(s.blocks, s.source_blocks)),
            ("parameters", f"{self.parameters:,}"),
            ("bytes", f"{size(self.bytes)} on disk"),
            ("quality", self.same()),
            ("data", self.unmeasured),
            ("written", self.out),
        ]
        yield Pairs(self.step, rows)
        yield from self.measuring(self.out)

    def card(
        self,
        net: Network,
        provenance: dict[str, object],
        inherited: Mapping[str, object],
        directory: Path,
    ) -> str:
        """That of a model directory."""
        return card.render(net, self, provenance, inherited, directory)


class Safetensors:
    """See `targets.base.Target`."""

    writes = "model.safetensors, beside its config and processor files"
    files: tuple[str, ...] = (
        "model.safetensors",
        "model-*-of-*.safetensors",
        "model.safetensors.index.json",
    )
    measures = False
    takes: Mapping[str, str] = {}
    verified = "The file holds the network's tensors bit for bit."
    report: type[Exported] = SafetensorsExported

    def check(self, net: Network, source: Source, how: Export) -> None:
        """Every network can be written so."""

    def write(
        self, net: Network, source: Source, directory: Path, how: Export, rows: Rows | None = None
    ) -> Saved:
        """Weights, config.json and processor files."""
        save(net, directory)
        copy_processors(source, directory)
        return Saved(
            structure=net.structure,
            parameters=net.parameters,
            bytes=sum(p.stat().st_size for p in directory.glob("*.safetensors")),
        )


TARGET = Safetensors()
