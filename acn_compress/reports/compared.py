"""What compare reports, on a screen and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from acn_compress.data.read import Read
from acn_compress.found import Found
from acn_compress.measure.intervals import few_note
from acn_compress.measure.quality import Quality
from acn_compress.reports.base import Report, few_lines, read_lines
from acn_compress.reports.blocks import Block, Grid, Line


class Budget(Found):
    """What every route may spend."""

    epochs_of_whole: float
    flops_per_example: float
    """Of one training example of the whole network."""
    epochs_at_depth: dict[str, float]
    """That this buys at each depth."""
    epochs_with_prefix: float
    """That it buys a run of the whole with prefix readouts."""


class Whole(Quality):
    """The untouched network."""

    noisy: float | None = None
    latency: float
    """Seconds per example."""


class RouteRun(Found):
    """One training run, read at one depth."""

    route: str
    depth: int
    seed: int
    epochs: float
    seconds: float
    """Of the training."""
    blocks: tuple[int, ...]
    alpha: tuple[float, ...]
    parameters: int
    clean: float
    noisy: float | None = None


class RouteRow(Found):
    """One route at one depth, over all seeds. Gains: above drop-last, paired, with 95 %
    interval."""

    route: str
    depth: int
    seeds: int
    seconds: float
    parameters: int
    latency: float
    """Seconds per example, the fastest of 20 rounds."""
    clean: float
    clean_spread: float
    clean_gain: float | None = None
    clean_gain_low: float | None = None
    clean_gain_high: float | None = None
    noisy: float | None = None
    noisy_spread: float | None = None
    noisy_gain: float | None = None
    noisy_gain_low: float | None = None
    noisy_gain_high: float | None = None

    def gain(self, kind: str) -> str:
        """The gain over the baseline as text; nothing for the baseline itself."""
        if f"{kind}_gain" not in self:
            return ""
        low, high = self[f"{kind}_gain_low"], self[f"{kind}_gain_high"]
        return f"{self[f'{kind}_gain']:+.4f} [{low:+.4f}, {high:+.4f}]"


class Compared(Report):
    """Every route to a depth at the same budget."""

    source: str
    weights_sha256: str
    data: str
    eval_data: str
    read: Read | None = None
    """Which rows and columns of the data."""
    eval_read: Read | None = None
    remarks: tuple[str, ...] = ()
    """About the checkpoint: what was left out of it, or is not as its config says."""
    noise: str | None
    alpha_end: float | None
    pull: float
    options: dict[str, Any]
    budget: Budget
    whole: Whole
    runs: tuple[RouteRun, ...]
    table: tuple[RouteRow, ...]
    machine: dict[str, str]
    out: str

    def display(self) -> Iterator[Block]:
        """A row per route and depth."""
        budget = f"{self.budget.epochs_of_whole:g} epochs of the whole network cost"
        title = f"compare {self.source}: every route for what {budget}"
        rows = [list(self._row(row)) for row in self.table]
        yield Grid(title, [name for name, _ in rows[0]], [[cell for _, cell in r] for r in rows])
        whole = self.whole
        noisy = "" if whole.noisy is None else f", under {self.noise} {whole.noisy:.4f}"
        latency = f"{milliseconds(whole.latency)} ms per example"
        yield Line(f"whole network: {whole.metric} {whole}{noisy}, {latency}")
        yield from few_lines(whole.examples)
        yield from read_lines(self.read, "trained on", remarks=self.remarks)
        yield from read_lines(self.eval_read, "measured on")
        yield Line(f"written: {self.out}/compare.json, compare.png, README.md")

    def _row(self, row: RouteRow) -> Iterator[tuple[str, str]]:
        yield "depth", str(row.depth)
        yield "route", row.route
        yield self.whole.metric, f"{row.clean:.4f}"
        yield "above drop-last [95 %, paired]", row.gain("clean")
        if row.noisy is not None:
            yield f"under {self.noise}", f"{row.noisy:.4f}"
            yield "above drop-last", row.gain("noisy")
        yield "ms", milliseconds(row.latency)
        yield "seeds", str(row.seeds)
        yield "training seconds", f"{row.seconds:.0f}"

    def markdown(self) -> str:
        """The table as Markdown, with what it means."""
        whole, budget = self.whole, self.budget.epochs_of_whole
        noisy = "" if whole.noisy is None else f", under {self.noise} {whole.noisy:.4f}"
        rows = [list(self._row(row)) for row in self.table]
        lines = [
            f"# {self.source}: routes to a smaller depth at equal training budget",
            "",
            f"Whole network: {whole.metric} {whole.value:.4f}{noisy} (n = {whole.examples:,}).",
            f"Budget: {budget:g} epochs of the whole network. "
            "Gain: above drop-last at the same depth, paired, 95 % interval.",
            "",
            "| " + " | ".join(name for name, _ in rows[0]) + " |",
            "|" + "---|" * len(rows[0]),
            *("| " + " | ".join(cell for _, cell in row) + " |" for row in rows),
            "",
            "ms: one example in torch on one thread, the fastest of 20 interleaved rounds; the "
            f"whole network: {milliseconds(whole.latency)}. {few_note(whole.examples)}".strip(),
            "",
            "![quality over latency](compare.png)",
            "",
        ]
        return "\n".join(lines)


def milliseconds(seconds: float) -> str:
    """A latency as text."""
    return f"{1000 * seconds:.2f}"
