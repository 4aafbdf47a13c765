"""What a least-squares refit is worth without any training: a network cut at several depths, before
and after it.

    python -m benchmarks.refit VIT  --data CIFAR10 --depths 6,4,3
    python -m benchmarks.refit BERT --data SST2    --depths 4,3,2

VIT and BERT are the trained networks of benchmarks/README.md. "first" is what `truncate --refit`
gives, "even" what `convert` starts from in a post-norm network. Writes refit-NAME.json.
"""

from __future__ import annotations

import time

from acn_compress.checkpoint.load import load_source
from acn_compress.compression.refit import EXAMPLES, refit_
from acn_compress.compression.start import cut_
from acn_compress.data.load import Data
from acn_compress.data.splits import training_split
from acn_compress.found import Found
from acn_compress.measure.budget import training_flops
from acn_compress.measure.quality import measure
from acn_compress.options import Keep, Trained
from benchmarks.command import rounded, write
from benchmarks.whole import Whole, arguments

KEEPS: tuple[Keep, ...] = ("first", "even")


class Row(Found):
    """One cut: which blocks were kept, and the metric before and after the refit. Its price is in
    seconds, and in examples on which the whole network could be trained with its teacher."""

    depth: int
    keep: Keep
    blocks: list[int]
    before: float
    seconds: float
    examples_of_training: float
    after: float


def refitted(whole: Whole, few: Data, depth: int, keep: Keep) -> Row:
    """Cut the network, refit it on a few examples, and measure it before and after."""
    net = load_source(whole.source, verify=False)
    cut_(net, depth, keep, whole.how, whole.source)
    before, started = measure(net, whole.test).value, time.perf_counter()
    spent = refit_(net, whole.net, few)
    return Row(
        depth=depth,
        keep=keep,
        blocks=list(net.structure.blocks),
        before=before,
        seconds=time.perf_counter() - started,
        examples_of_training=spent / training_flops(whole.net, teacher_depth=whole.net.depth),
        after=measure(net, whole.test).value,
    )


def in_words(row: Row) -> str:
    """A line for the screen."""
    return (
        f"{row.depth} blocks, {row.keep}: {row.before:.4f} -> {row.after:.4f} "
        f"in {row.seconds:.1f} s"
    )


def main() -> None:
    """The command."""
    command = arguments(__doc__)
    command.add_argument("--depths", default="6,4,3")
    options = command.parse_args()
    whole, rows = Whole.read(options.source, options.data), list[Found]()
    few = training_split(whole.how.part(Trained, limit=EXAMPLES), whole.net, whole.source)
    for depth in map(int, options.depths.split(",")):
        for keep in KEEPS:
            rows.append(row := refitted(whole, few, depth, keep))
            print(in_words(row), flush=True)
    name = options.source.name
    report = whole.report("refit", name, rows, examples=len(few))
    write(options.results / f"refit-{name}.json", rounded(report))


if __name__ == "__main__":
    main()
