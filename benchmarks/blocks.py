"""What a classifier loses when some of its blocks go and nothing is trained: the last ones, those
that change the stream least, a span with a linear map in its place, and ours.

    python -m benchmarks.blocks VIT --data CIFAR10 --depths 9,6,4

As `benchmarks.decoder` for a language model, whose ways to cut these are, and TOAST. Drops are
paired with the uncut network; all that looks at data sees the same training rows, drawn from a
seed. `width` is what `prune` gives at as many parameters. Writes blocks-NAME.json.
"""

from __future__ import annotations

import time
from itertools import product

from acn_compress.compression.calibration import ROWS
from acn_compress.found import Found
from acn_compress.measure.quality import measure, paired
from acn_compress.network.network import Network
from acn_compress.quality import Drop
from benchmarks.command import rounded, write
from benchmarks.decoder import ROUTES, Case, Cut, parameters
from benchmarks.peers import toast
from benchmarks.whole import Whole, arguments

PRE_NORM = ("ReplaceMe",)
"""What stands on blocks that only add to the stream."""


def toast_(net: Network, case: Case) -> None:
    """A linear map in place of the blocks, as a layer of its own."""
    toast.replace_(net, case.gone, case.data)


CUTS: dict[str, Cut] = {name: cut for name, (cut, _) in ROUTES.items()} | {"TOAST": toast_}


class Row(Found):
    """One cut network."""

    route: str
    depth: int
    seed: int
    blocks: list[int]
    """That are left."""
    parameters: int
    """Of the blocks; a linear map of its own is not counted."""
    seconds: float
    """Of the processor, for choosing, cutting and refitting."""
    value: float
    drop: Drop
    """From the uncut network, paired."""


def run(case: Case, route: str) -> Row:
    """Cut a copy and measure it."""
    net, _ = case.whole.net.copy(), len(case.data)
    started = time.process_time()
    CUTS[route](net, case)
    seconds = time.process_time() - started
    scores = measure(net, case.whole.test)
    return Row(
        route=route,
        depth=case.whole.net.depth - case.gone,
        seed=case.seed,
        blocks=list(net.structure.blocks),
        parameters=parameters(net),
        seconds=seconds,
        value=scores.value,
        drop=paired(scores, case.whole.scores),
    )


def main() -> None:
    """The command."""
    command = arguments(__doc__)
    command.add_argument("--depths", default="9,6,4")
    command.add_argument("--seeds", type=int, default=1, help="draws of the rows")
    command.add_argument("--rows", type=int, default=ROWS, help="that are looked at")
    options = command.parse_args()
    whole, rows = Whole.read(options.source, options.data), list[Found]()
    pre_norm = whole.net.norm_behind(0) is None
    routes = [r for r in CUTS if pre_norm or r not in PRE_NORM]
    name, depth = options.source.name, whole.net.depth
    for seed, k in product(range(options.seeds), map(int, options.depths.split(","))):
        case = Case(whole, (depth - k) / depth, options.rows, seed)
        for route in routes:
            rows.append(row := run(case, route))
            print(f"{k} blocks, {route} ({seed}): {row.value:.4f}, drop {row.drop}", flush=True)
            more = {"rows_looked_at": options.rows, "parameters_of_blocks": parameters(whole.net)}
            report = whole.report("blocks", name, rows, **more)
            write(options.results / f"blocks-{name}.json", rounded(report))


if __name__ == "__main__":
    main()
