"""Training: transformers' Trainer as the engine, with our loss (objective.py), alpha schedule,
masks and interruption on top."""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from acn_compress.data.load import Data
from acn_compress.errors import AcnError, ConfigError, DataError, Interrupted
from acn_compress.form import LayerKind
from acn_compress.measure.quality import measure, threads_for
from acn_compress.network import zeros
from acn_compress.network.network import Network
from acn_compress.training.batches import Bucketed, Collate, Numbered, seed_of
from acn_compress.training.objective import Objective

Progress = Callable[[dict[str, Any]], None]
ALPHA_LR = 1e-2  # peak learning rate of trained alphas: they move by tenths in runs in which weights move by thousandths


@dataclass(frozen=True)
class Walk:
    """How alpha moves: from `start` to `end`, linearly in the share of the run, over its first
    part; then it stays.

    With a pull it finds its own way: every alpha is trained from `start` over the first part of the
        run, with pull * mean alpha added to
    the loss, so that it goes down as far as that costs the other losses no more than the pull; then
    it stays.

    Args:
        start, end: one value per layer.
        share: part of the steps that the walk takes; 0 jumps at once.
        layer: what one layer is.
        learned: after the walk every alpha is a trained parameter (the hybrid ACN), kept in [0, 1].
        pull: in units of the loss per unit of alpha; 0 is the fixed walk.
    """

    start: tuple[float, ...]
    end: tuple[float, ...]
    share: float
    layer: LayerKind
    learned: bool = False
    pull: float = 0.0

    @property
    def trains(self) -> bool:
        """Whether alphas are trained parameters at some time of the run."""
        return self.learned or self.pull > 0

    def at(self, progress: float) -> tuple[float, ...]:
        """Alphas after `progress` (0 to 1) of the run, as long as they are not trained."""
        if self.pull > 0:
            return self.start
        if progress >= self.share:
            return self.end
        moved = progress / self.share
        return tuple(a + (b - a) * moved for a, b in zip(self.start, self.end, strict=True))


@dataclass(frozen=True)
class Recipe:
    """How to train. Which defaults were measured and which are conventions: docs/method.md.

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


class Hook(Protocol):
    """What takes part in every optimizer step of a run of `steps`, of which `step` (from 0) is
    under way; saved with the checkpoint."""

    def on_backward(
        self, step: int, steps: int
    ) -> None: ...  # gradients are whole, not yet clipped
    def on_step(self, step: int, steps: int) -> None: ...  # the optimizer has moved the weights
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


@dataclass
class Fit:
    """What training did."""

    steps: int
    seconds: float
    precision: str
    lr: float
    alpha: tuple[float, ...]
    history: list[dict[str, Any]] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Plain data for a report."""
        return {
            "steps": self.steps,
            "seconds": round(self.seconds, 2),
            "precision": self.precision,
            "lr": self.lr,
            "history": self.history,
        }


