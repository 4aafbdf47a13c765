"""As many epochs as fit into the minutes there are, told by a few steps on the device.

A shallower network takes more steps for the same operations, and on a GPU each may take as long as
one of the whole network: that is what is reckoned with.
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass, replace

from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.compression.routes import ROUTES
from acn_compress.data.load import Data
from acn_compress.data.splits import eval_split, training_split
from acn_compress.measure.budget import equal_epochs
from acn_compress.measure.quality import measure
from acn_compress.network.network import Network
from acn_compress.options import Trained
from acn_compress.training.fit import fit
from benchmarks.route.kinds import Scale
from benchmarks.route.run import Run

PROBE, EXAMPLES = 20, 2000  # steps that are timed; examples of the network they are timed on
RESERVE = 0.8  # of the minutes: refits, timing and pictures need some
PRETRAINING = 0.3  # of them at most, for the network to be compressed
LEAST = 0.05  # epochs of a route


@dataclass(frozen=True)
class Pace:
    """What was timed, in seconds.

    Args:
        epoch: of the whole network with its teacher, over `examples`.
        reading: the test data once.
        epochs: that all routes of one seed take together, for one epoch of the whole network.
    """

    epoch: float
    examples: int
    reading: float
    epochs: float

    @classmethod
    def of(cls, run: Run, scale: Scale) -> Pace:
        """Time it, on a network trained for a few steps."""
        probe = run.work / "probe"
        shutil.rmtree(probe, ignore_errors=True)
        short = replace(scale, pretrain=PROBE * run.kind.batch / EXAMPLES, examples=EXAMPLES)
        source = find_source(run.network(short, probe))
        teacher = load_source(source, device=run.device)
        how = run.training(scale).part(Trained, augment=None)
        data, test = training_split(how, teacher, source), eval_split(how, teacher, source)
        assert test is not None

        def seconds(steps: int) -> float:
            net = load_source(source, device=run.device, verify=False)
            few = how.part(Trained, epochs=steps * run.kind.batch / len(data))
            return fit(net, data, few, teacher=teacher).seconds

        one, three = seconds(PROBE), seconds(3 * PROBE)  # their difference has no start in it
        epoch = (three - one) / (2 * PROBE) * len(data) / run.kind.batch
        return cls(epoch, len(data), _reading(teacher, test), _epochs(run, teacher))


def _reading(net: Network, test: Data) -> float:
    started = time.perf_counter()
    measure(net, test)
    return time.perf_counter() - started


def _epochs(run: Run, whole: Network) -> float:
    """A run for each depth, or one for all of them."""
    single = [r for r in run.routes if not ROUTES[r].for_all]
    each = sum(equal_epochs(whole, 1.0, depth=d) for d in run.kind.depths)
    return each * len(single) + len(run.routes) - len(single)


def fitted(run: Run, scale: Scale, minutes: float) -> Scale:
    """The scale with no more epochs than fit into `minutes`."""
    pace = Pace.of(run, scale)
    rows = len(run.kind.depths) * len(run.routes) * run.kind.readings
    left = 60 * minutes * RESERVE - run.seeds * rows * pace.reading
    first = pace.epoch * (scale.examples or pace.examples) / pace.examples
    pretrain = 0.0 if run.source else min(scale.pretrain, PRETRAINING * left / first)
    budget = (left - pretrain * first) / (run.seeds * pace.epochs * pace.epoch)
    found = replace(scale, pretrain=round(pretrain, 2), budget=round(min(scale.budget, budget), 2))
    print(_in_words(pace, found), flush=True)
    if budget <= LEAST:
        sys.exit(
            f"error: {minutes:g} minutes are too few for {run.seeds} seeds on this machine. "
            "Set --seeds 1, or more --minutes."
        )
    return found


def _in_words(pace: Pace, found: Scale) -> str:
    return (
        f"an epoch takes {pace.epoch:.1f} s, reading the test data {pace.reading:.1f} s: "
        f"{found.pretrain:.2f} epochs first, then {found.budget:.2f} for a route"
    )
