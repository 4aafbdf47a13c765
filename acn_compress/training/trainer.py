"""transformers' Trainer as the engine: our loss, a learning rate of its own for trained alphas, and
checkpoints that keep the names of the model in memory."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from acn_compress import processes
from acn_compress.data.ahead import loader
from acn_compress.data.load import Data
from acn_compress.errors import ConfigError, ModelDirError
from acn_compress.events import Logged
from acn_compress.found import Found
from acn_compress.network.network import Network
from acn_compress.options import Trained
from acn_compress.training.batches import Bucketed, Seeded, collated
from acn_compress.training.hooks import Hook, Log
from acn_compress.training.objective import Objective
from acn_compress.training.state import Kept, step_of
from acn_compress.training.taught import Taught

ALPHA_LR = (
    1e-2  # peak of trained alphas: they move by tenths in runs in which weights move by thousandths
)
PEAK = {
    "image": 5e-4,
    "text": 1e-4,
    "audio": 1e-4,
}  # learning rates, unless the user says otherwise
REFITTED = 0.3  # of them behind a refit (docs/method.md, section 14)
WIDE = 256  # features of the stream from which on bfloat16 gains
WEIGHTS, HOOK, HISTORY = "model.safetensors", "hook.safetensors", "history.json"


class History(Found):
    """What a checkpoint remembers of the training so far."""

    entries: tuple[Logged, ...]
    metric: float | None = None


class Engine(Trainer):  # type: ignore[misc]  # transformers is not typed
    """Trains a network in place.

    Args:
        net: that is trained.
        data: to train on.
        args: as `arguments` makes them.
        objective: the loss.
        hook: takes part in every step.
        log: the history, which goes with the checkpoint.
        callbacks: of every step, besides.
        kept: where checkpoints go; None saves none.
        taught: the teacher's answers, where they are kept.
    """

    def __init__(
        self,
        net: Network,
        data: Data,
        args: TrainingArguments,
        *,
        objective: Objective,
        hook: Hook | None,
        log: Log,
        callbacks: list[TrainerCallback],
        kept: Kept | None,
        taught: Taught | None = None,
    ) -> None:
        super().__init__(
            model=objective,
            args=args,
            train_dataset=Seeded(data),
            data_collator=partial(collated, data, taught),
            callbacks=[*callbacks, log],
        )
        self.remove_callback(PrinterCallback)
        self.net, self.hook, self.log_, self.kept, self.taught = net, hook, log, kept, taught
        self.model_accepts_loss_kwargs = False
        self.aside = Path(args.output_dir)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
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
        found: torch.optim.Optimizer = super().create_optimizer(model)
        return found

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Tensor:
        loss: Tensor = model(dict(inputs))
        return loss

    def training_step(self, *args: object, **kwargs: object) -> Tensor:
        loss: Tensor = super().training_step(*args, **kwargs)
        if self.hook is not None and self.accelerator.sync_gradients:  # the last batch of the step
            self.hook.on_backward(self.state.global_step, self.state.max_steps)
        return loss

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches that are full, read ahead by the workers of the data."""
        data, size = self.train_dataset.data, self.args.train_batch_size
        sizes = torch.zeros(len(data)) if data.examples.sizes is None else data.examples.sizes
        batches = loader(
            self.train_dataset,
            self.data_collator,
            data.workers,
            data.batch_bytes(size) + (0 if self.taught is None else size * self.taught.bytes),
            batch_size=size,
            sampler=Bucketed(sizes, size, self.args.seed),
            drop_last=True,
        )
        shared: DataLoader[Any] = self.accelerator.prepare(batches)
        return shared

    # checkpoints

    def store_flos(self) -> None:
        """Nobody asks for them, and saving, which is one process's, would wait for the others'."""

    def _save_checkpoint(self, *args: object) -> None:
        """The Trainer's own, filled aside and then put in its place; by the process that keeps
        them."""
        step = self.state.global_step
        # it may be saved at the end of the step, which is that of the epoch too
        if self.kept is None or self.kept.has(step):
            return
        with self.kept.writing(step) as self.aside:
            super()._save_checkpoint(*args)

    def _get_output_dir(self, *args: object, **kwargs: object) -> str:
        return str(self.aside)

    def _save(self, output_dir: str, state_dict: dict[str, Tensor] | None = None) -> None:
        directory = Path(output_dir)
        directory.mkdir(parents=True, exist_ok=True)
        save_model(self.net.model, str(directory / WEIGHTS))
        if self.hook is not None:
            save_file(self.hook.state_dict(), directory / HOOK)
        history = History(entries=tuple(self.log_.history), metric=self.log_.metric)
        (directory / HISTORY).write_text(history.model_dump_json(), encoding="utf-8")

    def _load_from_checkpoint(self, path: str | Path, model: nn.Module | None = None) -> None:
        """Weights, the hook's state and the history; the rest the Trainer reads itself."""
        directory = Path(path)
        if (directory / HOOK).is_file() != (self.hook is not None):
            raise ConfigError(
                f"{directory} is the training checkpoint of another method. "
                "Give the same options, or leave out --resume."
            )
        try:
            load_model(self.net.model, str(directory / WEIGHTS), strict=True)
        except (RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise ModelDirError(f"{directory}: is not of this network ({reason}).") from None
        if self.hook is not None:
            self.hook.load_state_dict(load_file(directory / HOOK))
        history = History.model_validate_json((directory / HISTORY).read_bytes())
        self.log_.history, self.log_.metric = list(history.entries), history.metric

    def restore(self, path: Path) -> None:
        """Take over a training that is at its end."""
        self._load_from_checkpoint(path)
        self.log_.step = step_of(path)


def arguments(
    net: Network, how: Trained, total: int, lr: float, kept: Kept | None
) -> TrainingArguments:
    """The Trainer's, for a run of `total` steps; a batch is that of all processes together."""
    args = TrainingArguments(
        output_dir=str(kept.directory if kept else Path(".")),
        max_steps=total,
        per_device_train_batch_size=how.batch_size,
        gradient_accumulation_steps=how.accumulate,
        learning_rate=lr,
        lr_scheduler_type="cosine",
        warmup_steps=round(how.warmup * total),
        weight_decay=how.weight_decay,
        max_grad_norm=how.max_grad_norm,
        use_cpu=net.device.type == "cpu",
        seed=how.seed,
        data_seed=how.seed,
        dataloader_drop_last=True,
        remove_unused_columns=False,
        accelerator_config={"split_batches": True},
        ddp_broadcast_buffers=False,
        logging_strategy="steps",
        logging_steps=max(1, total // 100),
        logging_nan_inf_filter=False,
        save_strategy="no" if kept is None else "epoch",
        report_to=[],
        disable_tqdm=True,
    )
    if processes.world() == 1:
        _keep_on(args, net.device)
    return args


def _keep_on(args: TrainingArguments, device: torch.device) -> None:
    """Train on one device. The Trainer would take the first accelerator, and spread a batch over
    all that it sees (`nn.DataParallel`), whose copies lose what is trained outside of the model."""
    args.distributed_state.device = args.__dict__["_setup_devices"] = device
    args._n_gpu = min(1, args.n_gpu)


def learning_rate(net: Network, lr: float | None, refitted: bool = False) -> float:
    """The peak: what the user said, or what suits the modality; `refitted`: what is trained was
    solved for, of which large steps take away more than a short training gives."""
    return PEAK[net.modality] * (REFITTED if refitted else 1) if lr is None else lr


def use_bf16(net: Network, precision: str) -> bool:
    """Whether to train in bfloat16 autocast: where the hardware multiplies it, and, for "auto",
    only for models wide enough to gain.

    Raises:
        ConfigError: for "bf16" where the hardware does not.
    """
    able = _multiplies_bf16(net.device)
    if precision == "bf16" and not able:
        raise ConfigError(
            "precision is bf16, but this processor does not multiply bfloat16. Choose auto or fp32."
        )
    return able and (precision == "bf16" or (precision == "auto" and net.width >= WIDE))


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    cpuinfo = Path("/proc/cpuinfo")
    known = cpuinfo.read_text() if cpuinfo.is_file() else ""
    return any(flag in known for flag in ("avx512_bf16", "amx_bf16"))


@contextmanager
def quiet() -> Iterator[None]:
    """The Trainer's own warnings (pad tokens, missing keys) are about files we do not write."""
    with ExitStack() as undo:
        for name in ("transformers.trainer", "transformers.trainer_utils", "accelerate"):
            logger = logging.getLogger(name)
            undo.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        undo.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield
