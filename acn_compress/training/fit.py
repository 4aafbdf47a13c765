"""Training a network in place: transformers' Trainer as the engine (`trainer.py`) with our loss
(`objective.py`), alpha schedule and masks (`hooks.py`), and checkpoints (`state.py`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from transformers import TrainerCallback, set_seed

from acn_compress import processes
from acn_compress.data.ahead import plain
from acn_compress.data.load import Data
from acn_compress.errors import AcnError, ConfigError, DataError, Interrupted
from acn_compress.events import Progress
from acn_compress.network.network import Network
from acn_compress.network.threads import threads_for
from acn_compress.options import Trained
from acn_compress.training.fitted import Fit, steps_of
from acn_compress.training.hooks import (
    Alphas,
    Diverged,
    Draws,
    Hook,
    Hooked,
    Log,
    Stop,
    Zeros,
)
from acn_compress.training.identity import Run
from acn_compress.training.interrupt import exit_code, handling
from acn_compress.training.objective import Objective, asked_of
from acn_compress.training.state import Kept, step_of
from acn_compress.training.taught import Taught, taught_by
from acn_compress.training.trainer import Engine, arguments, learning_rate, quiet, use_bf16
from acn_compress.training.walk import Walk


def fit(
    net: Network,
    data: Data,
    how: Trained,
    *,
    walk: Walk | None = None,
    hook: Hook | None = None,
    teacher: Network | None = None,
    eval_data: Data | None = None,
    state: Kept | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Train `net` in place. The zeros of a network pruned to zeros (sparsity > 0) stay zeros.

    Args:
        net: in evaluation or training mode; left in evaluation mode.
        data: to train on.
        how: the options.
        walk: how alpha moves; None leaves it.
        hook: called in every step.
        teacher: distilled from, on the same batches.
        eval_data: measured once per epoch, for the progress display and the history.
        state: where training checkpoints go, and whether to go on from one (`state.kept`); None
            saves none.
        progress: told about a hundred times how far it is.
    Returns:
        What happened; the network's structure holds the final alphas.
    Raises:
        Interrupted: on Ctrl-C, SIGTERM or SIGHUP, saying how to go on.
        ConfigError, DataError: for what cannot be trained.
        AcnError: for a training that diverges.
    """
    _check(net, data, how, teacher)
    lr, bf16 = learning_rate(net, how.lr), use_bf16(net, how.precision)
    total = steps_of(how, len(data))
    if walk is not None:
        walk.begin_(net)
    done = None
    if state is not None:
        done = state.begin(Run.of(net, data, how, total, walk, state.source, teacher))
    started = time.perf_counter()
    taught = None
    if how.cache_teacher and teacher is not None:
        taught = taught_by(teacher, net, data, how)
    plan = Plan(how.part(Trained, data=None, eval_data=None), total, lr, bf16, done)
    with _discarded_if_diverged(state):
        signal, log = processes.together(
            train_,
            net,
            data,
            plan,
            walk,
            hook,
            teacher,
            eval_data,
            taught,
            state=state,
            progress=progress,
        )
        if signal is not None:
            raise Interrupted(_how_far(log.step, total, state), exit_code(signal))
        if not all(bool(p.isfinite().all()) for p in net.model.parameters()):
            raise Diverged("in the last steps: weights are not finite")
    if walk is not None:
        walk.end_(net)
    net.model.eval()
    return Fit(
        steps=total,
        seconds=round(time.perf_counter() - started, 2),
        precision="bf16" if bf16 else "fp32",
        lr=lr,
        history=tuple(log.history),
    )


class Plan(NamedTuple):
    """What is decided before training.

    Args:
        done: the checkpoint to go on from.
    """

    how: Trained
    total: int
    lr: float
    bf16: bool
    done: Path | None


def train_(
    net: Network,
    data: Data,
    plan: Plan,
    walk: Walk | None,
    hook: Hook | None,
    teacher: Network | None,
    eval_data: Data | None,
    taught: Taught | None = None,
    *,
    state: Kept | None = None,
    progress: Progress | None = None,
) -> tuple[int | None, Log]:
    """Train `net` in place, in every process. Returns the signal that ended it early, and the
    history."""
    how = plan.how
    set_seed(how.seed)
    stop, log = Stop(), Log(net, eval_data, progress)
    pull = walk.pull if walk else 0.0
    objective = Objective(net, how, teacher, data.task, pull, plan.bf16)
    engine = Engine(
        net,
        data,
        arguments(net, how, plan.total, plan.lr, state),
        objective=objective,
        hook=hook,
        log=log,
        callbacks=[Draws(how.seed, objective.drawn), *_callbacks(net, walk, hook), stop],
        kept=state,
        taught=taught,
    )
    with _recomputing(net, how.checkpointing):
        _train(engine, stop, plan.done, plan.total)
    return stop.signal, log


