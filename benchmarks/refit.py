"""What a least-squares refit is worth without any training: a network cut at several depths, before
and after it.

    python -m benchmarks.refit VIT  --data CIFAR10 --depths 6,4,3
    python -m benchmarks.refit BERT --data SST2    --depths 4,3,2

VIT and BERT are the trained networks of benchmarks/README.md. "first" is what `truncate --refit`
gives, "even" what `convert` starts from in a post-norm network. Writes refit-NAME.json.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from acn_compress.checkpoint.files import write_json
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.provenance import machine
from acn_compress.checkpoint.source import Source
from acn_compress.compression.refit import EXAMPLES, refit_
from acn_compress.compression.start import cut_
from acn_compress.data.load import Data
from acn_compress.data.splits import eval_split, training_split
from acn_compress.found import Found
from acn_compress.measure.budget import training_flops
from acn_compress.measure.quality import measure, summary
from acn_compress.network.network import Network
from acn_compress.options import Keep, Trained
from benchmarks.command import RESULTS, parser, rounded

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


@dataclass(frozen=True)
class Setting:
    """The whole network, what it is measured on, and the examples a refit is solved on."""

    source: Source
    how: Trained
    whole: Network
    test: Data
    few: Data

    @classmethod
    def read(cls, source: Source, how: Trained) -> Setting:
        """From the disk."""
        whole = load_source(source)
        test = eval_split(how, whole, source)
        assert test is not None
        few = training_split(how.part(Trained, limit=EXAMPLES), whole, source)
        return cls(source, how, whole, test, few)

    def refitted(self, depth: int, keep: Keep) -> Row:
        """Cut the network, refit it, and measure it before and after."""
        net = load_source(self.source, verify=False)
        cut_(net, depth, keep, self.how, self.source)
        before, started = measure(net, self.test).value, time.perf_counter()
        spent = refit_(net, self.whole, self.few)
        return Row(
            depth=depth,
            keep=keep,
            blocks=list(net.structure.blocks),
            before=before,
            seconds=time.perf_counter() - started,
            examples_of_training=spent / training_flops(self.whole, teacher_depth=self.whole.depth),
            after=measure(net, self.test).value,
        )

    def report(self, name: str, rows: list[Row]) -> dict[str, object]:
        """What is written."""
        return {
            "benchmark": "refit",
            "source": name,
            "weights_sha256": self.source.sha256(),
            "examples": len(self.few),
            "whole": summary(measure(self.whole, self.test), self.test.task),
            "machine": machine(),
            "rows": rows,
        }


def in_words(row: Row) -> str:
    """A line for the screen."""
    return (
        f"{row.depth} blocks, {row.keep}: {row.before:.4f} -> {row.after:.4f} "
        f"in {row.seconds:.1f} s"
    )


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("source", type=Path, help="the trained network")
    command.add_argument("--data", required=True, help="folder with the parquet files")
    command.add_argument("--depths", default="6,4,3")
    command.add_argument("--results", type=Path, default=RESULTS)
    options = command.parse_args()
    setting = Setting.read(
        find_source(options.source),
        Trained(data=options.data, eval_data=f"{options.data}:test"),
    )
    rows: list[Row] = []
    for depth in map(int, options.depths.split(",")):
        for keep in KEEPS:
            rows.append(setting.refitted(depth, keep))
            print(in_words(rows[-1]), flush=True)
    name = options.source.name
    write_json(options.results / f"refit-{name}.json", rounded(setting.report(name, rows)))


if __name__ == "__main__":
    main()
