"""What all claims share: the scale, the data, and networks that are trained once and kept in a work
folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acn_compress.checkpoint.files import read_json, write_json
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import from_config, load_source, seed_everything
from acn_compress.checkpoint.write import write
from acn_compress.data.load import Columns, Data, Examples, Role, label_names, load_data
from acn_compress.form import LayerKind
from acn_compress.measure.quality import Scores
from acn_compress.network.network import Network
from acn_compress.options import Trained
from benchmarks.paper.chosen import Chosen
from benchmarks.paper.watch import FIFTHS, TASK, Seen, late, watched

ALL = tuple(range(10))  # classes
FORMS = {"residual": 1.0, "acn": 0.0}


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Args:
        data: its name.
        image_size: of a side.
        augment: of what is trained on.
        blocks, width, patch: of Mixer and ViT.
        images: to train on at most, for every task of claims 1 to 5, 8 (first part) and 10.
        epochs: over so many; where a task has fewer images, as many steps.
        test: images to measure on.
        low_images, low_epochs: of claim 6; images of each class.
        task_images, task_epochs: of claim 7, per task of two classes.
        transfer_images, transfer_epochs: of claim 8, second part.
        movement_epochs: of claim 9b.
        seeds: of claims 1, 2, 5, 6, 7, 9 and 11.
        few: seeds of the others.
    """

    data: str
    image_size: int
    augment: str
    blocks: int
    width: int
    patch: int
    images: int
    epochs: float
    test: int
    low_images: int
    low_epochs: float
    task_images: int
    task_epochs: int
    transfer_images: int
    transfer_epochs: float
    movement_epochs: float
    seeds: tuple[int, ...]
    few: tuple[int, ...]


SMALL = Scale(
    data="CIFAR-10",
    image_size=32,
    augment="flip-crop",
    blocks=8,
    width=64,
    patch=8,
    images=8_000,
    epochs=8,
    test=5_000,
    low_images=100,
    low_epochs=30,
    task_images=1_600,
    task_epochs=3,
    transfer_images=4_000,
    transfer_epochs=3,
    movement_epochs=1,
    seeds=(0, 1),
    few=(0,),
)
SCALES = {
    "small": SMALL,
    "long": replace(  # all images of digits, until nothing more is gained
        SMALL,
        data="digits",
        image_size=8,
        augment="crop",
        patch=2,
        images=1_437,
        epochs=150,
        test=360,
        low_images=25,
        low_epochs=300,
        task_images=288,
        task_epochs=60,
        transfer_images=720,
        transfer_epochs=60,
        movement_epochs=30,
        seeds=(0, 1, 2),
        few=(0, 1, 2),
    ),
    "long-cifar10": replace(  # as far as a core gets in an hour and a seed
        SMALL,
        epochs=40,
        test=10_000,
        movement_epochs=8,
        transfer_epochs=15,
        seeds=(0,),
    ),
    "full": replace(
        SMALL,
        blocks=16,
        width=128,
        patch=4,
        images=50_000,
        epochs=420,
        test=10_000,
        low_epochs=150,
        task_images=10_000,
        task_epochs=10,
        transfer_images=25_000,
        transfer_epochs=50,
        movement_epochs=10,
        seeds=(0, 1, 2),
    ),
}


@dataclass(frozen=True)
class Wanted:
    """A network that is trained from scratch.

    Args:
        form: "residual" or "acn".
        kind: "mixer" or "vit".
        classes: of the data.
        layer: what one layer of an ACN is.
        prefix: weight of the loss of one random depth per step, read through the shared head.
    """

    form: str
    seed: int
    kind: str = "mixer"
    classes: tuple[int, ...] = ALL
    layer: LayerKind = "plain"
    prefix: float = 0.0

    @property
    def name(self) -> str:
        """Of its directory."""
        return (
            f"{self.kind}-{self.form}-{len(self.classes)}-{self.layer}-prefix{self.prefix:g}"
            f"-seed{self.seed}"
        )


