"""The tables of docs/results.md, from what the benchmarks wrote: our methods beside what other
people would use, on the same network, rows and budget."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from figures import HEAD, RESULTS, cells, met, placed

from acn_compress.figures import change
from acn_compress.quality import Drop

NETWORKS = {
    "minilm-sst2": "MiniLM (6 layers) on SST-2",
    "mpnet-sst2": "MPNet (12 layers) on SST-2",
    "dinov2-cifar": "ViT of DINOv2-S's shape (12 x 384) on CIFAR-10",
    "vit-cifar": "ViT (12 x 128) on CIFAR-10",
    "mixer": "MLP-Mixer (12 x 128) on CIFAR-10",
    "llama-docstrings": "Llama shape on docstrings",
}
NARROWER = {
    "obs + refit": "**`prune`**",
    "obs + refit, random inputs": "`prune` without data (random inputs)",
    "kwon": "mask search and tuning (Kwon et al.)",
    "flap": "FLAP",
    "torch-pruning, taylor": "Torch-Pruning, Taylor (sees labels)",
    "torch-pruning, magnitude": "Torch-Pruning, magnitude",
    "magnitude": "magnitude of whole heads and features",
}
ZEROS = {
    "obs": "**`prune --method obs`** (SparseGPT's way)",
    "wanda": "Wanda",
    "magnitude": "magnitude, over the network",
    "magnitude, layer": "magnitude, layer by layer",
}
TRAINED = {"obs + refit": "**`prune --epochs 1`**", "magnitude": "magnitude, then the same epoch"}
FEWER = {
    "width": "**`prune`** (narrower blocks)",
    "depth, best, refit": "**`truncate --keep best --refit-data`**",
    "ReplaceMe": "ReplaceMe (a linear map for a span)",
    "depth, best": "blocks that are missed least, no refit",
    "depth, block influence": "block influence (ShortGPT)",
    "depth, drop-last": "last blocks dropped",
}
SHALLOWER = FEWER | {"TOAST": "TOAST (a linear map for a span, a layer of its own)"}
WAYS = {
    "narrower": "**`prune --epochs`**",
    "refitted": "the best blocks, refitted (`truncate --keep best --refit-data`)",
    "hybrid": "the same start, alpha on its way down (`--pull 0.1`)",
    "converted": "`convert --layer plain --prefix-loss 1`, one network for every depth",
    "drop-last": "last blocks dropped",
}
EVERY = {
    "converted": "**`convert --layer plain --prefix-loss 1`**, one network",
    "residual, readouts": "the residual network trained on with readouts (LayerSkip's way)",
    "cut to 2": "cut to 2 blocks and distilled, as many operations",
    "cut to 4": "cut to 4 blocks and distilled, as many operations",
    "ACN": "an ACN from random weights, as long as the residual network",
    "converted, no readouts": "`convert --layer plain`",
    "residual": "the residual network itself",
}
READ = (1, 2, 3, 4, 6, 9, 12)  # depths
FORMS = {"residual": "residual", "hybrid": "hybrid, alpha 0.5", "acn": "ACN, alpha 0"}
BITS = ("float32", "fp16", "int8", "int8-static", "int4")
Row = dict[str, Any]


def results(text: str) -> str:
    """The page with its tables in their place."""
    parts = "\n".join(
        [
            *_budgets(),
            *_narrower(),
            *_trained(),
            *_zeros(),
            *_decoders(),
            *_blocks(),
            *_lengths(),
            *_every_depth(),
            *_by_form(),
        ]
    )
    return placed(text, f"\n{parts}\n")


def _found(kind: str) -> Iterator[tuple[str, Row]]:
    """What a benchmark wrote, by the networks' names for people."""
    for name, title in NETWORKS.items():
        if (file := RESULTS / f"{kind}-{name}.json").is_file():
            yield title, json.loads(file.read_text())


