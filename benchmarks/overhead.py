"""What the ACN form costs against the residual form, and what a profile costs against an
evaluation.

    python -m benchmarks.overhead [--out benchmarks/results/overhead.json]

Step time and peak memory of a training step (goal: at most 1.05 of the residual form each); the
time of a profile over that of a plain evaluation of the same examples (goal: at most 1.25). Times
are interleaved round by round, the ratio is that of medians with its bootstrap 95 % interval;
memory is the peak of a fresh process for each form, above what it held before the first step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
import transformers
from torch import Tensor

from acn_compress.checkpoint.provenance import machine
from acn_compress.data.load import Data, Noise
from acn_compress.measure.quality import measure
from acn_compress.measure.readouts import profile_model
from acn_compress.measure.timing import interleave, judge
from acn_compress.network.adopt import adopt
from acn_compress.network.network import Network
from acn_compress.tasks import TASKS
from benchmarks.command import RESULTS, parser, write

SIZE = {
    "hidden_size": 192,
    "num_hidden_layers": 12,
    "num_attention_heads": 3,
    "intermediate_size": 768,
}
BATCH = 32
FORMS = {"residual": 1.0, "hybrid": 0.3, "acn": 0.0}
GOALS = {"step_time": 1.05, "peak_memory": 1.05, "profile": 1.25}


def network(form: str) -> Network:
    """A ViT-Tiny-sized network for 32 x 32 images, in one form."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(**SIZE, image_size=32, patch_size=8, num_labels=10)
    net = adopt(transformers.ViTForImageClassification(config))
    net.set_structure_(net.structure.with_alpha((FORMS[form],) * net.depth))
    net.model.train()
    return net


class Step:
    """A training step of one form, on random images."""

    def __init__(self, form: str) -> None:
        self.net = network(form)
        self._optimizer = torch.optim.AdamW(self.net.model.parameters())

    def __call__(self) -> None:
        pixels, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,))
        loss = torch.nn.functional.cross_entropy(self.net(pixel_values=pixels).logits, labels)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad()


class Images:
    """Random examples, already prepared: what is timed is the network, not the reading.
    Implements `data.Examples`."""

    labels: list[str] | None = None
    sizes: Tensor | None = None

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._pixels = torch.randn(count, 3, 32, 32, generator=generator)
        self._targets = torch.randint(0, 10, (count,), generator=generator)

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self._pixels[index], "labels": self._targets[index]}

    def collate(
        self,
        examples: Sequence[dict[str, Tensor]],
        *,
        train: bool = False,
        noise: Noise | None = None,
    ) -> dict[str, Tensor]:
        """A batch."""
        return {
            "pixel_values": torch.stack([e["image"] for e in examples]),
            "labels": torch.stack([e["labels"] for e in examples]),
        }


def print_peak(form: str) -> None:
    """Run three steps and print the peak of resident memory above the start, in bytes."""
    step = Step(form)
    before = resident("VmRSS")
    for _ in range(3):
        step()
    print(resident("VmHWM") - before)


def resident(which: str) -> int:
    """Bytes of resident memory now (VmRSS) or at most so far (VmHWM), as Linux counts them for this
    process alone: what `getrusage` tells is inherited from the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(which))
    return 1024 * int(line.split()[1])


def peak(form: str) -> int:
    """`print_peak` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.overhead", "--peak", form]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def ratio(mine: list[float], theirs: list[float]) -> dict[str, float]:
    """mine / theirs: above 1 is slower."""
    found = judge(theirs, mine)
    return {
        "ratio": round(found["ratio"], 4),
        "low": round(found["ratio_low"], 4),
        "high": round(found["ratio_high"], 4),
    }


def report(rounds: int) -> dict[str, object]:
    """Everything, measured."""
    steps = {form: Step(form) for form in FORMS}
    seconds = dict(zip(FORMS, interleave(list(steps.values()), rounds, 2), strict=True))
    peaks = {form: peak(form) for form in FORMS}
    others = [form for form in FORMS if form != "residual"]
    acn, data = steps["acn"].net, Data("random", TASKS["image-classification"], Images(256))
    plain, profile = interleave(
        [partial(measure, acn, data), partial(profile_model, acn, data)], rounds, 1
    )
    return {
        "benchmark": "overhead",
        "network": SIZE | {"batch": BATCH, "tokens": 17},
        "machine": machine() | {"threads": "1"},
        "step_time_against_residual": {
            form: ratio(seconds[form], seconds["residual"]) for form in others
        },
        "peak_memory_against_residual": {
            form: round(peaks[form] / peaks["residual"], 4) for form in others
        },
        "peak_bytes": peaks,
        "profile_against_evaluate": ratio(profile, plain),
        "goals": GOALS,
    }


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("--out", type=Path, default=RESULTS / "overhead.json")
    command.add_argument("--rounds", type=int, default=15)
    command.add_argument("--peak", choices=FORMS, help=argparse.SUPPRESS)
    options = command.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print_peak(options.peak)
        return
    found = report(options.rounds)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write(options.out, found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