class Lab:
    """Data, networks and settings of one run.

    Args:
        data: a data spec with ten classes of images, with a training and a test split.
        work: folder of the trained networks; what is in it is not trained again.
        scale: how large everything is.
    """

    def __init__(self, data: str, work: Path, scale: Scale) -> None:
        self.data, self.work, self.scale = data, work, scale
        self.seeds = scale.seeds
        work.mkdir(parents=True, exist_ok=True)
        (work / "mixer.json").write_text(json.dumps(self._mixer_config()))
        (work / "vit.json").write_text(json.dumps(self._vit_config()))

    def _mixer_config(self) -> dict[str, object]:
        s = self.scale
        sizes = {
            "img_size": s.image_size,
            "patch_size": s.patch,
            "num_blocks": s.blocks,
            "embed_dim": s.width,
        }
        return {"architecture": "mlp_mixer", "model_args": sizes}

    def _vit_config(self) -> dict[str, object]:
        s = self.scale
        return {
            "model_type": "vit",
            "architectures": ["ViTForImageClassification"],
            "image_size": s.image_size,
            "patch_size": s.patch,
            "num_channels": 3,
            "hidden_size": s.width,
            "num_hidden_layers": s.blocks,
            "num_attention_heads": 4,
            "intermediate_size": 4 * s.width,
        }

    # data

    @cached_property
    def splits(self) -> dict[str, tuple[Examples, Tensor]]:
        """Examples (prepared) and their labels ([examples]), by "train" and "eval"."""
        names = label_names(self.data, Columns(), TASK)
        template = from_config(self.work / "mixer.json", labels=names)
        found: dict[str, tuple[Examples, Tensor]] = {}
        roles: tuple[tuple[Role, str | None], ...] = (("train", self.scale.augment), ("eval", None))
        for role, augment in roles:
            examples = load_data(self.data, template, None, role=role, augment=augment).examples
            labels = [int(examples[i]["labels"]) for i in range(len(examples))]
            found[role] = examples, torch.tensor(labels)
        return found

    def part(
        self, role: str, classes: Sequence[int], limit: int, per_class: int | None = None
    ) -> Data:
        """The first `limit` examples of these classes (or the first `per_class` of each), labels
        numbered in their order."""
        examples, labels = self.splits[role]
        rows = [torch.nonzero(labels == c).flatten()[:per_class] for c in classes]
        chosen = torch.cat(rows).sort().values[:limit].tolist()
        name = f"{self.data}:{role}[{','.join(map(str, classes))}]"
        return Data(name, TASK, Chosen(examples, chosen, classes))

    def train(self, classes: Sequence[int] = ALL) -> Data:
        """What networks are trained on."""
        return self.part("train", classes, self.scale.images)

    def test(self, classes: Sequence[int] = ALL) -> Data:
        """What they are measured on."""
        return self.part("eval", classes, self.scale.test)

    # networks

    def training(self, seed: int) -> Trained:
        """As the paper's Mixer, but no CutMix, fewer epochs, and weight decay as usual here."""
        return Trained(
            data=self.data,
            epochs=self.scale.epochs,
            batch_size=64,
            lr=1e-3,
            warmup=0.1,
            label_smoothing=0.1,
            task_weight=1.0,
            precision="fp32",
            seed=seed,
        )

    def fresh(self, wanted: Wanted) -> Network:
        """The network before its training."""
        seed_everything(wanted.seed)
        names = label_names(self.data, Columns(), TASK)
        labels = [names[c] if names else str(c) for c in wanted.classes]
        net = from_config(self.work / f"{wanted.kind}.json", labels=labels)
        layers = net.depth * (2 if wanted.layer == "branch" else 1)
        alpha = (FORMS[wanted.form],) * layers
        net.set_structure_(net.structure.with_alpha(alpha, wanted.layer))
        return net

    def folder(self, wanted: Wanted) -> Path:
        """The model directory of a network; it is trained if the work folder does not have it."""
        out = self.work / wanted.name
        if not (out / "training.json").is_file():
            self._train(wanted, out)
        return out

    def _train(self, wanted: Wanted, out: Path) -> None:
        net, seed, data = self.fresh(wanted), wanted.seed, self.train(wanted.classes)
        epochs = self.scale.epochs * self.scale.images / len(data)
        training = self.training(seed).part(Trained, epochs=epochs, prefix_loss=wanted.prefix)
        seen = watched(net, data, training, self.test(wanted.classes))
        options = {"network": wanted.name}
        write(
            net,
            out,
            source=None,
            step="finetune",
            options=options,
            report={},
            seed=seed,
            overwrite=True,
        )
        write_json(out / "training.json", seen.plain())

    def network(self, wanted: Wanted) -> Network:
        """A trained network."""
        return load_source(find_source(self.folder(wanted)))

    def seen(self, wanted: Wanted) -> Seen:
        """What was seen while it was trained."""
        return Seen.model_validate(read_json(self.folder(wanted) / "training.json"))

    def late(self) -> dict[str, float]:
        """Of all networks in the work folder, what the accuracy of each gained late."""
        found = {
            file.parent.name: Seen.model_validate(read_json(file)).test
            for file in sorted(self.work.glob("*/training.json"))
        }
        return {
            name: late([(at.step, at.accuracy) for at in test])
            for name, test in found.items()
            if len(test) >= 2 * FIFTHS
        }


def pooled(runs: Sequence[Scores]) -> Scores:
    """The mean over seeds of every example's score, so that intervals are over examples: those of
    the mean network of these seeds."""
    return replace(
        runs[0],
        score=np.mean([r.score for r in runs], axis=0),
        loss=np.mean([r.loss for r in runs], axis=0),
    )
