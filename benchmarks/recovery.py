"""What a short training after a cut is worth, and whether it may do harm: heads and MLP features
removed by magnitude with nothing made up for, as this package did before, or by obs with the refit;
then one distilled epoch of 1,600 rows, as

    acn-compress prune NET OUT --target-sparsity 0.5 --data SST2 --limit 1600 --epochs 1 \\
        --batch-size 32

does it. The learning rate is the default one; after a refit smaller ones too, with the first seed.

    python -m benchmarks.recovery MINILM --data SST2 --shares 0.5,0.7

MINILM is the trained network of benchmarks/README.md; measured on the test split, paired with the
uncut network. Writes recovery-NAME.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from acn_compress.data.splits import training_split
from acn_compress.found import Found
from acn_compress.measure.quality import Scores, measure, paired
from acn_compress.network.network import Network
from acn_compress.options import Trained
from acn_compress.quality import Drop
from acn_compress.training.fit import fit
from acn_compress.training.trainer import learning_rate
from benchmarks.command import rounded, write
from benchmarks.structured import ROUTES
from benchmarks.whole import Whole, arguments

DEFAULT = ((0, 1.0), (1, 1.0))
RUNS = {"magnitude": DEFAULT, "obs + refit": (*DEFAULT, (0, 0.3), (1, 0.3), (0, 0.1), (0, 0.03))}
"""Of every route all trainings: seed, and learning rate as a share of the default one."""


class Row(Found):
    """One cut network, before and after training."""

    route: str
    share: float
    seed: int
    of_default_lr: float
    """The learning rate, as a share of the default one."""
    untrained: float
    untrained_loss: float
    untrained_drop: Drop
    """From the uncut network, paired."""
    trained: float
    trained_loss: float
    trained_drop: Drop
    seconds: float
    """Of the training."""


def recovered(whole: Whole, name: str, share: float) -> Iterator[Row]:
    """Prune a copy as `prune` does, and train that again and again."""
    how = whole.how.part(Trained, limit=1600, epochs=1, batch_size=32)
    net = whole.net.copy()
    ROUTES[name][0](net, share, training_split(how, net, whole.source), 0)
    untrained = measure(net, whole.test)
    for seed, part in RUNS[name]:
        run = how.changed(seed=seed, lr=part * learning_rate(net, None))
        trained, seconds = _trained(whole, net.copy(), run)
        yield Row(
            route=name,
            share=share,
            seed=seed,
            of_default_lr=part,
            untrained=untrained.value,
            untrained_loss=untrained.mean_loss,
            untrained_drop=paired(untrained, whole.scores),
            trained=trained.value,
            trained_loss=trained.mean_loss,
            trained_drop=paired(trained, whole.scores),
            seconds=seconds,
        )


def _trained(whole: Whole, net: Network, how: Trained) -> tuple[Scores, float]:
    """Train once, in place: the quality, and how long it took."""
    done = fit(net, training_split(how, net, whole.source), how, teacher=whole.net)
    return measure(net, whole.test), done.seconds


def in_words(row: Row) -> str:
    """A line for the screen."""
    return (
        f"{row.share} {row.route} ({row.seed}), {row.of_default_lr:g} of the lr: "
        f"{row.untrained:.4f} -> {row.trained:.4f}, drop {row.trained_drop}"
    )


def main() -> None:
    """The command."""
    command = arguments(__doc__)
    command.add_argument("--shares", default="0.5,0.7")
    options = command.parse_args()
    whole, rows = Whole.read(options.source, options.data), list[Found]()
    shares = map(float, options.shares.split(","))
    for share, route in product(shares, RUNS):
        for row in recovered(whole, route, share):
            rows.append(row)
            print(in_words(row), flush=True)
    name = options.source.name
    report = whole.report("recovery", name, rows, default_lr=learning_rate(whole.net, None))
    write(options.results / f"recovery-{name}.json", rounded(report))


if __name__ == "__main__":
    main()
