"""Writing what a step made: weights, processors, report, provenance and model card, in one atomic
directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from acn_compress.checkpoint import card
from acn_compress.checkpoint import save as checkpoint
from acn_compress.checkpoint.directory import new_directory
from acn_compress.checkpoint.files import write_json, write_text
from acn_compress.checkpoint.licence import inherited
from acn_compress.checkpoint.original import Again
from acn_compress.checkpoint.processors import copy_processors
from acn_compress.checkpoint.provenance import options_of, provenance
from acn_compress.checkpoint.published import F, published, shown
from acn_compress.checkpoint.source import Source
from acn_compress.found import Found
from acn_compress.network.network import Network
from acn_compress.network.structure import Structure
from acn_compress.quality import Outcome

PAGE = "report.html"


class Written(Found):
    """What every step that writes a model directory reports."""

    step: str
    source: str | None
    """What it was made from; None is random weights."""
    out: str
    structure: Structure
    parameters: int
    """Tied ones once."""
    bytes: int
    """Of the weight files."""

    again: Again | None = None
    """With what its quality can be measured, where it was not."""

    def outcome(self) -> Outcome | None:
        """What became of the quality; None if it was not measured."""
        return None


W = TypeVar("W", bound=Written)


def write(
    net: Network,
    out: str | PathLike[str],
    *,
    source: Source | None,
    step: str,
    options: dict[str, Any],
    report: Mapping[str, object],
    seed: int | None = None,
    overwrite: bool = False,
    processor: Any = None,
    files: Source | None = None,
    kind: type[W] = Written,  # type: ignore[assignment]
    more: Callable[[Path], Mapping[str, object]] = lambda directory: {},
    use: Callable[[W, Path], Sequence[str]] = lambda found, directory: (),
    page: Callable[[W, Path], str] | None = None,
) -> W:
    """Write the model directory of a step.

    Args:
        net: in the structure its config records.
        out: the directory to create.
        source: what it was made from; its tokenizer and image-processor files are copied.
        step: the command's name.
        options: the step's options, for provenance; plain data.
        report: what the step found, plain data.
        seed: of the step.
        overwrite: replace a directory that is there.
        files: where the files that go with the model lie, if they are no longer the source's.
        processor: an image processor or tokenizer to save instead of the source's files.
        kind: of the report.
        more: writes further files into the directory, and returns what the report has of them.
        use: Markdown of a report for the card, of the files that `more` wrote.
        page: report.html of a report as it is published, where the step has one; the directory
            holds all but that.
    Returns:
        The report as written.
    Raises:
        ModelDirError, VerificationError: nothing is left behind.
    """
    with new_directory(out, source=source, overwrite=overwrite) as directory:
        checkpoint.save(net, directory)
        copy_processors(files or source, directory)
        if processor is not None:
            processor.save_pretrained(directory)
        full = kind(
            step=step,
            source=source.name if source else None,
            out=str(out),
            structure=net.structure,
            parameters=net.parameters,
            bytes=sum(p.stat().st_size for p in directory.glob("*.safetensors")),
            **_remarked(net, kind, report),
            **more(directory),
        )
        if source is not None and full.outcome() is None:
            full = full.model_copy(update={"again": Again.of(source)})
        history = provenance(source, step, options_of(**options), seed, full.outcome())
        handed = inherited(source)
        document(
            directory,
            full,
            history,
            lambda found: card.render(
                net, found, history, handed, directory, use(found, directory)
            ),
        )
        if page is not None:
            write_text(directory / PAGE, page(shown(full), directory))
    return full


def _remarked(net: Network, kind: type[Found], report: Mapping[str, object]) -> dict[str, object]:
    """A report whose note also says what there is to say about the checkpoint."""
    notes = [str(text) for text in (report.get("note"), *net.remarks) if text]
    return (
        {**report, "note": " ".join(notes)} if notes and "note" in kind.model_fields else {**report}
    )


def document(directory: Path, report: F, history: dict[str, Any], card: Callable[[F], str]) -> None:
    """Write report, provenance and model card, so that they can be handed on.

    Args:
        directory: of the model.
        report: what the step found; its places are cut down to their last names.
        history: the provenance.
        card: the README of a report.
    """
    public = shown(report)
    write_json(directory / "report.json", published(public.plain()))
    write_json(directory / "provenance.json", history)
    (directory / "README.md").write_text(card(public), encoding="utf-8")
