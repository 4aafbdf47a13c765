"""The model card (README.md) of a model directory, written from its report and provenance; one
could publish it."""

from __future__ import annotations

from typing import Any

from acn_compress.architectures import base_type
from acn_compress.found import Found
from acn_compress.network.network import Network
from acn_compress.network.plain import plain_class
from acn_compress.network.sayable import is_plain
from acn_compress.tasks import head_named


def header(library: str, licence: str | None, *others: str) -> list[str]:
    """The Hub's YAML header, and an empty line.

    Args:
        library: that loads the model.
        licence: of the source; None if it names none.
        others: lines.
    """
    named = [] if licence is None else [f"license: {licence}"]
    return ["---", f"library_name: {library}", *named, *others, "---", ""]


def render(
    net: Network, report: Found, provenance: dict[str, Any], licence: str | None = None
) -> str:
    """The card as Markdown with the Hub's YAML header. `licence` is the source's."""
    name = plain_class(type(net.model)).__name__
    family, task = base_type(net.config.model_type), head_named(name)
    s = report["structure"]
    lines = header(
        "transformers",
        licence,
        f"pipeline_tag: {task.pipeline_tag if task else 'feature-extraction'}",
        "tags: [acn-compress, model-compression]",
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
    lines += ["", "## Use", "", "```python"]
    if is_plain(net):
        lines += [
            f"from transformers import {name}",
            "",
            f'model = {name}.from_pretrained("{report["out"]}")',
            "```",
        ]
        lines += ["", "A plain transformers checkpoint."]
    else:
        lines += [
            "import acn_compress",
            "",
            f'model = acn_compress.load("{report["out"]}")  # a {name}',
            "```",
        ]
        lines += [
            "",
            "Plain transformers refuses this model type; after `import acn_compress`, "
            "`AutoModelFor...from_pretrained` and `pipeline` load it.",
        ]
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