def _check(net: Network, data: Data, how: Trained, teacher: Network | None) -> None:
    """Refuse what cannot be trained, before any work."""
    if how.task_weight == 0 and (teacher is None or how.distil_weight == 0):
        raise ConfigError("nothing to train on: task_weight is 0 and there is no distillation.")
    if how.cache_teacher:
        _check_cached(net, data, how, teacher)
    if how.batch_size % (n := processes.world()):
        raise ConfigError(
            f"batch_size is {how.batch_size}, which {n} processes cannot share evenly: it is that "
            f"of all together. Choose a multiple of {n}."
        )
    if len(data) < how.batch_size:
        raise DataError(
            f"data {data.name} has {len(data)} examples, fewer than one batch of "
            f"{how.batch_size}. Set a smaller batch size."
        )
    if how.checkpointing and not net.family.checkpointing:
        raise ConfigError(
            f"checkpointing does not work with models of type {net.family.model_type}: it would "
            "bypass the long sum, or is not there. "
            "Leave it out; accumulate saves memory too."
        )
    if how.hidden_weight > 0 and (teacher is None or teacher.width != net.width):
        width = "there is none" if teacher is None else f"it has {teacher.width} features"
        raise ConfigError(
            f"hidden_weight is {how.hidden_weight:g}, which needs a teacher of the same width, "
            f"but {width}{'' if teacher is None else f', the model {net.width}'}."
        )
    if unknown := [d for d in how.prefix_depths if not 1 <= d < net.depth]:
        raise ConfigError(
            f"prefix_depths has {unknown[0]}, but the model has {net.depth} blocks. "
            f"Choose depths from 1 to {net.depth - 1}."
        )


def _check_cached(net: Network, data: Data, how: Trained, teacher: Network | None) -> None:
    """Refuse to keep answers to what changes, or that nobody asks for, or that are too many."""
    asked, task = asked_of(net, teacher, how, data.task), data.task
    if not any(asked):
        raise ConfigError(
            "has cache_teacher, but nothing is asked of a teacher: there is none, or its weights "
            "are 0. Leave cache_teacher out."
        )
    if task.modality == "audio":
        raise ConfigError(
            "has cache_teacher, but what a teacher answers to a clip may depend on the batch that "
            "it is padded in. Leave cache_teacher out."
        )
    if task.name == "masked-lm":
        raise ConfigError(
            "has cache_teacher, but masked-lm hides other tokens in every epoch, so that the "
            "teacher must be asked again. Leave cache_teacher out."
        )
    if task.over_vocabulary and asked.answers:
        raise ConfigError(
            f"has cache_teacher, but {task.name} has {net.config.vocab_size} answers per token, "
            "which take longer to read than to compute. Leave cache_teacher out, or set "
            "distil_weight to 0 and teach by hidden_weight."
        )


def _callbacks(net: Network, walk: Walk | None, hook: Hook | None) -> list[TrainerCallback]:
    """In the order in which they take their part: masks before a hook that looks at the weights."""
    walks = [] if walk is None else [Alphas(net, walk)]
    hooked = [] if hook is None else [Hooked(hook)]
    return [Zeros(net), *walks, *hooked]


def _train(engine: Engine, stop: Stop, done: Path | None, total: int) -> None:
    """From the start, from a checkpoint, or not at all where that one is the end."""
    if done is not None and step_of(done) >= total:
        engine.restore(done)
        return
    with handling(stop.heard), quiet(), threads_for(engine.net):
        try:
            engine.train(resume_from_checkpoint=None if done is None else str(done))
        except AcnError as error:
            raise plain(error) from None


@contextmanager
def _recomputing(net: Network, on: bool) -> Iterator[None]:
    """Inside, activations are computed again in the backward pass instead of kept."""
    if not on:
        yield
        return
    net.model.activation_checkpointing_enable({"use_reentrant": False})
    try:
        yield
    finally:
        net.model.activation_checkpointing_disable()


@contextmanager
def _discarded_if_diverged(state: Kept | None) -> Iterator[None]:
    """A training that diverged does so again from each of its checkpoints: they go."""
    try:
        yield
    except Diverged:
        if state is not None:
            state.remove()
        raise


def _how_far(step: int, total: int, state: Kept | None) -> str:
    how = "nothing was written." if state is None else state.how
    return f"interrupted at step {step} of {total}; {how}"
