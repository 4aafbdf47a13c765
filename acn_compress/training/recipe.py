"""How to train, as options in memory. Which defaults were measured and which are conventions:
docs/method.md."""

from __future__ import annotations

from dataclasses import dataclass

from acn_compress.errors import ConfigError


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Args:
        epochs: passes over the data; a fraction is allowed.
        batch_size: examples per step and process.
        lr: peak learning rate of AdamW (cosine decay to 0); None takes 5e-4 for images, 1e-4 for
            text.
        warmup: share of the steps with rising learning rate.
        weight_decay: of AdamW; not on norms, biases and alphas.
        label_smoothing: of the task loss.
        distil_weight, task_weight: of the two losses; distil_weight only counts with a teacher.
        temperature: of distillation.
        hidden_weight: of matching y_L to the teacher's, and every other y_k to the teacher's behind
            the same block, token by token and standardised over the features, so that the scale of
            a sum does not count; needs a teacher of the same width.
        prefix_loss: of the loss of prefix readouts; 0 turns them off.
        prefix_depths: the depths read out in every step (their mean counts); none is one random
            depth per step.
        accumulate: batches per optimizer step.
        precision: "auto" uses bfloat16 autocast where the processor has it and the model is wide
            enough to gain.
        checkpointing: gradient checkpointing.
        seed: of everything random.
    """

    epochs: float = 3.0
    batch_size: int = 64
    lr: float | None = None
    warmup: float = 0.05
    weight_decay: float = 0.05
    label_smoothing: float = 0.0
    distil_weight: float = 1.0
    task_weight: float = 0.5
    temperature: float = 2.0
    hidden_weight: float = 0.0
    prefix_loss: float = 0.0
    prefix_depths: tuple[int, ...] = ()
    accumulate: int = 1
    precision: str = "auto"
    checkpointing: bool = False
    seed: int = 0

    @property
    def prefixes(self) -> int:
        """Prefix readouts per step."""
        return 0 if self.prefix_loss == 0 else len(self.prefix_depths) or 1

    def __post_init__(self) -> None:
        for name, ok, want in (
            ("epochs", self.epochs > 0, "more than 0"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("lr", self.lr is None or self.lr > 0, "more than 0"),
            ("warmup", 0 <= self.warmup < 1, "in [0, 1)"),
            ("distil_weight", self.distil_weight >= 0, "at least 0"),
            ("task_weight", self.task_weight >= 0, "at least 0"),
            ("temperature", self.temperature > 0, "more than 0"),
            ("hidden_weight", self.hidden_weight >= 0, "at least 0"),
            ("prefix_loss", self.prefix_loss >= 0, "at least 0"),
            (
                "prefix_depths",
                not self.prefix_depths or self.prefix_loss > 0,
                "none while prefix_loss is 0 (--prefix-loss 1)",
            ),
            ("accumulate", self.accumulate >= 1, "at least 1"),
            ("precision", self.precision in {"auto", "fp32", "bf16"}, "auto, fp32 or bf16"),
        ):
            if not ok:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected {want}.")