def fit(
    net: Network,
    data: Data,
    recipe: Recipe,
    *,
    walk: Walk | None = None,
    hook: Hook | None = None,
    teacher: Network | None = None,
    eval_data: Data | None = None,
    state: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Fit:
    """Train `model` in place. The zeros of a model pruned to zeros (sparsity > 0) stay zeros.

    Args:
        net: in evaluation or training mode; left in evaluation mode.
        data: to train on.
        recipe: how.
        walk: how alpha moves; None leaves it.
        hook: called in every step.
        teacher: distilled from, on the same batches.
        eval_data: measured once per epoch, for the progress display and the history.
        state: directory of the training checkpoint, for Ctrl-C and `resume`; removed when training
            ends well.
        resume: go on from `state`.
        progress: called with step, steps, loss, alpha, lr, metric, seconds_left.
    Returns:
        What happened; the model's structure holds the final alphas.
    Raises:
        Interrupted: on Ctrl-C, saying how to go on.
        ConfigError, DataError: for a recipe that cannot run.
    """
    if recipe.task_weight == 0 and (teacher is None or recipe.distil_weight == 0):
        raise ConfigError("nothing to train on: task_weight is 0 and there is no distillation.")
    if len(data) < recipe.batch_size:
        raise DataError(
            f"data {data.name} has {len(data)} examples, fewer than one batch of {recipe.batch_size}. Set a smaller batch size."
        )
    if resume and (state is None or not _checkpoints(state)):
        raise ConfigError(f"nothing to resume: no training checkpoint in {state}.")
    if recipe.checkpointing and not net.family.checkpointing:
        raise ConfigError(
            "checkpointing does not work with timm models: it would bypass the long sum. Leave it out; accumulate saves memory too."
        )
    if recipe.hidden_weight > 0 and (teacher is None or teacher.width != net.width):
        found = (
            "there is none"
            if teacher is None
            else f"it has {teacher.width} features, the model {net.width}"
        )
        raise ConfigError(
            f"hidden_weight is {recipe.hidden_weight:g}, which needs a teacher of the same width, but {found}."
        )
    blocks = net.depth
    if unknown := [d for d in recipe.prefix_depths if not 1 <= d < blocks]:
        raise ConfigError(
            f"prefix_depths has {unknown[0]}, but the model has {blocks} blocks. Choose depths from 1 to {blocks - 1}."
        )
    set_seed(recipe.seed)
    bf16, lr = _use_bf16(net, recipe.precision), _learning_rate(net.modality, recipe.lr)
    if walk is not None:
        net.set_alphas_(walk.start, walk.layer)
        if walk.trains:
            net.learn_alphas_(True)
    if state is not None and not resume:
        shutil.rmtree(state, ignore_errors=True)
    directory = state or Path(".")
    total = max(1, round(recipe.epochs * (len(data) // recipe.batch_size) / recipe.accumulate))
    hooks = _Hooks(net, walk, hook, total, progress, eval_data, recipe.seed)
    trainer = _Trainer(
        model=net.model,
        net=net,
        args=_arguments(net, recipe, directory, total, lr, bf16, save=state is not None),
        train_dataset=Numbered(data),
        data_collator=Collate(data, recipe.seed),
        callbacks=[hooks],
        objective=Objective(recipe, teacher, data.task, walk.pull if walk else 0.0),
        hook=hook,
    )
    trainer.remove_callback(_printer())
    if recipe.checkpointing:
        net.model.activation_checkpointing_enable({"use_reentrant": False})
    started = time.perf_counter()
    with _interruptible(hooks), _quiet_trainer(), threads_for(net):
        trainer.train(resume_from_checkpoint=str(_checkpoints(directory)[-1]) if resume else None)
    if hooks.interrupted:
        raise Interrupted(_how_to_go_on(state, hooks.step, total))
    if recipe.checkpointing:
        net.model.activation_checkpointing_disable()
    if not all(bool(p.isfinite().all()) for p in net.model.parameters()):
        raise AcnError(_diverged("in the last steps: weights are not finite"))
    alpha = _finish(net, walk)
    net.model.eval()
    if state is not None:
        shutil.rmtree(state, ignore_errors=True)
    return Fit(
        total, time.perf_counter() - started, "bf16" if bf16 else "fp32", lr, alpha, hooks.history
    )


def state_directory(out: str | Path) -> Path:
    """Where the training checkpoint of a step that will write `out` lies: beside it."""
    path = Path(out).expanduser()
    return path.with_name(f"{path.name}.training")


def _finish(net: Network, walk: Walk | None) -> tuple[float, ...]:
    structure = net.structure
    if walk is None:
        return structure.alpha
    alpha = net.learn_alphas_(False) if walk.trains else walk.end
    net.set_structure_(structure.with_alpha(alpha, walk.layer))
    return alpha


def _diverged(where: str) -> str:
    return f"training diverged {where}. Lower the learning rate (--lr)."


def _how_to_go_on(state: Path | None, step: int, total: int) -> str:
    if state is None:
        return f"interrupted at step {step} of {total}; nothing was written."
    return f"interrupted at step {step} of {total}; the training checkpoint is in {state}. Run the same command with --resume to go on."


def _checkpoints(state: Path) -> list[Path]:
    return (
        sorted(state.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
        if state.is_dir()
        else []
    )


def _learning_rate(modality: str, lr: float | None) -> float:
    return lr if lr is not None else {"image": 5e-4, "text": 1e-4}[modality]


def _use_bf16(net: Network, precision: str) -> bool:
    """bfloat16 autocast: where the hardware multiplies it, and, for "auto", only for models wide
    enough to gain (256)."""
    device = net.device
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported()
    else:
        cpuinfo = Path("/proc/cpuinfo")
        able = cpuinfo.is_file() and any(
            f in cpuinfo.read_text() for f in ("avx512_bf16", "amx_bf16")
        )
    if precision == "bf16" and not able:
        raise ConfigError(
            "precision is bf16, but this processor does not multiply bfloat16. Choose auto or fp32."
        )
    return able and (precision == "bf16" or (precision == "auto" and net.width >= 256))


def _arguments(
    net: Network, recipe: Recipe, directory: Path, total: int, lr: float, bf16: bool, save: bool
) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(directory),
        max_steps=total,
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulate,
        learning_rate=lr,
        lr_scheduler_type="cosine",
        warmup_steps=round(recipe.warmup * total),
        weight_decay=recipe.weight_decay,
        max_grad_norm=1.0,
        bf16=bf16,
        use_cpu=net.device.type == "cpu",
        seed=recipe.seed,
        data_seed=recipe.seed,
        dataloader_drop_last=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        logging_strategy="steps",
        logging_steps=max(1, total // 100),
        logging_nan_inf_filter=False,
        save_strategy="epoch" if save else "no",
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
    )


class _Trainer(Trainer):  # type: ignore[misc]  # transformers is not typed
    """Our loss; checkpoints keep the names of the model in memory."""

    def __init__(
        self, *, net: Network, objective: Objective, hook: Hook | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.net, self.objective, self.hook = net, objective, hook
        self.model_accepts_loss_kwargs = False

    def create_optimizer(self, model: Any = None) -> Any:
        """Trained alphas have a learning rate of their own, and no weight decay."""
        alphas = self.net.learned_alphas()
        if self.optimizer is None and alphas:
            for alpha in alphas:
                alpha.requires_grad_(False)  # the Trainer takes what needs gradients
            super().create_optimizer(model).add_param_group(
                {"params": alphas, "lr": ALPHA_LR, "weight_decay": 0.0}
            )
            for alpha in alphas:
                alpha.requires_grad_(True)
        return super().create_optimizer(model)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        return self.objective(model, self.net, dict(inputs))

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)
        if self.hook is not None and self.accelerator.sync_gradients:  # the last batch of the step
            self.hook.on_backward(self.state.global_step, self.state.max_steps)
        return loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        sizes = self.train_dataset.data.examples.sizes
        if sizes is None:
            return super()._get_train_sampler(train_dataset)
        return Bucketed(sizes, self.args.train_batch_size, self.objective.recipe.seed)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        from safetensors.torch import save_file, save_model

        directory = Path(output_dir or self.args.output_dir)
        directory.mkdir(parents=True, exist_ok=True)
        save_model(self.accelerator.unwrap_model(self.model), str(directory / "model.safetensors"))
        if self.hook is not None:
            save_file(self.hook.state_dict(), directory / "hook.safetensors")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        from safetensors.torch import load_file, load_model

        load_model(
            model or self.model,
            str(Path(resume_from_checkpoint) / "model.safetensors"),
            strict=True,
        )
        if (path := Path(resume_from_checkpoint) / "hook.safetensors").is_file() != (
            self.hook is not None
        ):
            raise ConfigError(
                f"{path.parent} is the training checkpoint of another method. Give the same options, or leave out --resume."
            )
        if self.hook is not None:
            self.hook.load_state_dict(load_file(path))


class _Hooks(TrainerCallback):  # type: ignore[misc]
    """The alpha schedule as a pure function of the step, masks, progress and interruption."""

    def __init__(
        self,
        net: Network,
        walk: Walk | None,
        hook: Hook | None,
        total: int,
        progress: Progress | None,
        eval_data: Data | None,
        seed: int,
    ) -> None:
        self.net, self.walk, self.hook, self.total, self.progress = (
            net,
            walk,
            hook,
            total,
            progress,
        )
        self.eval_data, self.seed = eval_data, seed
        self.architecture = net.family
        self.zeros = zeros.places(net) if net.structure.sparsity > 0 else []
        self.interrupted, self.step = False, 0
        self.metric: float | None = None
        self.history: list[dict[str, Any]] = []
        self.started, self.first = time.perf_counter(), 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started, self.first = time.perf_counter(), state.global_step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        torch.manual_seed(
            seed_of(self.seed, state.global_step)
        )  # dropout and sampled depths: a resumed run draws the same
        done = state.global_step / max(1, self.total - 1)
        if self.walk is not None and self.walk.pull > 0:
            for alpha in self.net.learned_alphas():
                alpha.requires_grad_(done < self.walk.share)
        elif self.walk is not None and (not self.walk.learned or done <= self.walk.share):
            self.net.set_alphas_(self.walk.at(done), self.walk.layer)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        with torch.no_grad():
            for weight, zero in self.zeros:
                weight.masked_fill_(zero, 0.0)
            if self.walk is not None and self.walk.trains:
                self.net.clamp_learned_()
        if self.hook is not None:
            self.hook.on_step(state.global_step, self.total)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step = state.global_step
        if self.interrupted:
            control.should_save, control.should_training_stop = args.save_strategy != "no", True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.eval_data is not None and not self.interrupted:
            self.metric = measure(self.net, self.eval_data).value

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(float(logs["loss"])):
            raise AcnError(_diverged(f"at step {state.global_step}: the loss is {logs['loss']}"))
        entry = {
            "step": state.global_step,
            "loss": float(logs["loss"]),
            "alpha": self._alpha(),
            "lr": logs.get("learning_rate"),
            "metric": self.metric,
        }
        self.history.append(entry)
        if self.progress is not None:
            per_step = (time.perf_counter() - self.started) / max(1, state.global_step - self.first)
            self.progress(
                {
                    **entry,
                    "steps": self.total,
                    "seconds_left": per_step * (self.total - state.global_step),
                }
            )

    def _alpha(self) -> float:
        """The mean alpha now."""
        with torch.no_grad():
            values = self.net.current_alphas()
        return sum(float(a) for a in values) / len(values)


@contextmanager
def _interruptible(hooks: _Hooks) -> Any:
    """Ctrl-C ends training after the current step, with a checkpoint; a second one ends it at
    once."""

    def stop(number: int, frame: Any) -> None:
        if hooks.interrupted:
            raise KeyboardInterrupt
        hooks.interrupted = True

    try:
        before = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _printer() -> Any:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


@contextmanager
def _quiet_trainer() -> Any:
    """The Trainer's own warnings (pad tokens, missing keys) are about files we do not write."""
    import logging
    import warnings

    with ExitStack() as undo:
        loggers = [
            logging.getLogger(n)
            for n in ("transformers.trainer", "transformers.trainer_utils", "accelerate")
        ]
        for logger in loggers:
            undo.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        undo.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield
