"""What all claims share: the scale, the data, and networks that are trained once and kept in a work
folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from acn_compress.checkpoint import directory as modeldir
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint import write as output
from acn_compress.checkpoint.directory import find_source
from acn_compress.data.load import Data, Noise, load_data, open_table
from acn_compress.measure.quality import Scores, measure
from acn_compress.network.threads import threads_for
from acn_compress.tasks import TASKS
from acn_compress.training.fit import Recipe, Walk, fit
from paper.gradients import shares

TASK = "image-classification"
ALL = tuple(range(10))  # classes
FORMS = {"residual": 1.0, "acn": 0.0}


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Args:
        blocks, width, patch: of Mixer and ViT, on images of 32 x 32.
        images: to train on, the same number for every task of claims 1 to 5, 8 (first part) and 10,
            and so the same number of steps.
        epochs: over them.
        test: images to measure on.
        low_epochs: of claim 6, on 100 images a class.
        task_images, task_epochs: of claim 7, per task of two classes.
        transfer_images, transfer_epochs: of claim 8, second part.
        seeds: of claims 1, 2, 5, 6, 7, 9 and 11; the others take the first.
    """

    blocks: int
    width: int
    patch: int
    images: int
    epochs: float
    test: int
    low_epochs: float
    task_images: int
    task_epochs: int
    transfer_images: int
    transfer_epochs: float
    seeds: tuple[int, ...]


SCALES = {
    "small": Scale(8, 64, 8, 8_000, 8, 5_000, 30, 1_600, 3, 4_000, 3, (0, 1)),
    "full": Scale(16, 128, 4, 50_000, 420, 10_000, 150, 10_000, 10, 25_000, 50, (0, 1, 2)),
    "tiny": Scale(3, 16, 2, 200, 1, 100, 2, 40, 1, 100, 1, (0,)),  # of the tests, on digits
}


class Chosen:
    """Some rows of other examples, with the labels in `classes` numbered anew in that order.
    Implements `data.Examples`."""

    sizes: Tensor | None = None

    def __init__(self, examples: Any, rows: Sequence[int], classes: Sequence[int]) -> None:
        self.labels: list[str] | None = [str(c) for c in classes]
        self._examples, self._rows, self._number = (
            examples,
            list(rows),
            {c: i for i, c in enumerate(classes)},
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self._examples[self._rows[index]]
        return row | {"labels": torch.tensor(self._number[int(row["labels"])])}

    def collate(
        self, examples: Sequence[dict[str, Any]], *, train: bool = False, noise: Noise | None = None
    ) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self._examples.collate(examples, train=train, noise=noise)
        return found


class Lab:
    """Data, networks and settings of one run.

    Args:
        data: a data spec with ten classes of images, with a training and a test split.
        work: folder of the trained networks; what is in it is not trained again.
        scale: how large everything is.
        image_size: of the data.
    """

    def __init__(self, data: str, work: Path, scale: Scale, image_size: int = 32) -> None:
        self.data, self.work, self.scale, self.image_size = data, work, scale, image_size
        self.seeds = scale.seeds
        work.mkdir(parents=True, exist_ok=True)
        (work / "mixer.json").write_text(json.dumps(self._mixer_config()))
        (work / "vit.json").write_text(json.dumps(self._vit_config()))

    def _mixer_config(self) -> dict[str, Any]:
        s = self.scale
        sizes = {
            "img_size": self.image_size,
            "patch_size": s.patch,
            "num_blocks": s.blocks,
            "embed_dim": s.width,
        }
        return {"architecture": "mlp_mixer", "model_args": sizes}

    def _vit_config(self) -> dict[str, Any]:
        s = self.scale
        return {
            "model_type": "vit",
            "architectures": ["ViTForImageClassification"],
            "image_size": self.image_size,
            "patch_size": s.patch,
            "num_channels": 3,
            "hidden_size": s.width,
            "num_hidden_layers": s.blocks,
            "num_attention_heads": 4,
            "intermediate_size": 4 * s.width,
        }

    @cached_property
    def splits(self) -> dict[str, tuple[Any, Tensor]]:
        """Examples (prepared) and their labels ([examples]), by "train" and "eval"."""
        template = checkpoint.from_config(self.work / "mixer.json", labels=self.names)
        found = {}
        for role in ("train", "eval"):
            data = load_data(
                self.data,
                template,
                None,
                role=role,
                augment="flip-crop" if role == "train" else None,
            )
            found[role] = (
                data.examples,
                torch.tensor([int(data.examples[i]["labels"]) for i in range(len(data))]),
            )
        return found

    @cached_property
    def names(self) -> list[str]:
        """Of the ten classes."""
        table, _ = open_table(self.data, "train")
        return list(table.features["label"].names)

    def part(
        self, role: str, classes: Sequence[int], limit: int, per_class: int | None = None
    ) -> Data:
        """The first `limit` examples of these classes (or the first `per_class` of each), labels
        numbered in their order."""
        examples, labels = self.splits[role]
        rows = [torch.nonzero(labels == c).flatten()[:per_class] for c in classes]
        chosen = torch.cat(rows).sort().values[:limit].tolist()
        return Data(
            f"{self.data}:{role}[{','.join(map(str, classes))}]",
            TASK,
            Chosen(examples, chosen, classes),
        )

    def train(self, classes: Sequence[int] = ALL) -> Data:
        return self.part("train", classes, self.scale.images)

    def test(self, classes: Sequence[int] = ALL) -> Data:
        return self.part("eval", classes, self.scale.test)

    def recipe(self, seed: int, **changes: Any) -> Recipe:
        """As the paper's Mixer, but no CutMix, fewer epochs, and weight decay as usual here."""
        base = Recipe(
            epochs=self.scale.epochs,
            batch_size=64,
            lr=1e-3,
            warmup=0.1,
            label_smoothing=0.1,
            task_weight=1.0,
            precision="fp32",
            seed=seed,
        )
        return replace(base, **changes)

    def fresh(self, kind: str, form: str, classes: int, seed: int, layer: str = "plain") -> Any:
        """An untrained network in its form."""
        checkpoint.seed_everything(seed)
        net = checkpoint.from_config(
            self.work / f"{kind}.json", labels=[str(i) for i in range(classes)]
        )
        set_form_(net, form, layer)
        return net

    def network_dir(
        self,
        form: str,
        seed: int,
        *,
        kind: str = "mixer",
        classes: Sequence[int] = ALL,
        layer: str = "plain",
        prefix: float = 0.0,
    ) -> Path:
        """The model directory of a network trained from scratch; it is trained if the work folder
        does not have it.

        Args:
            form: "residual" or "acn".
            kind: "mixer" or "vit".
            classes: of the data.
            layer: what one layer of an ACN is.
            prefix: weight of the loss of one random depth per step, read through the shared head.
        """
        name = f"{kind}-{form}-{len(classes)}-{layer}-prefix{prefix:g}-seed{seed}"
        out = self.work / name
        if not (out / "training.json").is_file():
            net = self.fresh(kind, form, len(classes), seed, layer)
            seen = fit_(
                net,
                self.train(classes),
                self.recipe(seed, prefix_loss=prefix),
                watch=self.test(classes),
            )
            output.write(
                net,
                out,
                source=None,
                step="finetune",
                options={"network": name},
                report={},
                seed=seed,
                overwrite=True,
            )
            modeldir.write_json(out / "training.json", seen)
        return out

    def network(self, form: str, seed: int, **options: Any) -> tuple[Any, dict[str, Any]]:
        """The network of `network_dir`, and what was seen while it trained (`fit_`)."""
        out = self.network_dir(form, seed, **options)
        return checkpoint.load_source(find_source(out)), json.loads(
            (out / "training.json").read_text()
        )

    def describe(self) -> dict[str, Any]:
        return asdict(self.scale)


def set_form_(net: Any, form: str, layer: str = "plain") -> None:
    """Put a network into residual or ACN form."""
    structure = net.structure
    layers = len(structure.blocks) * (2 if layer == "branch" else 1)
    net.set_structure_(structure.with_alpha((FORMS[form],) * layers, layer))  # type: ignore[arg-type]


def fit_(
    net: Any, data: Data, recipe: Recipe, *, watch: Data, test_loss_every: int = 0
) -> dict[str, Any]:
    """Train in place in the form the model has.

    Args:
        watch: examples whose first 256 give the gradient shares (claim 11), and whose first 2,000
            the test loss.
        test_loss_every: reports (a hundredth of the run each) from one test loss to the next; 0
            measures none.
    Returns:
        seconds, steps, history (step, loss), test (step, loss, accuracy), gradients ("start" after
        a hundredth of the run, "middle" and "end": `gradients.shares`).
    """
    structure = net.structure
    batch = next(iter(watch.batches(256)))
    seen: dict[str, Any] = {"test": [], "gradients": {}}
    reports = 0

    def look(entry: dict[str, Any]) -> None:
        nonlocal reports
        reports += 1
        done = entry["step"] / entry["steps"]
        for when, share in (("start", 0.0), ("middle", 0.5)):
            if done >= share and when not in seen["gradients"]:
                seen["gradients"][when] = _in_evaluation(net, lambda: shares(net, batch, TASKS[TASK]))
        if test_loss_every and reports % test_loss_every == 0:
            seen["test"].append({"step": entry["step"], **test_loss(net, watch)})

    alphas = structure.alpha
    result = fit(net, data, recipe, walk=Walk(alphas, alphas, 0.0, structure.layer), progress=look)
    seen["gradients"]["end"] = shares(net, batch, TASKS[TASK])
    history = [{"step": h["step"], "loss": round(h["loss"], 5)} for h in result.history]
    return {"seconds": round(result.seconds, 1), "steps": result.steps, "history": history, **seen}


def _in_evaluation(net: Any, found: Callable[[], dict[str, list[float]]]) -> dict[str, list[float]]:
    net.model.eval()
    try:
        with threads_for(net):
            return found()
    finally:
        net.model.train()


def test_loss(net: Any, data: Data) -> dict[str, float]:
    """Loss and accuracy on the first 2,000 examples."""
    first = Data(
        data.name, data.task, Chosen(data.examples, range(min(2000, len(data))), range(10))
    )
    scores = measure(net, first)
    return {"loss": round(float(scores.loss.mean()), 5), "accuracy": round(scores.value, 4)}


test_loss.__test__ = False  # type: ignore[attr-defined]  # not one of pytest's


def pooled(runs: Sequence[Scores]) -> Scores:
    """The mean over seeds of every example's score, so that intervals are over examples: those of
    the mean network of these seeds."""
    first = runs[0]
    return replace(
        first,
        score=np.mean([r.score for r in runs], axis=0),
        loss=np.mean([r.loss for r in runs], axis=0),
    )
