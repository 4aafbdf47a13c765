"""The model card (README.md) of a model directory, written from its report and provenance; one
could publish it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from acn_compress import __version__
from acn_compress.architectures import base_type
from acn_compress.checkpoint import snippets
from acn_compress.checkpoint.published import published
from acn_compress.found import Found
from acn_compress.network.network import Network
from acn_compress.network.plain import plain_class
from acn_compress.network.sayable import is_plain
from acn_compress.quality import Outcome, told
from acn_compress.tasks import head_named

PLAIN = "A plain transformers checkpoint."
NOT_PLAIN = (
    "Plain transformers refuses this model type; after `import acn_compress` (the package "
    f"acn-compress, {__version__} wrote this), `AutoModelFor...from_pretrained` and `pipeline` "
    "load it."
)
TAGS = ("acn-compress", "model-compression")
OURS = "acn-compress"  # the library that loads what plain transformers does not


def header(
    library: str, inherited: Mapping[str, Any], tags: Sequence[str] = TAGS, **more: Any
) -> list[str]:
    """The Hub's YAML header, and an empty line.

    Args:
        library: that loads the model.
        inherited: what the source's card hands on (`licence.inherited`).
        tags: of the model.
        more: fields of `huggingface_hub.ModelCardData`.
    """
    from huggingface_hub import ModelCardData

    fields = ModelCardData(library_name=library, tags=list(tags), **inherited, **more)
    return ["---", *fields.to_yaml().splitlines(), "---", ""]


def measured(report: Found, task: str, name: str) -> dict[str, Any]:
    """What the step measured, as the Hub's model-index has it; nothing if it did not."""
    from huggingface_hub import EvalResult

    after = report.get("after")
    where = report.get("eval_data") or report.get("data")
    if after is None or "metric" not in after or not where:
        return {}
    data, _, split = published(where).rpartition(":")
    interval = f"95 % interval {after['low']:.4f} to {after['high']:.4f}"
    result = EvalResult(
        task_type=task,
        dataset_type=data or split,
        dataset_name=data or split,
        dataset_split=split if data else None,
        metric_type=after["metric"],
        metric_value=round(after["value"], 4),
        metric_name=f"{after['metric']} ({interval}, n = {after['examples']})",
    )
    return {"model_name": name, "eval_results": [result]}


def quality_of(provenance: Mapping[str, Any]) -> str:
    """What became of the quality by the last step, in a line."""
    found = provenance["steps"][-1]["quality"]
    return told(None if found is None else Outcome.model_validate(found))


def render(
    net: Network,
    report: Found,
    provenance: dict[str, Any],
    inherited: Mapping[str, Any],
    directory: Path,
    use: Sequence[str] = (),
) -> str:
    """The card as Markdown with the Hub's YAML header.

    Args:
        inherited: what the source's card hands on.
        directory: that it is the card of, written but for it.
        use: Markdown of further files in it.
    """
    name = plain_class(type(net.model)).__name__
    family, task = base_type(net.config.model_type), head_named(name, net.modality)
    pipeline_tag, plain = task.pipeline_tag if task else "feature-extraction", is_plain(net)
    called = Path(report["out"]).name
    s = report["structure"]
    lines = header(
        "transformers" if plain else OURS,
        inherited,
        pipeline_tag=pipeline_tag,
        **measured(report, pipeline_tag, called),
    )
    lines += [
        f"# {family} · {s['form']} form · {len(s['blocks'])} of {s['source_blocks']} blocks",
        "",
    ]
    lines += [
        f"Made with acn-compress by `{report['step']}` from "
        f"`{report['source'] or 'random weights'}`.",
        "",
    ]
    lines += [
        "| | |",
        "|---|---|",
        f"| class | `{name}` |",
        f"| form | {s['form']} (layer: {s['layer']}) |",
        f"| blocks kept | {', '.join(map(str, s['blocks']))} |",
    ]
    lines += [
        f"| parameters | {report['parameters']:,} |",
        f"| bytes of weights | {report['bytes']:,} |",
    ]
    if s["sparsity"]:
        lines += [f"| zeros among the blocks' weight matrices | {s['sparsity']:.1%} |"]
    if s["widths"]:
        lines += [
            "| widths per block | "
            + "; ".join(", ".join(f"{k} {v}" for k, v in w.items()) for w in s["widths"])
            + " |"
        ]
    quality = [(k, report[k]) for k in ("before", "after") if k in report and "metric" in report[k]]
    lines += [
        f"| {q['metric']} {k} this step | {q['value']:.4f} (95 % interval {q['low']:.4f} to "
        f"{q['high']:.4f}, n = {q['examples']}) |"
        for k, q in quality
    ]
    lines += [f"| quality | {quality_of(provenance)} |"]
    lines += ["", "## Use", ""]
    colours = net.channels if net.modality == "image" else None
    lines += snippets.of_checkpoint(directory, report["out"], name, pipeline_tag, plain, colours)
    lines += [PLAIN if plain else NOT_PLAIN, *use]
    lines += [
        "",
        "## Where it comes from",
        "",
        "| step | source | SHA-256 of the source's weights | seed | finished |",
        "|---|---|---|---|---|",
    ]
    for entry in provenance["steps"]:
        src = entry["source"] or {"name": "random weights", "weights_sha256": ""}
        lines.append(
            f"| {entry['step']} | {src['name']} | {src['weights_sha256'][:16]} | {entry['seed']} "
            f"| {entry['finished']} |"
        )
    lines += [
        "",
        "Figures hold for the data they were measured on (see `report.json`); licence and limits "
        "of the source model apply.",
        "",
    ]
    return "\n".join(lines)
