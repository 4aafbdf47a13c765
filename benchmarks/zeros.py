"""What zeros cost without any training, by which are chosen and whether the rest makes up for them:
magnitude, Wanda (arXiv 2306.11695, reimplemented here) and obs.

    python -m benchmarks.zeros MINILM --data SST2

MINILM is the trained network of benchmarks/README.md. All are measured on the test split, paired
with the unpruned network. Wanda and obs look at the same 512 unlabelled training rows, drawn from a
seed; obs also at random tokens alone. Writes zeros-NAME.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from acn_compress.checkpoint.files import write_json
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import machine
from acn_compress.checkpoint.source import Source
from acn_compress.compression.calibration import FEW, calibration, spread
from acn_compress.compression.prune import patterns, prune_
from acn_compress.compression.stream import Moments, walk_
from acn_compress.data.load import Data, load_data
from acn_compress.data.splits import eval_split
from acn_compress.found import Found
from acn_compress.measure.quality import Drop, Scores, measure, paired, summary
from acn_compress.network import widths, zeros
from acn_compress.network.network import Network
from acn_compress.options import Pattern, Trained
from acn_compress.tasks.base import features
from benchmarks.command import RESULTS, parser, rounded

Prune = Callable[[Network, float, Pattern | None, Data, int], object]
"""(net, share, pattern, rows, seed): prunes in place."""


def wanda_(net: Network, share: float, pattern: Pattern | None, rows: Data, seed: int) -> None:
    """Zeros where |w| times the norm of its input is lowest among the weights of an output."""
    layers = zeros.layers(net)

    def change_(names: list[str], moments: Moments) -> None:
        norm = moments.gram.diagonal()[:-1, None].sqrt().float()
        for name in names:
            weight = widths.by_inputs(layers[name]).detach()
            cost = weight.abs() * norm
            weight.masked_fill_(
                _lowest(cost, share) if pattern is None else patterns.lowest(cost, pattern), 0.0
            )

    walk_(net, [features(b) for b in spread(net, calibration(net, rows), FEW)], change_)


def _lowest(cost: Tensor, share: float) -> Tensor:
    """[inputs, outputs], bool: of every output the same share."""
    order = cost.argsort(dim=0, stable=True)[: round(share * len(cost))]
    return torch.zeros_like(cost, dtype=torch.bool).scatter_(0, order, True)


def _method(method: str, data: bool = False, **how: Any) -> Prune:
    """A method of the package."""
    return lambda net, share, pattern, rows, seed: prune_(
        net, share, method, pattern=pattern, seed=seed, data=rows if data else None, **how
    )


ROUTES: dict[str, tuple[Prune, int]] = {
    "magnitude": (_method("magnitude", scope="global"), 1),
    "magnitude, layer": (_method("magnitude", scope="layer"), 1),
    "wanda": (wanda_, 1),
    "obs": (_method("obs", data=True, scope="layer"), 3),
    "obs, global": (_method("obs", data=True, scope="global"), 1),
    "obs, random inputs": (_method("obs", scope="layer"), 1),
}
"""And by how many seeds each is run."""

ALIKE_UNDER_A_PATTERN = {"magnitude, layer", "obs, global"}


class Row(Found):
    """One pruned network."""

    route: str
    share: float
    pattern: str | None
    seed: int
    zeros: float
    """The share that was reached."""
    seconds: float
    value: float
    loss: float
    drop: Drop
    """From the unpruned network, paired."""


@dataclass(frozen=True)
class Setting:
    """The unpruned network and what it is measured on."""

    source: Source
    whole: Network
    how: Trained
    test: Data
    before: Scores

    @classmethod
    def read(cls, source: Source, how: Trained) -> Setting:
        """From the disk."""
        whole = load_source(source)
        test = eval_split(how, whole, source)
        assert test is not None
        return cls(source, whole, how, test, measure(whole, test))

    def rows(self, seed: int) -> Data:
        """What is looked at."""
        return load_data(self.how.data, self.whole, self.source, role="train", limit=FEW, seed=seed)

    def pruned(self, route: str, share: float, pattern: Pattern | None, seed: int) -> Row:
        """Prune a copy and measure it."""
        net, rows = self.whole.copy(), self.rows(seed)
        started = time.perf_counter()
        ROUTES[route][0](net, share, pattern, rows, seed)
        seconds, after = time.perf_counter() - started, measure(net, self.test)
        weights = list(zeros.matrices(net).values())
        return Row(
            route=route,
            share=share,
            pattern=pattern,
            seed=seed,
            zeros=zeros.count(weights) / sum(w.numel() for w in weights),
            seconds=seconds,
            value=after.value,
            loss=after.mean_loss,
            drop=paired(after, self.before),
        )

    def report(self, name: str, rows: list[Row], seconds: float) -> dict[str, object]:
        """What is written."""
        return {
            "benchmark": "zeros",
            "source": name,
            "weights_sha256": self.source.sha256(),
            "rows_looked_at": FEW,
            "seconds_of_one_evaluation": seconds,
            "whole": summary(self.before, self.test.task),
            "machine": machine(),
            "rows": rows,
        }


def wanted() -> list[tuple[str, float, Pattern | None, int]]:
    """Every run, as `Setting.pruned` takes it."""
    asked: list[tuple[float, Pattern | None]] = [
        (0.5, None),
        (0.7, None),
        (0.9, None),
        (0.5, "2:4"),
    ]
    return [
        (route, share, pattern, seed)
        for share, pattern in asked
        for route, (_, seeds) in ROUTES.items()
        if pattern is None or route not in ALIKE_UNDER_A_PATTERN
        for seed in range(seeds)
    ]


def in_words(row: Row) -> str:
    """A line for the screen."""
    what = row.pattern or f"{row.share:.0%}"
    return f"{what} {row.route} ({row.seed}): {row.value:.4f}, drop {row.drop}, {row.seconds:.1f} s"


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("source", type=Path, help="the trained network")
    command.add_argument("--data", required=True, help="folder with the parquet files")
    command.add_argument("--results", type=Path, default=RESULTS)
    options = command.parse_args()
    how = Trained(data=options.data, eval_data=f"{options.data}:test")
    setting, rows = Setting.read(find_source(options.source), how), []
    started = time.perf_counter()
    measure(setting.whole, setting.test)
    seconds = time.perf_counter() - started
    for run in wanted():
        rows.append(setting.pruned(*run))
        print(in_words(rows[-1]), flush=True)
    name = options.source.name
    write_json(options.results / f"zeros-{name}.json", rounded(setting.report(name, rows, seconds)))


if __name__ == "__main__":
    main()
