"""What does not fit this machine: counts that grow with the depth of a network, and trainings of
the paper's size on paper.

    python -m benchmarks.scale [--out benchmarks/results/scale.json]

Blocks that are run per row to choose blocks and to refit what is left of tiny networks of 6, 12 and
24 blocks, counted by hooks (nothing is timed); and for ViT-B/16 on ImageNet and BERT-base on 1 and
8 GPUs the steps, operations, hours and memory of a conversion. Their operations are counted on
random weights, the throughput is an assumption.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from acn_compress.checkpoint.provenance import machine
from acn_compress.compression import refit
from acn_compress.compression.blocks import least_missed, weighed_on
from acn_compress.compression.calibration import RandomInputs
from acn_compress.measure.budget import Plan, plan
from acn_compress.network.adopt import adopt
from acn_compress.network.network import Network
from benchmarks.command import RESULTS, parser, write

DEPTHS = (6, 12, 24)
ROWS = 64
TINY = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}
IMAGE = {"image_size": 8, "patch_size": 4, "num_channels": 1}
PEAK, SHARE = 312e12, 0.4  # an A100 in bfloat16, and how much of it a training keeps up
TEXT = 128  # tokens
GPUS = (1, 8)


class Counted:
    """Rows that go through blocks of some networks."""

    def __init__(self, *nets: Network) -> None:
        self.rows = 0
        self.hooks = [b.register_forward_pre_hook(self._add) for net in nets for b in net.blocks]

    def _add(self, block: object, given: tuple[torch.Tensor, ...]) -> None:
        self.rows += len(given[0])

    def taken(self, rows: int) -> float:
        """Per row; nothing is counted from here on."""
        for hook in self.hooks:
            hook.remove()
        return self.rows / rows


def counts(depth: int) -> dict[str, float]:
    """Of a network of so many blocks, of which a quarter is kept."""
    torch.manual_seed(0)
    config = hf.ViTConfig(**TINY, **IMAGE, num_hidden_layers=depth, num_labels=10)
    net = adopt(hf.ViTForImageClassification(config).eval())
    rows, counted = weighed_on(net), Counted(net)
    gone = least_missed(net, RandomInputs(net, rows), range(depth), depth - depth // 4)
    choice = counted.taken(rows)
    cut = net.twin()
    cut.keep_(sorted(set(range(depth)) - dict(gone).keys()))
    counted = Counted(net, cut)
    refit.refit_(cut, net, RandomInputs(net, ROWS))
    return {"rows": rows, "choice": choice, "refit": counted.taken(ROWS)}


def networks() -> dict[str, tuple[Network, dict[str, torch.Tensor], dict[str, Any]]]:
    """Of the paper's size, with random weights: inputs, and what they are trained on."""
    vit = adopt(hf.ViTForImageClassification(hf.ViTConfig(num_labels=1000)))
    bert = adopt(hf.BertForSequenceClassification(hf.BertConfig()))
    return {
        "ViT-B/16, ImageNet": (
            vit,
            vit.example_inputs(batch=1),
            {"examples": 1_281_167, "epochs": 8, "batch": 512},
        ),
        "BERT-base, MNLI": (
            bert,
            bert.example_inputs(batch=1, length=TEXT),
            {"examples": 392_702, "epochs": 3, "batch": 256},
        ),
    }


def plans() -> dict[str, dict[str, Plan]]:
    """Per network, by GPUs."""
    return {
        name: {
            str(n): plan(net, inputs, **job, devices=n, throughput=SHARE * PEAK, prefixes=1)
            for n in GPUS
        }
        for name, (net, inputs, job) in networks().items()
    }


def main() -> None:
    """The command."""
    command: argparse.ArgumentParser = parser(__doc__)
    command.add_argument("--out", type=Path, default=RESULTS / "scale.json", help="the JSON file")
    options = command.parse_args()
    found = {
        "machine": machine(),
        "block_forwards": {str(depth): counts(depth) for depth in DEPTHS},
        "assumed": {"peak": PEAK, "share": SHARE, "tokens": TEXT},
        "plans": {
            name: {gpus: p._asdict() for gpus, p in rows.items()} for name, rows in plans().items()
        },
    }
    write(options.out, found)


if __name__ == "__main__":
    main()
