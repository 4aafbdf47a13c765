"""Ways of a trained residual network to alpha 0 where the training is short: alpha that walks while
it trains (`convert`), or alpha that is set at once or in steps, every writer refitted at each, and
the training behind it.

    python -m benchmarks.conversions VIT --data digits --batch-size 64 --augment crop
        [--epochs 0,5] [--rates 1e-3,1e-4] [--layers block,plain] [--depths 2,3,4,6,9]
        [--routes "walk;refit"] [--limit ROWS] [--seeds 0]

Every way is distilled from the network as it was, with a random depth read out at every step
(`--prefix-loss 1`), and measured on the test split at each depth: the first blocks of one network.
The last one is paired with the whole network. Without epochs there are only the refitted ones.
Writes conversions-NAME.json; what it has of other ways, lengths, rates and seeds stays in it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import product
from typing import cast

from acn_compress.compression.calibration import ROWS
from acn_compress.compression.refit import refit_
from acn_compress.data.load import Data
from acn_compress.data.splits import training_split
from acn_compress.form import LayerKind, layers_in_a_block
from acn_compress.found import Found
from acn_compress.measure.quality import measure, paired
from acn_compress.network.network import Network
from acn_compress.options import Convert, Trained
from acn_compress.quality import Drop
from acn_compress.training.fit import fit
from acn_compress.training.walk import Walk
from benchmarks.command import rounded, stored, write
from benchmarks.whole import Whole, arguments

ANNEAL = Convert.model_fields["anneal"].default


@dataclass(frozen=True)
class Way:
    """One way.

    Args:
        steps: in so many equal ones alpha goes down; 0 walks in training.
        refits: at each of them.
        hidden_weight: of matching the whole network's hidden states.
    """

    steps: int
    refits: bool = True
    hidden_weight: float = 0.0


WAYS = {
    "walk": Way(0),
    "walk, hidden states matched": Way(0, hidden_weight=1.0),
    "at once": Way(1, refits=False),
    "refit": Way(1),
    "refit in 5 steps": Way(5),
    "refit in 20 steps": Way(20),
}


class Row(Found):
    """One conversion."""

    route: str
    layer: LayerKind
    epochs: float
    rate: float | None
    """Of learning; None where nothing was trained."""
    seed: int
    seconds: float
    """Of the processor, for all of it."""
    at: dict[str, float]
    """The metric by depth."""
    drop: Drop
    """Of the last depth, from the whole network, paired."""


def at_zero_(net: Network, whole: Network, layer: LayerKind, way: Way, rows: Data) -> None:
    """Alpha down to 0 without training."""
    layers = net.depth * layers_in_a_block(layer)
    for step in range(1, way.steps + 1):
        alphas = (1 - step / way.steps,) * layers
        net.set_structure_(net.structure.with_alpha(alphas, layer))
        if way.refits:
            refit_(net, whole, rows)


def made(
    whole: Whole, route: str, layer: LayerKind, how: Trained | None, seed: int, depths: list[int]
) -> Row | None:
    """A network that went this way, untrained if `how` is None; None where there is no way without
    training."""
    way, net = WAYS[route], whole.net.copy()
    if not way.steps and how is None:
        return None
    started = time.process_time()
    walk = None
    if way.steps:
        at_zero_(net, whole.net, layer, way, whole.rows(ROWS, seed))
    else:
        layers = net.depth * layers_in_a_block(layer)
        walk = Walk((1.0,) * layers, (0.0,) * layers, ANNEAL, layer)
    if how is not None:
        run = how.changed(hidden_weight=way.hidden_weight)
        fit(net, training_split(run, net, whole.source), run, walk=walk, teacher=whole.net)
    seconds, at = time.process_time() - started, {}
    for depth in sorted({*depths, net.depth}):
        cut = net.copy()
        cut.truncate_(depth)
        scores = measure(cut, whole.test)
        at[str(depth)] = scores.value
    return Row(
        route=route,
        layer=layer,
        epochs=0.0 if how is None else how.epochs,
        rate=None if how is None else how.lr,
        seed=seed,
        seconds=seconds,
        at=at,
        drop=paired(scores, whole.scores),
    )


def main() -> None:
    """The command."""
    command = arguments(__doc__)
    command.add_argument("--epochs", default="0,5")
    command.add_argument("--rates", default="1e-3,1e-4")
    command.add_argument("--layers", default="block,plain")
    command.add_argument("--depths", default="2,3,4,6,9")
    command.add_argument("--routes", default=";".join(WAYS), help="these alone")
    command.add_argument("--seeds", default="0")
    command.add_argument("--limit", type=int, help="rows that are trained on")
    command.add_argument("--batch-size", type=int, required=True)
    command.add_argument("--augment")
    options = command.parse_args()
    whole, name = Whole.read(options.source, options.data), options.source.name
    file = options.results / f"conversions-{name}.json"
    recipe = {n: getattr(options, n) for n in ("limit", "batch_size", "augment")}
    earlier = stored(file, Row, weights_sha256=whole.source.sha256(), **recipe)
    rows = {(r.epochs, r.layer, r.route, r.rate, r.seed): r for r in earlier}
    depths = [int(depth) for depth in options.depths.split(",")]
    runs = {
        (epochs, layer, route, rate if epochs else None, seed)
        for epochs, layer, route, rate, seed in product(
            map(float, options.epochs.split(",")),
            options.layers.split(","),
            options.routes.split(";"),
            map(float, options.rates.split(",")),
            map(int, options.seeds.split(",")),
        )
    }
    for key in sorted(runs, key=str):
        epochs, layer, route, rate, seed = key
        given = {**recipe, "epochs": epochs, "lr": rate, "seed": seed, "prefix_loss": 1.0}
        how = whole.how.part(Trained, **given) if epochs else None
        if (row := made(whole, route, cast(LayerKind, layer), how, seed, depths)) is not None:
            rows[key] = row
            print(f"{epochs:g} epochs, {layer}, {route}, {rate} ({seed}): {row.at}", flush=True)
            in_order = [rows[key] for key in sorted(rows, key=str)]
            write(file, rounded(whole.report("conversions", name, in_order, **recipe)))


if __name__ == "__main__":
    main()
