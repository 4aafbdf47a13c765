"""Every way to a smaller depth, each at the same training budget.

    drop-last        the first K blocks, residual, distilled from the whole: the plain baseline
    evenly-spaced    K blocks spread over the depth, residual, distilled
    best-blocks      the K blocks that acn-cut-first starts from, refitted alike, distilled
    residual-prefix  ONE residual run of the whole network with prefix readouts at the depths
                     (LayerSkip-like), read at each
    acn-cut-first    K blocks (`start.py`, "auto") refitted to follow the whole network, alpha
                     walked down while distilling
    acn-one-run      ONE conversion of the whole with the same prefix readouts, read at each depth
    acn-then-cut     half of the budget on that conversion, then cut to K and train on

The budget is what `epochs` of the whole network with its teacher cost in floating-point operations
(`measure/budget.py`). Choosing and refitting blocks is paid for out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.source import Source
from acn_compress.compression.start import cut_
from acn_compress.data.load import Data, Noise
from acn_compress.events import Progress
from acn_compress.measure.budget import equal_epochs
from acn_compress.network.network import Network
from acn_compress.options import Keep, Trained
from acn_compress.training.fit import fit
from acn_compress.training.walk import Walk


@dataclass(frozen=True)
class Setting:
    """What all routes share.

    Args:
        source: the trained checkpoint.
        how: training options; the epochs are the budget in those of the whole network.
        alpha_end, pull: of the routes that end in ACN form, as in `Walk`.
        data, eval_data: to train on, to measure on.
        noise: measured under as well.
        teacher: the network of `source`.
    """

    source: Source
    how: Trained
    alpha_end: float
    pull: float
    device: str
    data: Data
    eval_data: Data
    noise: Noise | None
    teacher: Network
    progress: Progress | None

    def network(self) -> Network:
        """The trained network, to be changed."""
        return load_source(self.source, device=self.device, verify=False)

    def prefixes(self, depths: tuple[int, ...]) -> tuple[int, ...]:
        """The depths that a run for every depth reads out beside the whole network."""
        return tuple(d for d in depths if d < self.teacher.depth)


class Run(NamedTuple):
    """A route that is being gone: the network, and what is asked of it."""

    setting: Setting
    net: Network
    depths: tuple[int, ...]
    seed: int

    @property
    def budget(self) -> float:
        """Epochs of the whole network."""
        return self.setting.how.epochs

    def train_(self, epochs: float, *, acn: bool = False, prefix: tuple[int, ...] = ()) -> None:
        """Train so many epochs at the depth it has."""
        s, n = self.setting, self.net.depth
        end = (s.alpha_end,) * n
        fit(
            self.net,
            s.data,
            s.how.changed(
                seed=self.seed,
                epochs=epochs,
                prefix_loss=1.0 if prefix else 0.0,
                prefix_depths=prefix,
            ),
            walk=Walk((1.0,) * n, end, 0.5, "block", pull=s.pull) if acn else None,
            teacher=s.teacher,
            progress=s.progress,
        )


@dataclass(frozen=True)
class Route:
    """One way. Going it trains the network in place and returns the epochs its budget bought.

    Args:
        go_: what it does.
        for_all: one run serves all depths.
        acn: it ends in ACN form (or a hybrid).
        keep, refit: the blocks it starts from.
    """

    go_: Callable[[Route, Run], float]
    for_all: bool = False
    acn: bool = False
    keep: Keep = "first"
    refit: bool = False


def _one_run(route: Route, run: Run) -> float:
    """The whole network, with readouts of every depth."""
    prefix = run.setting.prefixes(run.depths)
    epochs = equal_epochs(run.net, run.budget, depth=run.net.depth, prefixes=len(prefix))
    run.train_(epochs, acn=route.acn, prefix=prefix)
    return epochs


def _then_cut(route: Route, run: Run) -> float:
    """Half of the budget on the whole network, the other on the cut one."""
    (depth,), prefix = run.depths, run.setting.prefixes(run.depths)
    half = run.budget / 2
    later = equal_epochs(run.net, half, depth=depth)
    first = equal_epochs(run.net, half, depth=run.net.depth, prefixes=len(prefix))
    run.train_(first, acn=True, prefix=prefix)
    run.net.truncate_(depth)
    run.train_(later)
    return later


def _cut_first(route: Route, run: Run) -> float:
    """Some blocks, then all of the budget on them."""
    (depth,), s = run.depths, run.setting
    epochs = equal_epochs(run.net, run.budget, depth=depth)
    how, examples = s.how.changed(seed=run.seed, epochs=epochs), len(s.data)
    spent = cut_(
        run.net,
        depth,
        route.keep,
        how,
        s.source,
        s.teacher,
        refitted=route.refit,
        examples=examples,
    )
    left = equal_epochs(s.teacher, run.budget, depth=depth, spent=spent / examples)
    run.train_(left, acn=route.acn)
    return left


ROUTES: dict[str, Route] = {
    "drop-last": Route(_cut_first),
    "evenly-spaced": Route(_cut_first, keep="even"),
    "best-blocks": Route(_cut_first, keep="auto", refit=True),
    "residual-prefix": Route(_one_run, for_all=True),
    "acn-cut-first": Route(_cut_first, acn=True, keep="auto", refit=True),
    "acn-one-run": Route(_one_run, for_all=True, acn=True),
    "acn-then-cut": Route(_then_cut, acn=True),
}


def go(setting: Setting, name: str, depths: tuple[int, ...], seed: int) -> tuple[Network, float]:
    """Go a route in memory. Returns the network and the epochs that its budget bought (of the last
    stage)."""
    run = Run(setting, setting.network(), depths, seed)
    return run.net, ROUTES[name].go_(ROUTES[name], run)
