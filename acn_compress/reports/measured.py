"""What the steps report that measure: evaluate, profile, benchmark."""

from __future__ import annotations

from collections.abc import Iterator

from acn_compress import figures
from acn_compress.checkpoint.files import size
from acn_compress.data.read import Read
from acn_compress.found import Found
from acn_compress.measure.early_exit import Exits
from acn_compress.measure.intervals import round_up
from acn_compress.measure.readouts import Contribution, Depth, Unsettled, smallest
from acn_compress.measure.timing import BUSY, FIRST, NO_DIFFERENCE, UNCLEAR
from acn_compress.network.structure import Structure
from acn_compress.options import Bound
from acn_compress.quality import Below, Drop, Quality, against
from acn_compress.reports.base import Report, few_lines, read_lines
from acn_compress.reports.blocks import Block, Command, Line, Pairs, grid
from acn_compress.reports.charts import Chart, Dot


class Evaluated(Report):
    """What evaluate reports."""

    source: str
    data: str
    read: Read | None = None
    """Which rows and columns of it."""
    remarks: tuple[str, ...] = ()
    """About the checkpoint: what was left out of it, or is not as its config says."""
    noise: str | None
    result: Quality
    exit: Exits | None = None
    against: str | None = None
    other: Quality | None = None
    """Of the model it was measured against."""
    drop: Drop | None = None
    """How far it lies below the other."""
    original: Below | None = None
    """The original of the chain, on the same rows, where no other model was asked for."""

    def display(self) -> Iterator[Block]:
        """The metrics, and what early exit costs and saves."""
        r = self.result
        noise = f", noise {self.noise}" if self.noise else ""
        rows: list[tuple[str, object]] = [("data", f"{self.data}{noise}, n = {r.examples:,}")]
        rows += [(r.metric, r), ("loss", f"{r.loss:.4f}")]
        rows += [(name, f"{value:.4f}") for name, value in r.further.items()]
        if self.drop is not None:
            rows += [("against", f"{self.against}: {self.other}")]
            rows += [("change", f"{figures.told(self.drop, r.metric)} (95 %, paired)")]
        elif self.original is not None:
            told = figures.told(self.original.drop, r.metric)
            than = against(self.source, self.original.name)
            rows += [("change", f"{told} (95 %, paired) against {than}")]
        yield Pairs(f"evaluate {self.source}", rows)
        yield from few_lines(r.examples)
        yield from read_lines(self.read, remarks=self.remarks)
        if self.exit is not None:
            yield _exits(self.exit)


def _exits(r: Exits) -> Pairs:
    f, s = r.flops, r.seconds
    left = ", ".join(f"{row.depth}: {row.share:.1%}" for row in r.depths if row.share)
    times = f"{1000 * s.early:.3f} per example, {1000 * s.full:.3f} at full depth: "
    how = f"(batch 1, PyTorch, {threads(s.threads)}, {s.examples} examples side by side)"
    rows: list[tuple[str, object]] = [
        (r.result.metric, r.result),
        (
            "change",
            f"{figures.told(r.drop, r.result.metric)} (95 %, paired) against the full depth",
        ),
        (
            "depth",
            f"{r.mean_depth:.2f} of {len(r.depths)} on average; examples that leave at {left}",
        ),
        (
            "MFLOP",
            f"{f.early / 1e6:,.2f} per example, {f.full / 1e6:,.2f} at full depth: "
            f"{f.speedup:.2f}x",
        ),
        ("ms", f"{times}{s.speedup:.2f}x [{s.low:.2f}, {s.high:.2f}] {how}"),
    ]
    return Pairs(f"early exit at an entropy of at most {r.entropy:g} nats", rows)


def threads(number: int) -> str:
    """So many threads, for people."""
    return figures.counted(number, "thread")


WORTH = (
    "without, heads, mlp, tokens: nats by which the loss is foreseen to rise without the block "
    "and those that are missed less (none: it stays), or without all of these; what compress "
    "weighs."
)
FURTHER = (
    "influence",
    "angle",
    "cka",
    "leave_one_out",
    "taylor",
    "without",
    "heads",
    "mlp",
    "tokens",
)
ANSWERS = ("cosine", "MSE", "KL", "agreement")
# columns, as in `Grid`
SPARE = ("95 %", *ANSWERS, *(name.replace("_", "-") for name in reversed(FURTHER)), "share")


