"""Which way to a smaller network is the best one after how much training: the same network made
smaller in every way, then distilled from itself, for the same floating-point operations.

    python -m benchmarks.lengths VIT --data CIFAR10 --depth 3 --budgets 0,1,3,9 --limit 15000
        --batch-size 128 --lr 1e-3 --augment flip-crop [--seeds 0,1]

A budget is in epochs of the whole network beside its teacher; what choosing, cutting and refitting
take is paid for out of it, but for a budget of 0, where nothing is trained. Every way ends at the
size of DEPTH blocks: that many blocks, or all of them narrower with as many parameters. `converted`
is one run of the whole network towards alpha 0, read out at DEPTH, and cut there at its end; it can
be cut anywhere else as well. Measured on the test split, paired with the whole network. Writes
lengths-NAME.json; what it has of other ways, budgets and seeds of the same network stays in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from acn_compress.compression.calibration import ROWS
from acn_compress.data.splits import training_split
from acn_compress.found import Found
from acn_compress.measure.budget import forward_flops, training_flops
from acn_compress.measure.quality import measure, paired
from acn_compress.options import Compare, Trained
from acn_compress.quality import Drop
from acn_compress.reports.plots import INK, bars, canvas
from acn_compress.training.fit import fit
from acn_compress.training.walk import Walk
from benchmarks.command import rounded, stored, write
from benchmarks.decoder import TIMED, Case, Cut, best_, by_order, depth_, faster, parameters, width_
from benchmarks.whole import Whole, arguments

HALF = 0.5  # of a training, in which alpha moves
PULL = Compare.model_fields["pull"].default


def free(depth: int) -> Walk:
    """Alpha finds its own way down, as in `compare`."""
    return Walk((1.0,) * depth, (1.0,) * depth, HALF, "block", pull=PULL)


def to_zero(depth: int) -> Walk:
    """To the form of the paper."""
    return Walk((1.0,) * depth, (0.0,) * depth, HALF, "plain")


@dataclass(frozen=True)
class Way:
    """One way.

    Args:
        cut_: before the training; None trains the whole network and cuts afterwards.
        walk: how alpha moves in a network of so many blocks.
        rate: share of the learning rate.
    """

    cut_: Cut | None
    walk: Callable[[int], Walk] | None = None
    rate: float = 1.0


WAYS = {
    "drop-last": Way(depth_(by_order)),
    "refitted": Way(best_),
    "narrower": Way(width_, rate=0.3),
    "hybrid": Way(best_, free),
    "converted": Way(None, to_zero),
    "narrower, full rate": Way(width_),
}
"""`narrower` trains at the rate that `prune` takes behind its refit."""


class Counted(TorchDispatchMode):
    """Operations of what runs inside, by torch's own table: products, none of which solving is
    (torch's FlopCounterMode hooks into modules, which `autograd.grad` does not bear)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func.overloadpacket)) is not None:
            self.operations += count(*args, **(kwargs or {}), out_val=found)
        return found


class Row(Found):
    """One network, made smaller and trained."""

    route: str
    budget: float
    """Epochs of the whole network."""
    seed: int
    spent: float
    """Of these, for choosing, cutting and refitting."""
    epochs: float
    """Of its own, that were trained."""
    parameters: int
    """Of the blocks."""
    faster: float
    faster_low: float
    faster_high: float
    seconds: float
    """Of the processor, for all of it."""
    value: float
    loss: float
    drop: Drop
    """From the whole network, paired."""


def made(case: Case, route: str, budget: float, how: Trained) -> Row | None:
    """A network that went this way; None where there is no way without training."""
    way, whole, net = WAYS[route], case.whole.net, case.whole.net.copy()
    depth = net.depth - case.gone
    if way.walk is not None and not budget:
        return None
    data = training_split(how, net, case.whole.source)
    started = time.process_time()
    with Counted() as counted:
        if way.cut_ is not None:
            way.cut_(net, case)
    of_whole = training_flops(whole, teacher_depth=whole.depth)
    spent = counted.operations / len(data) / of_whole
    prefixes = () if way.cut_ is not None else (depth,)
    # the blocks of a narrowed network cost less than its teacher's
    outside, block = forward_flops(whole)
    own = training_flops(net, prefixes=len(prefixes)) + outside + whole.depth * block
    epochs = max(0.0, budget - spent) * of_whole / own
    if epochs:
        run = how.changed(
            epochs=epochs,
            lr=None if how.lr is None else way.rate * how.lr,
            prefix_loss=float(bool(prefixes)),
            prefix_depths=prefixes,
        )
        fit(net, data, run, walk=way.walk and way.walk(net.depth), teacher=whole)
    if way.cut_ is None:
        net.truncate_(depth)
    seconds, scores = time.process_time() - started, measure(net, case.whole.test)
    return Row(
        route=route,
        budget=budget,
        seed=how.seed,
        spent=spent,
        epochs=epochs,
        parameters=parameters(net),
        **faster(whole, net, whole.example_inputs(TIMED)),
        seconds=seconds,
        value=scores.value,
        loss=scores.mean_loss,
        drop=paired(scores, case.whole.scores),
    )


def picture(rows: Sequence[Row], title: str, path: Path) -> None:
    """What is lost against the whole network over the budget: a line for every way, its points a
    little apart, with their intervals; the first seed."""
    shown = [row for row in rows if row.seed == rows[0].seed]
    budgets = sorted({row.budget for row in shown})
    ways = [name for name in WAYS if any(row.route == name for row in shown)]
    with canvas(path, 1, (7.0, 4.6)) as (figure, (axis,)):
        axis.axhline(0, color=INK, linewidth=1)
        for n, name in enumerate(ways):
            mine = [row for row in shown if row.route == name]
            axis.errorbar(
                [budgets.index(row.budget) + 0.05 * (n - (len(ways) - 1) / 2) for row in mine],
                [-100 * row.drop.drop for row in mine],
                yerr=bars([row.drop for row in mine], 100),
                marker="o",
                markersize=5,
                capsize=3,
                label=name,
            )
        names = [f"{budget:g}" if budget else "untrained" for budget in budgets]
        axis.set_xticks(range(len(budgets)), names)
        axis.set(
            xlabel="training, epochs of the whole network (points of one are drawn apart)",
            ylabel="against the whole network, points (95 %)",
        )
        axis.set_title(title, fontsize=11)
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)


