"""What the ACN form costs against the residual form, and what a profile costs against an
evaluation.

    python benchmarks/overhead.py [--out benchmarks/results/overhead.json]

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
from pathlib import Path
from typing import Any

import torch
import transformers

from acn_compress.checkpoint import directory as modeldir
from acn_compress.data.load import Data
from acn_compress.measure.quality import measure
from acn_compress.measure.readouts import profile_model
from acn_compress.measure.timing import interleave, judge
from acn_compress.network.network import Network
from acn_compress.tasks import TASKS

SIZE = {
    "hidden_size": 192,
    "num_hidden_layers": 12,
    "num_attention_heads": 3,
    "intermediate_size": 768,
}
BATCH = 32
FORMS = {"residual": 1.0, "hybrid": 0.3, "acn": 0.0}


def model_of(form: str) -> Any:
    """A ViT-Tiny-sized network for 32 x 32 images, in one form."""
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(
        transformers.ViTConfig(**SIZE, image_size=32, patch_size=8, num_labels=10)
    )
    net = Network.adopt(model)
    net.set_structure_(net.structure.with_alpha((FORMS[form],) * net.depth))
    return model


def training_step(model: Any, optimizer: Any) -> None:
    """One step on random images."""
    pixels, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,))
    torch.nn.functional.cross_entropy(model(pixel_values=pixels).logits, labels).backward()
    optimizer.step()
    optimizer.zero_grad()


def peak_of(form: str) -> None:
    """Run three steps and print the peak of resident memory above the start, in bytes."""
    model = model_of(form).train()
    optimizer = torch.optim.AdamW(model.parameters())
    before = resident("VmRSS")
    for _ in range(3):
        training_step(model, optimizer)
    print(resident("VmHWM") - before)


def resident(which: str) -> int:
    """Bytes of resident memory now (VmRSS) or at most so far (VmHWM), as Linux counts them for this
    process alone: what `getrusage` tells is inherited from the process that started it."""
    line = next(
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(which)
    )
    return 1024 * int(line.split()[1])


class Images:
    """Random examples, already prepared: what is timed is the network, not the reading."""

    labels = None
    sizes = None

    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._pixels = torch.randn(count, 3, 32, 32, generator=generator)
        self._targets = torch.randint(0, 10, (count,), generator=generator)

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self._pixels[index], "labels": self._targets[index]}

    def collate(self, examples: Any, **options: Any) -> dict[str, Any]:
        return {
            "pixel_values": torch.stack([e["image"] for e in examples]),
            "labels": torch.stack([e["labels"] for e in examples]),
        }


def ratio(mine: list[float], theirs: list[float]) -> dict[str, float]:
    """mine / theirs: above 1 is slower."""
    found = judge(theirs, mine)
    return {
        "ratio": round(found["ratio"], 4),
        "low": round(found["ratio_low"], 4),
        "high": round(found["ratio_high"], 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "overhead.json"
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peak", choices=FORMS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        peak_of(arguments.peak)
        return
    models = {form: model_of(form).train() for form in FORMS}
    optimizers = {form: torch.optim.AdamW(model.parameters()) for form, model in models.items()}
    steps = interleave(
        [lambda f=f: training_step(models[f], optimizers[f]) for f in FORMS], arguments.rounds, 2
    )  # type: ignore[misc]
    seconds = dict(zip(FORMS, steps, strict=True))
    command = [sys.executable, __file__, "--peak"]
    peaks = {
        form: int(
            subprocess.run([*command, form], capture_output=True, text=True, check=True).stdout
        )
        for form in FORMS
    }
    data, acn = Data("random", TASKS["image-classification"], Images(256)), Network.of(models["acn"])
    measured = interleave(
        [lambda: measure(acn, data), lambda: profile_model(acn, data)], arguments.rounds, 1
    )
    report = {
        "benchmark": "overhead",
        "network": SIZE | {"batch": BATCH, "tokens": 17},
        "machine": modeldir.machine() | {"threads": "1"},
        "step_time_against_residual": {
            f: ratio(seconds[f], seconds["residual"]) for f in FORMS if f != "residual"
        },
        "peak_memory_against_residual": {
            f: round(peaks[f] / peaks["residual"], 4) for f in FORMS if f != "residual"
        },
        "peak_bytes": peaks,
        "profile_against_evaluate": ratio(measured[1], measured[0]),
        "goals": {"step_time": 1.05, "peak_memory": 1.05, "profile": 1.25},
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    modeldir.write_json(arguments.out, report)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
