"""What a causal language model loses when a share of its blocks' parameters is removed and nothing
is trained: narrower blocks, fewer blocks, or a linear map in the place of some (ReplaceMe).

    python -m benchmarks.decoder LLAMA --data DOCSTRINGS

LLAMA is the trained decoder of benchmarks/README.md, DOCSTRINGS what it was trained on. Perplexity
on the test split; losses paired per row of tokens, with the uncut network and with `width`. A share
is one of all parameters of the blocks and has to be a whole number of them. All that looks at data
sees the same training rows, drawn from a seed. Writes decoder-NAME.json.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from torch import Tensor

from acn_compress.compression.blocks import best, least_missed, may_go, without
from acn_compress.compression.calibration import ROWS
from acn_compress.compression.prune import prune_
from acn_compress.compression.refit import refit_
from acn_compress.data.load import Data, load_data
from acn_compress.found import Found
from acn_compress.measure.intervals import mean_interval
from acn_compress.measure.quality import Scores, measure
from acn_compress.measure.timing import fixed_threads, interleave, judge
from acn_compress.network import widths
from acn_compress.network.network import Network
from acn_compress.quality import Drop
from benchmarks.command import rounded, write
from benchmarks.peers import replaceme
from benchmarks.whole import Whole, arguments

TIMED = 4  # rows of a timed call
REPEATS = 10  # of it
SEEDS = 3  # of what is drawn


@dataclass(frozen=True)
class Case:
    """What is to be cut from where.

    Args:
        share: of the blocks' parameters that goes.
        rows: how many are looked at.
        seed: what they are drawn from.
    """

    whole: Whole
    share: float
    rows: int
    seed: int

    @cached_property
    def data(self) -> Data:
        """The rows that are looked at."""
        return self.whole.rows(self.rows, self.seed)

    @property
    def gone(self) -> int:
        """Blocks that go."""
        return round(self.share * self.whole.net.depth)


Cut = Callable[[Network, Case], object]
"""(net, case): cuts in place."""


def width_(net: Network, case: Case) -> None:
    """`prune`: heads and features that are missed least, the others refitted."""
    prunable = sum(parameters_of_widths(net, k) for k in range(net.depth))
    share = case.share * parameters(net) / prunable
    prune_(net, share, data=case.data, seed=case.seed)


def depth_(choose: Callable[[Network, Case], list[int]], refit: bool = False) -> Cut:
    """Some of the blocks; `refit`: they make up for the others."""

    def cut_(net: Network, case: Case) -> None:
        whole = net.twin()
        net.keep_(choose(net, case))
        if refit:
            refit_(net, whole, case.data)

    return cut_


def best_(net: Network, case: Case) -> None:
    """`truncate --keep best --refit-data`."""
    whole = net.twin()
    net.keep_(best(net, net.depth - case.gone, case.data).blocks)
    refit_(net, whole, case.data)


def by_answers(net: Network, case: Case) -> list[int]:
    """The block without which the answers change least goes, again and again."""
    gone = least_missed(net, case.data, may_go(net, case.gone), case.gone)
    return list(without(net, {block for block, _ in gone}))


def by_order(net: Network, case: Case) -> list[int]:
    """The first ones."""
    return list(range(net.depth - case.gone))


def by_span(net: Network, case: Case) -> list[int]:
    """All but the span that ReplaceMe takes out."""
    return list(without(net, replaceme.span(net, case.gone, case.data)))


def by_influence(net: Network, case: Case) -> list[int]:
    """Those whose output is farthest from their input, by the cosine: ShortGPT (arXiv
    2403.03853)."""
    influence = replaceme.distances(net, 1, case.data)
    return sorted(np.argsort(influence)[case.gone :].tolist())


def map_(net: Network, case: Case) -> None:
    """A linear map in place of the blocks."""
    replaceme.replace_(net, case.gone, case.data)


ROUTES: dict[str, tuple[Cut, int]] = {
    "width": (width_, SEEDS),
    "depth, best, refit": (best_, SEEDS),
    "depth, first, refit": (depth_(by_order, refit=True), 1),
    "depth, span, refit": (depth_(by_span, refit=True), 1),
    "ReplaceMe": (map_, SEEDS),
    "depth, best": (depth_(by_answers), 1),
    "depth, block influence": (depth_(by_influence), 1),
    "depth, drop-last": (depth_(by_order), 1),
}
"""And by how many seeds each is run; `width` comes first, the others are paired with it."""


class Row(Found):
    """One cut network."""

    route: str
    share: float
    seed: int
    blocks: list[int]
    """That are left."""
    parameters: int
    """Of the blocks."""
    seconds: float
    """Of the processor, for choosing, cutting and refitting."""
    perplexity: float
    loss: float
    """Nats per token."""
    above_whole: Drop
    """How far the loss lies above that of the uncut network, paired."""
    above_width: Drop
    """And above that of `width` with the same rows."""
    faster: float
    """Processor time of the uncut network for a token, over this one's; medians."""
    faster_low: float
    faster_high: float


