"""What a least-squares refit is worth without any training: a network cut at several depths, before
and after it.

    python benchmarks/refit.py VIT  --data CIFAR10 --depths 6,4,3
    python benchmarks/refit.py BERT --data SST2    --depths 4,3,2

VIT and BERT are the trained networks of benchmarks/README.md. "first" is what `truncate --refit`
gives, "even" what `convert` starts from in a post-norm network. Writes refit-NAME.json.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from paper.entry import rounded

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.compression import refit
from acn_compress.compression.start import cut_
from acn_compress.measure.budget import training_flops
from acn_compress.measure.quality import measure, summary
from acn_compress.training.job import Job


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="the trained network")
    parser.add_argument("--data", required=True, help="folder with the parquet files")
    parser.add_argument("--depths", default="6,4,3")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    source = modeldir.find_source(options.source)
    whole = checkpoint.load_source(source)
    job = Job(options.data, eval_data=f"{options.data}:test")
    test = job.eval_split(whole, source)
    few = replace(job, limit=refit.EXAMPLES).train_split(whole, source)
    assert test is not None
    epoch = training_flops(whole, teacher_depth=whole.depth)
    rows: list[dict[str, Any]] = []
    for depth in map(int, options.depths.split(",")):
        for keep in ("first", "even"):
            net = checkpoint.load_source(source, verify=False)
            cut_(net, depth, keep, job, source)
            before, started = measure(net, test).value, time.perf_counter()
            spent = refit.refit_(net, whole, few)
            row = {
                "depth": depth,
                "keep": keep,
                "blocks": list(net.structure.blocks),
                "before": before,
            }
            row |= {
                "seconds": time.perf_counter() - started,
                "examples_of_training": spent / epoch,
                "after": measure(net, test).value,
            }
            rows.append(row)
            print(
                f"{depth} blocks, {keep}: {before:.4f} -> {row['after']:.4f} in {row['seconds']:.1f} s",
                flush=True,
            )
    report = {
        "benchmark": "refit",
        "source": options.source.name,
        "weights_sha256": source.sha256(),
        "examples": len(few),
        "whole": summary(measure(whole, test), test.task),
        "machine": modeldir.machine(),
        "rows": rows,
    }
    modeldir.write_json(options.results / f"refit-{options.source.name}.json", rounded(report))


if __name__ == "__main__":
    main()