def _budgets() -> Iterator[str]:
    yield "## `compress`\n"
    yield (
        "What the README shows of one draw: rows that are looked at and rows that decide come from"
        " a seed, the rows that are reported are the same. *Not held*: a limit that the reported"
        " rows do not confirm, which `compress` says and ends with 1.\n"
    )
    yield HEAD.strip().replace("network", "network, seed", 1)
    for source, name in NETWORKS.items():
        # a demand's draws stand together
        for one in sorted(met(source), key=lambda one: str(one["demand"])):
            yield f"| {name}, {one.get('seed', 0)} | {' | '.join(cells(one))} |"
    yield ""


def _narrower() -> Iterator[str]:
    yield "## Heads and MLP features removed, nothing trained\n"
    yield (
        "By the share of their parameters. Methods see the same rows (at most 2,048, without labels"
        " but where it says so); values of several draws of these rows stand side by side, the"
        " change is that of the worst of them, paired, with its 95 % interval.\n"
    )
    for title, report in _found("structured"):
        yield from _by_share(title, report, NARROWER, "value", "drop")


def _trained() -> Iterator[str]:
    yield "## The same, then one distilled epoch of 1,600 rows\n"
    for title, report in _found("recovery"):
        # what the command does by itself: behind a refit 0.3 of the learning rate
        own = {"obs + refit": 0.3}
        rows = [r for r in report["rows"] if r["of_default_lr"] == own.get(r["route"], 1)]
        yield from _by_share(title, {**report, "rows": rows}, TRAINED, "trained", "trained_drop")


def _zeros() -> Iterator[str]:
    yield "## Zeros in place, nothing trained\n"
    for title, report in _found("zeros"):
        yield from _by_share(title, report, ZEROS, "value", "drop")


