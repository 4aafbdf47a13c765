"""What happens beside the loss in every step of a training: one callback of transformers' Trainer
per idea, and what they tell."""

from __future__ import annotations

import math
import time
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from acn_compress import processes
from acn_compress.errors import AcnError
from acn_compress.events import Logged, Progress, TrainingStep
from acn_compress.measure.quality import measure
from acn_compress.network import zeros
from acn_compress.training.batches import seed_of
from acn_compress.training.interrupt import stop

if TYPE_CHECKING:
    from acn_compress.data.load import Data
    from acn_compress.network.network import Network
    from acn_compress.training.walk import Walk

EVERY = 600.0  # seconds between two checkpoints of an epoch


class Hook(Protocol):
    """What takes part in every optimizer step of a run of `steps`, of which `step` (from 0) is
    under way; saved with the checkpoint."""

    def on_backward(self, step: int, steps: int) -> None:
        """Gradients are whole, not yet clipped."""

    def on_step(self, step: int, steps: int) -> None:
        """The optimizer has moved the weights."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything a resumed run needs."""

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`."""


class Draws(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """What is drawn in a step follows from the seed and the step alone: a resumed run draws the
    same. Depths (from `drawn`) are the same in all processes, dropout is each one's own."""

    def __init__(self, seed: int, drawn: torch.Generator) -> None:
        self.seed, self.drawn = seed, drawn

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.drawn.manual_seed(seed_of(self.seed, state.global_step))
        torch.manual_seed(seed_of(self.seed, state.global_step, processes.rank()))


class Alphas(TrainerCallback):  # type: ignore[misc]
    """Alpha walks."""

    def __init__(self, net: Network, walk: Walk) -> None:
        self.net, self.walk = net, walk

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.walk.move_(self.net, state.global_step / max(1, state.max_steps - 1))

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        if self.walk.trains:
            with torch.no_grad():
                self.net.clamp_learned_()


class Zeros(TrainerCallback):  # type: ignore[misc]
    """The zeros of a network that was pruned to zeros stay zeros."""

    def __init__(self, net: Network) -> None:
        self.places = zeros.places(net) if net.structure.sparsity > 0 else []

    @torch.no_grad()
    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        for weight, zero in self.places:
            weight.masked_fill_(zero, 0.0)


class Hooked(TrainerCallback):  # type: ignore[misc]
    """A hook takes its part once the weights have moved."""

    def __init__(self, hook: Hook) -> None:
        self.hook = hook

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.hook.on_step(state.global_step, state.max_steps)


class Stop(TrainerCallback):  # type: ignore[misc]
    """Ends training after the step in which a signal came, to whichever process, with a checkpoint;
    saves one from time to time within an epoch as well."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.saved = time.monotonic()

    def heard(self, number: int, frame: FrameType | None) -> None:
        """A signal: the first one ends the run after the step, another one at once; but a launcher
        passes on what its processes have heard already."""
        if self.signal is not None and processes.world() == 1:
            stop(number, frame)
        self.signal = self.signal or number

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.signal = processes.largest(self.signal or 0) or None
        due = time.monotonic() - self.saved >= EVERY
        if args.save_strategy != "no" and (due or self.signal is not None):
            control.should_save = True
        if self.signal is not None:
            control.should_training_stop = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.saved = time.monotonic()


class Log(TrainerCallback):  # type: ignore[misc]
    """The history of a training, told to `progress` entry by entry.

    Args:
        net: that is trained.
        eval_data: measured at the end of every epoch.
        progress: called with every entry.
    Attributes:
        history: so far, with that of the run this one goes on from.
        metric: at the end of the last epoch.
        step: optimizer steps done.
    """

    def __init__(self, net: Network, eval_data: Data | None, progress: Progress | None) -> None:
        self.net, self.eval_data, self.progress = net, eval_data, progress
        self.history: list[Logged] = []
        self.metric: float | None = None
        self.started, self.first, self.step = time.perf_counter(), 0, 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.started, self.first = time.perf_counter(), state.global_step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.step = state.global_step

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        stopped = control.should_training_stop and state.global_step < state.max_steps
        if self.eval_data is not None and not stopped:
            self.metric = measure(self.net, self.eval_data).value

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise Diverged(f"at step {state.global_step}: the loss is {logs['loss']}")
        entry = Logged(
            step=state.global_step,
            loss=logs["loss"],
            alpha=self._alpha(),
            lr=logs.get("learning_rate"),
            metric=self.metric,
        )
        self.history.append(entry)
        if self.progress is not None:
            left = self._seconds_per_step(state.global_step) * (state.max_steps - state.global_step)
            steps = {"steps": state.max_steps, "seconds_left": left}
            self.progress(TrainingStep.model_validate(entry.model_dump() | steps))

    def _seconds_per_step(self, step: int) -> float:
        return (time.perf_counter() - self.started) / max(1, step - self.first)

    def _alpha(self) -> float:
        """The mean alpha now."""
        values = self.net.current_alphas()
        return sum(values) / len(values)


class Diverged(AcnError):
    """Training left the numbers; no checkpoint of it is of use."""

    def __init__(self, where: str) -> None:
        super().__init__(f"training diverged {where}. Lower the learning rate (--lr).")