def main() -> None:
    """The command."""
    command = arguments(__doc__)
    command.add_argument("--depth", type=int, required=True)
    command.add_argument("--budgets", default="0,1,3,9")
    command.add_argument("--routes", default=";".join(WAYS), help="these alone")
    command.add_argument("--seeds", default="0", help="of the training; the rows' too")
    command.add_argument("--limit", type=int, help="rows that are trained on")
    command.add_argument("--batch-size", type=int, required=True)
    command.add_argument("--lr", type=float, required=True)
    command.add_argument("--augment")
    options = command.parse_args()
    whole, name = Whole.read(options.source, options.data), options.source.name
    file = options.results / f"lengths-{name}.json"
    recipe = {n: getattr(options, n) for n in ("limit", "batch_size", "lr", "augment")}
    same = {"depth": options.depth, **recipe}
    earlier = stored(file, Row, weights_sha256=whole.source.sha256(), **same)
    rows = {(row.budget, row.route, row.seed): row for row in earlier}
    budgets, seeds = map(float, options.budgets.split(",")), map(int, options.seeds.split(","))
    for budget, seed, route in product(budgets, list(seeds), options.routes.split(";")):
        case = Case(whole, 1 - options.depth / whole.net.depth, ROWS, seed)
        how = whole.how.part(Trained, **recipe, seed=seed)
        if (row := made(case, route, budget, how)) is not None:
            rows[budget, route, seed] = row
            print(f"{budget:g} {route} ({seed}): {row.value:.4f}, drop {row.drop}", flush=True)
            in_order = [rows[key] for key in sorted(rows, key=lambda key: (key[0], key[2]))]
            write(file, rounded(whole.report("lengths", name, in_order, **same)))
            title = f"{name} at the size of {options.depth} of {whole.net.depth} blocks"
            n = f"n = {len(whole.test):,}"
            picture(in_order, f"{title}, {n}", file.with_suffix(".png"))


if __name__ == "__main__":
    main()