class Profiled(Report):
    """What profile reports; without `files` it is profile.json."""

    version: int = 1
    source: str
    weights_sha256: str
    data: str
    read: Read | None = None
    """Which rows and columns of it."""
    remarks: tuple[str, ...] = ()
    """About the checkpoint: what was left out of it, or is not as its config says."""
    structure: Structure
    max_drop: float
    bound: Bound
    cutoff: int | None
    """The smallest depth whose drop passes; None if there is none below the full one."""
    unsettled: Unsettled | None = None
    """A smaller one that more examples may show to pass."""
    unshown: str | None = None
    """Why so few examples cannot show that a drop is as small as max_drop."""
    original: str | None = None
    """The original of the chain, where it was measured on the same rows and is not SRC."""
    from_original: tuple[Drop, ...] | None = None
    """Of every depth, how far it lies below that."""
    full: Quality
    depths: tuple[Depth, ...]
    blocks: tuple[Contribution, ...]
    resamples: int
    files: tuple[str, ...] = ()
    """Where it was written."""

    def display(self) -> Iterator[Block]:
        """A row per depth, what was decided, and what to do next."""
        n = self.full.examples
        title = f"profile {self.source} ({self.structure.form} form) on {self.data}, n = {n:,}"
        rows = [self._row(d, b) for d, b in zip(self.depths, self.blocks, strict=True)]
        yield grid(title, rows, spare=SPARE)
        yield Line(self.decision())
        if self.original is not None:
            yield Line(self._from_original())
        yield Line("share, cosine: of what the block at this depth adds to the output.")
        if any("heads" in block or "tokens" in block for block in self.blocks):
            yield Line(WORTH)
        yield from few_lines(n)
        yield from read_lines(self.read, remarks=self.remarks)
        yield Line("written: " + ", ".join(self.files))
        if self._truncated() is not None:
            cut = f"acn-compress truncate {{source}} OUT --max-drop {self.max_drop:g}"
            yield Command.of(cut, source=self.source)

    def brief(self) -> str:
        """What was decided."""
        return self.decision()

    def parts(self) -> Iterator[Block | Chart]:
        """What a page has of it: the picture with the cutoff, and the figures."""
        metric = self.full.metric
        dots = []
        for d in self.depths:
            # the drop's interval, which the cutoff is by
            ends = (d.value, d.value + d.drop - d.drop_high, d.value + d.drop - d.drop_low)
            value, low, high = (figures.scaled(end, metric) for end in ends)
            dots.append(Dot(str(d.depth), d.depth, value, low, high))
        yield Chart(
            f"Quality at every depth ({self.structure.form} form)",
            "blocks kept",
            figures.title(metric) + (", %" if metric in figures.POINTS else ""),
            dots,
            level=figures.scaled(self.full.value - self.max_drop, metric),
            mark=self.cutoff,
            joined=True,
            note="Bars: 95 % of the drop, paired. Broken line: the whole less "
            f"{figures.limit(self.max_drop, self.full.metric)}. {self.decision()}",
        )
        rows = [self._row(d, b) for d, b in zip(self.depths, self.blocks, strict=True)]
        yield grid(f"profile on {self.data}, n = {self.full.examples:,}", rows, spare=SPARE)

    def decision(self) -> str:
        """Which depth passes, and by what."""
        within = f"within {figures.limit(self.max_drop, self.full.metric)} ({self.bound} bound)."
        last = len(self.blocks) - 1
        told = f"cutoff: {self.cutoff} of {last} blocks keep the drop from all {last} {within}"
        if self.cutoff is None:
            told = f"no depth below {last} keeps the drop from all {last} blocks {within}"
            told += f" {self.unshown}" if self.unshown else ""
        return f"{told} {self._smaller()}".rstrip()

    def _truncated(self) -> int | None:
        """The depth that truncate takes by itself, which is held to the original where that was
        measured."""
        if self.from_original is None:
            return self.cutoff
        return smallest(self.from_original, self.max_drop, self.bound)

    def _from_original(self) -> str:
        """Which depth passes against the original, and how far all blocks lie from that."""
        assert self.original is not None and self.from_original is not None
        metric, last = self.full.metric, len(self.blocks) - 1
        whole = figures.told(self.from_original[-1], metric)
        depth = self._truncated()
        passing = "no depth below that" if depth is None else f"{depth} of {last} blocks"
        return (
            f"against {against(self.source, self.original)}, to which truncate holds: all {last} "
            f"blocks {whole}; {passing} within {figures.limit(self.max_drop, self.full.metric)}."
        )

    def _smaller(self) -> str:
        """The depth that more examples may show to pass, and how many."""
        if (found := self.unsettled) is None:
            return ""
        told = f"By the drop alone it is {found.depth}"
        if found.examples is None:
            return f"{told}, exactly at the limit."
        return f"{told}: if that is the true one, {round_up(found.examples):,} examples show it."

    def _row(self, d: Depth, b: Contribution) -> list[tuple[str, str]]:
        """Names and cells of a depth; what was not measured has none."""
        row = [
            ("depth", f"{d.depth}" + (" <- cutoff" if d.depth == self.cutoff else "")),
            (figures.title(self.full.metric), f"{d.value:.4f}"),
            ("95 %", f"{d.low:.4f} .. {d.high:.4f}"),
            ("change [95 %]", figures.change(d.lost, self.full.metric)),
        ]
        answers = (("agreement", d.agreement), ("KL", d.kl), ("MSE", d.mse))
        row += [(name, f"{value:.4f}") for name, value in answers if value is not None]
        row += [("share", f"{100 * b.share:.1f} %"), ("cosine", f"{b.cosine:+.3f}")]
        columns = [name for name in FURTHER if any(name in block for block in self.blocks)]
        return row + [(n.replace("_", "-"), f"{b[n]:.4f}" if n in b else "") for n in columns]