def parameters(net: Network) -> int:
    """Of the blocks."""
    return sum(p.numel() for block in net.blocks for p in block.parameters())


def parameters_of_widths(net: Network, k: int) -> int:
    """Of the heads and MLP features of block k."""
    block = net.blocks[k]
    return sum(
        layer.weight.numel()
        for width in net.family.widths(block).values()
        for layer, _, _ in widths.layers(block, width)
    )


def above(scores: Scores, other: Scores) -> Drop:
    """How far the loss of `scores` lies above the other's, paired."""
    reach = (-math.inf, math.inf)
    low, high = mean_interval(scores.loss - other.loss, scores.weight, reach)
    return Drop(drop=scores.mean_loss - other.mean_loss, low=low, high=high)


def faster(whole: Network, net: Network, inputs: dict[str, Tensor]) -> dict[str, float]:
    """How many times as fast the cut network reads one batch."""
    with fixed_threads(1):
        calls = [lambda n=n: n.answer(**inputs) for n in (whole, net)]
        first, own = interleave(calls, REPEATS, clock=time.process_time)
    found = judge(own, first)
    return {
        "faster": found["ratio"],
        "faster_low": found["ratio_low"],
        "faster_high": found["ratio_high"],
    }


def unigram(whole: Whole) -> float:
    """Perplexity of the test split by how often each token is there in the training split (plus
    one), for comparison."""
    counts = np.ones(whole.net.config.vocab_size)
    data = load_data(whole.how.data, whole.net, whole.source, role="train")
    for batch in data.batches(256):
        np.add.at(counts, batch["input_ids"][batch["attention_mask"].bool()].numpy(), 1)
    target = whole.scores.target.astype(int)
    return float(np.exp(-np.log(counts / counts.sum())[target].mean()))


def run(case: Case, route: str, width: Scores | None) -> tuple[Row, Scores]:
    """Cut a copy and measure it; `width` is what `above_width` compares with, None itself."""
    net, _ = case.whole.net.copy(), len(case.data)
    started = time.process_time()
    ROUTES[route][0](net, case)
    seconds = time.process_time() - started
    scores = measure(net, case.whole.test)
    inputs = net.example_inputs(TIMED, net.config.max_position_embeddings)
    row = Row(
        route=route,
        share=case.share,
        seed=case.seed,
        blocks=list(net.structure.blocks),
        parameters=parameters(net),
        seconds=seconds,
        perplexity=math.exp(scores.mean_loss),
        loss=scores.mean_loss,
        above_whole=above(scores, case.whole.scores),
        above_width=above(scores, scores if width is None else width),
        **faster(case.whole.net, net, inputs),
    )
    return row, scores


def in_words(row: Row) -> str:
    """A line for the screen."""
    return (
        f"{row.share} {row.route} ({row.seed}): {row.perplexity:.2f}, above width "
        f"{row.above_width}, {row.faster:.2f}x, {row.seconds:.0f} s"
    )


def main() -> None:
    """The command."""
    command = arguments(__doc__)
    command.add_argument("--shares", default="0.2,0.3,0.5")
    command.add_argument("--rows", type=int, default=ROWS, help="that are looked at")
    options = command.parse_args()
    whole, rows = Whole.read(options.source, options.data), list[Found]()
    print(f"whole: perplexity {math.exp(whole.scores.mean_loss):.2f}", flush=True)
    more = {
        "rows_looked_at": options.rows,
        "blocks": whole.net.depth,
        "parameters": whole.net.parameters,
        "parameters_of_blocks": parameters(whole.net),
        "unigram_perplexity": unigram(whole),
    }
    name = options.source.name
    shares = map(float, options.shares.split(","))
    for seed, share in product(range(SEEDS), list(shares)):
        case, width = Case(whole, share, options.rows, seed), None
        for route in (r for r, (_, seeds) in ROUTES.items() if seed < seeds):
            row, scores = run(case, route, width)
            width = width or scores
            rows.append(row)
            print(in_words(row), flush=True)
            report = whole.report("decoder", name, rows, **more)
            write(options.results / f"decoder-{name}.json", rounded(report))


if __name__ == "__main__":
    main()
