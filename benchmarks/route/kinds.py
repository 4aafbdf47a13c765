"""The networks that are compressed along every route, and how much is trained at which scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from acn_compress.options import Task, Trained

RECIPE = Path(__file__).parents[2] / "recipes" / "vit-cifar10.yaml"


@dataclass(frozen=True)
class Scale:
    """How much is trained; None is all there is.

    Args:
        pretrain, examples: epochs and examples of the network to be compressed.
        budget, limit: epochs (of the whole network) and examples of every route.
        eval_limit: examples to measure on.
        seeds: runs of every route.
    """

    pretrain: float
    examples: int | None
    budget: float
    limit: int | None
    eval_limit: int | None
    seeds: int


@dataclass(frozen=True)
class Kind:
    """A network, and how it is trained.

    Args:
        scales: by name.
        depths: blocks that are kept.
        pretraining: of the network to be compressed.
        training: of every route.
        config: of the network, which starts from random weights; None starts from a pretrained one.
        task: of the new head of a pretrained one.
        noise: measured under, besides clean data.
    """

    scales: dict[str, Scale]
    depths: tuple[int, ...]
    pretraining: Trained
    training: Trained
    config: Callable[[], dict[str, Any]] | None = None
    task: Task | None = None
    noise: str | None = None

    @property
    def batch(self) -> int:
        """Examples per step."""
        return self.training.batch_size

    @property
    def readings(self) -> int:
        """How often the test data is read for a row of the table."""
        return 1 if self.noise is None else 2


def vit() -> dict[str, Any]:
    """The config of the ViT in the recipe for CIFAR-10."""
    config: dict[str, Any] = yaml.safe_load(RECIPE.read_text())["source"]
    return config


def mixer() -> dict[str, Any]:
    """The config of an MLP-Mixer of timm's."""
    sizes = {"img_size": 32, "patch_size": 8, "num_blocks": 12, "embed_dim": 128}
    return {"architecture": "mlp_mixer", "model_args": sizes}


IMAGES = {
    "small": Scale(6, 15000, 2.0, 5000, 5000, 2),
    "full": Scale(30, None, 5.0, None, None, 3),
}
TEXTS = {
    "small": Scale(1, 8000, 1.0, 1600, None, 2),
    "full": Scale(2, None, 2.0, None, None, 3),
}
FROM_SCRATCH = Trained(
    batch_size=128, lr=1e-3, warmup=0.1, label_smoothing=0.1, task_weight=1.0, augment="flip-crop"
)


def images(config: Callable[[], dict[str, Any]]) -> Kind:
    """A network of images, trained from scratch."""
    return Kind(
        IMAGES,
        depths=(3, 4, 6),
        pretraining=FROM_SCRATCH,
        training=Trained(batch_size=128, lr=1e-3, augment="flip-crop"),
        config=config,
        noise="gaussian:0.2",
    )


KINDS = {
    "vit": images(vit),
    "mixer": images(mixer),
    "bert": Kind(
        TEXTS,
        depths=(2, 3, 4),
        pretraining=Trained(batch_size=32, lr=1e-4),
        training=Trained(batch_size=32, lr=2e-4, hidden_weight=1.0),
        task="text-classification",
    ),
}