class Timed(Found):
    """One model in one backend."""

    source: str
    backend: str
    median: float
    """Seconds per call."""
    q1: float
    q3: float
    min: float
    ratio: float
    """To the first source in the same backend: above 1 is faster."""
    ratio_low: float
    ratio_high: float
    verdict: str
    parameters: int | None = None
    flops: float | None = None
    """Floating-point operations per example."""
    bytes: int


class Benchmarked(Report):
    """What benchmark reports."""

    batch_size: int
    threads: int
    repeats: int
    device: str = "cpu"
    """Of the networks in torch; ONNX Runtime runs on the CPU."""
    rows: tuple[Timed, ...]
    busy: float
    """The largest median over its fastest sample: how far other work disturbed the timing."""
    remarks: tuple[str, ...] = ()
    """Which file of a directory was taken."""
    machine: dict[str, str]

    def display(self) -> Iterator[Block]:
        """A row per model and backend."""
        how = f"batch {self.batch_size}, {threads(self.threads)}, {self.repeats} rounds"
        title = f"{how}, interleaved, on {self.machine['processor']}"
        torch = "" if self.device == "cpu" else f", torch on {self.device}"
        spare = ["middle half", "MFLOP", "params", "size"]
        yield grid(title + torch, [_timed(row) for row in self.rows], spare=spare)
        yield Line(
            "faster: against the first in the same backend; none = no difference beyond noise."
        )
        for remark in self.remarks:
            yield Line(remark)
        if note := busy_note(self.busy).strip():
            yield Line(note)


def _timed(row: Timed) -> list[tuple[str, str]]:
    """Names and cells of a model in a backend."""
    return [
        ("model", row.source),
        ("in", {"onnx": "ONNX"}.get(row.backend, row.backend)),
        ("ms", f"{1000 * row.median:.3f}"),
        ("middle half", f"{1000 * row.q1:.3f} .. {1000 * row.q3:.3f}"),
        ("faster", faster(row.verdict, row.ratio)),
        ("[95 %]", "" if row.verdict == FIRST else f"{row.ratio_low:.2f} .. {row.ratio_high:.2f}"),
        ("params", figures.millions(row.parameters)),
        ("MFLOP", "" if row.flops is None else f"{row.flops / 1e6:,.1f}"),
        ("size", size(row.bytes)),
    ]


def faster(verdict: str, ratio: float) -> str:
    """How much, or none where it lies within the noise; nothing for the first."""
    short = {FIRST: "", NO_DIFFERENCE: "none", UNCLEAR: "unclear"}
    return short.get(verdict, f"{ratio:.2f}x")


def busy_note(busy: float) -> str:
    """A warning if other work disturbed the timing, else nothing."""
    if busy <= BUSY:
        return ""
    return (
        f" The machine was busy (a median is {busy:.1f} times its fastest sample): time again with "
        "acn-compress benchmark when it is quiet."
    )