def _by_share(title: str, report: Row, names: dict[str, str], value: str, drop: str) -> list[str]:
    """A table with a column for every share that was removed, or depth that was left."""
    rows, whole = report["rows"], report["whole"]
    columns = list(dict.fromkeys(map(_column, rows)))
    lines = [
        f"{title}: {100 * whole['value']:.1f} % uncut, {whole['examples']:,} test rows.\n",
        f"| method | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for route, name in names.items():
        cells = [
            _cell(
                [row for row in rows if row["route"] == route and _column(row) == at], value, drop
            )
            for at in columns
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _column(row: Row) -> str:
    if "budget" in row:
        epochs = row["budget"]
        return f"{epochs:g} epoch{'s' if epochs > 1 else ''}" if epochs else "untrained"
    if "depth" in row:
        return f"{row['depth']} blocks"
    return row.get("pattern") or f"{100 * row['share']:.0f} %"


def _cell(rows: Sequence[Row], value: str, drop: str) -> str:
    if not rows:
        return ""
    worst = max(rows, key=lambda row: row[drop]["drop"])
    values = ", ".join(f"{100 * row[value]:.1f}" for row in rows)
    return f"{values}; {change(Drop.model_validate(worst[drop]), 'accuracy')}"


def _decoders() -> Iterator[str]:
    yield "## A decoder's blocks: narrower, fewer, or a linear map, nothing trained\n"
    for title, report in _found("decoder"):
        whole = report["whole"]
        yield (
            f"{title}: perplexity {whole['perplexity']:.1f} uncut "
            f"({whole['examples']:,} rows of tokens; {report['unigram_perplexity']:.0f} by the"
            " frequency of tokens alone); speed in torch, one thread. Shares of all parameters of"
            " blocks.\n"
        )
        rows = report["rows"]
        shares = list(dict.fromkeys(row["share"] for row in rows))
        heads = [f"{100 * share:.0f} %: perplexity | speed" for share in shares]
        yield f"| method | {' | '.join(heads)} |"
        yield f"|---|{'---:|---:|' * len(shares)}"
        for route, name in FEWER.items():
            cells = [
                _perplexity([r for r in rows if r["route"] == route and r["share"] == share])
                for share in shares
            ]
            yield f"| {name} | {' | '.join(cells)} |"
        yield ""


def _blocks() -> Iterator[str]:
    yield "## A classifier's blocks: narrower, fewer, or a linear map, nothing trained\n"
    yield (
        "Accuracy with so many blocks left, the change in points (paired, 95 %); `prune` at as many"
        " parameters.\n"
    )
    for title, report in _found("blocks"):
        yield from _by_share(title, report, SHALLOWER, "value", "drop")


def _lengths() -> Iterator[str]:
    yield "## After how much training\n"
    yield (
        "The same network made smaller in every way, then distilled from itself, for as many"
        " floating-point operations as so many epochs of the whole network take with its teacher;"
        " accuracy in per cent and the change in points (paired, 95 %). In brackets how many times"
        " as fast as the whole network it is, in torch.\n"
    )
    for title, report in _found("lengths"):
        rows = report["rows"]
        faster = {row["route"]: row["faster"] for row in rows}
        names = {way: f"{name} ({faster[way]:.1f}x)" for way, name in WAYS.items() if way in faster}
        title += f", at the size of {report['depth']} of its blocks"
        yield from _by_share(title, report, names, "value", "drop")


def _perplexity(rows: Sequence[Row]) -> str:
    if not rows:
        return " | "
    values = ", ".join(f"{row['perplexity']:.1f}" for row in rows)
    return f"{values} | {rows[0]['faster']:.2f}x"


def _every_depth() -> Iterator[str]:
    yield "## One network for every depth\n"
    for file in sorted(RESULTS.glob("depths-*.json")):
        report = json.loads(file.read_text())
        seeds = sorted({row["seed"] for row in report["rows"]})
        limit = f" on {report['limit']:,} images" if "limit" in report else ""
        yield (
            f"{report['data']}, a ViT of 12 blocks trained{limit} for {report['scratch']} epochs,"
            f" then as the row says for {report['further']}; accuracy in per cent of its first"
            f" blocks, for each seed ({', '.join(map(str, seeds))}), and the change from the whole"
            " residual network in points (of the worse seed, paired, 95 %).\n"
        )
        yield f"| network | {' | '.join(map(str, READ))} |"
        yield f"|---|{'---|' * len(READ)}"
        for route, name in EVERY.items():
            rows = [row for row in report["rows"] if row["route"] == route]
            if rows:
                yield f"| {name} | {' | '.join(_at(rows, depth) for depth in READ)} |"
        yield ""


def _at(rows: Sequence[Row], depth: int) -> str:
    found = [at for row in rows for at in row["depths"] if at["depth"] == depth]
    return _cell(found, "value", "drop")


def _by_form() -> Iterator[str]:
    if not list(RESULTS.glob("precision-minilm-acn.json")):
        return
    yield "## Fewer bits, by form\n"
    yield (
        "MiniLM on SST-2, trained on for the same two epochs in three forms (a teacher for all:"
        " itself before), and the half of each (`prune --target-sparsity 0.5`, untrained);"
        " accuracy in float32, then the change of every file from its own network in torch, in"
        " points (paired, 95 %, 1,821 rows), and the cosine of the answers.\n"
    )
    yield f"| form | {' | '.join(BITS)} |"
    yield f"|---|{'---|' * len(BITS)}"
    for form, name in FORMS.items():
        rows = json.loads((RESULTS / f"precision-minilm-{form}.json").read_text())["rows"]
        for model in dict.fromkeys(row["model"] for row in rows):
            found = {row["precision"]: row for row in rows if row["model"] == model}
            value = f"{100 * found['float32']['quality']['value']:.1f}"
            cells = [value, *(_changed(found[bits]) for bits in BITS[1:])]
            yield f"| {name if model == 'whole' else 'its half'} | {' | '.join(cells)} |"
    yield ""


def _changed(row: Row) -> str:
    return f"{change(Drop.model_validate(row['drop']), 'accuracy')}; {row['cosine']:.4f}"
