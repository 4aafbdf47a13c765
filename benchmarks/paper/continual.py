"""Claim 7: continual learning of five tasks of two classes each, naive and with Synaptic
Intelligence (arXiv 1703.04200).

Task-incremental: one head of ten classes, of which a task trains and reads its own two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from acn_compress.data.load import Data
from acn_compress.found import Found
from acn_compress.measure.intervals import Array
from acn_compress.network.network import Network
from acn_compress.quality import Drop
from benchmarks.paper.entry import Entry, Verdict, mean_drop, percent, points, seeds_of
from benchmarks.paper.setting import FORMS, Lab, Wanted

Task = tuple[int, ...]  # classes
TASKS: tuple[Task, ...] = tuple((2 * t, 2 * t + 1) for t in range(5))
BATCH = 64
STRENGTH = 1.0  # of the penalty, the paper's lambda
DAMPING = (
    0.1  # xi of Synaptic Intelligence: keeps the importance of weights that did not move finite
)
METHODS = {"naive": False, "si": True}  # with Synaptic Intelligence or without
THEIRS = "naive 52.8-54.9 against 45.5-46.9; SI 42.4-50 against 32-35.7"


class SynapticIntelligence:
    """The penalty strength * sum_p importance_p * (p - anchor_p)^2 over all parameters.

    A weight's importance is what it took off the loss along its path (the sum of -gradient * step),
    over the square of how far it went in the task (plus DAMPING), summed over the tasks so far; the
    anchor is where the last task left it.
    """

    def __init__(self, net: Network, strength: float = STRENGTH) -> None:
        self.strength = strength
        self._parameters = trained(net)
        self._importance = [torch.zeros_like(p) for p in self._parameters]
        self._path = [torch.zeros_like(p) for p in self._parameters]
        self._anchor = self.values()

    def values(self) -> list[Tensor]:
        """A copy of the weights as they are now."""
        return [p.detach().clone() for p in self._parameters]

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Of a task's loss alone; what it does not reach has no path. The graph stays."""
        found = torch.autograd.grad(
            loss, self._parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return list(found)

    def penalty(self) -> Tensor:
        """What is added to a task's loss."""
        terms = [
            (w * (p - a).square()).sum()
            for w, p, a in zip(self._importance, self._parameters, self._anchor, strict=True)
        ]
        return self.strength * torch.stack(terms).sum()

    def follow(self, gradients: list[Tensor], before: list[Tensor]) -> None:
        """After a step: the gradients of the task's loss alone, and the weights before the step."""
        for path, g, p, b in zip(self._path, gradients, self._parameters, before, strict=True):
            path -= g * (p.detach() - b)

    def consolidate(self) -> None:
        """At the end of a task."""
        for weight, path, p, anchor in zip(
            self._importance, self._path, self._parameters, self._anchor, strict=True
        ):
            weight += path.clamp(min=0) / ((p.detach() - anchor).square() + DAMPING)
            path.zero_()
        self._anchor = self.values()


def trained(net: Network) -> list[Tensor]:
    """The parameters that are."""
    return [p for p in net.model.parameters() if p.requires_grad]


@dataclass(frozen=True)
class Learner:
    """A network that learns one task after the other: AdamW at 1e-3, gradients clipped to norm 1.

    Args:
        memory: None learns naively.
    """

    net: Network
    memory: SynapticIntelligence | None

    def learn(self, data: Data, task: Task, epochs: int, seed: int) -> None:
        """One task."""
        self.net.model.train()
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # of crops and flips
        optimizer = torch.optim.AdamW(trained(self.net), lr=1e-3, weight_decay=0.0)
        for _ in range(epochs):
            for batch in shuffled(data, generator):
                self._step(optimizer, batch, task)
        if self.memory is not None:
            self.memory.consolidate()

    def _step(self, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], task: Task) -> None:
        loss = torch.nn.functional.cross_entropy(self._logits(batch, task), batch["labels"])
        if self.memory is None:
            self._descend(optimizer, loss)
            return
        gradients, before = self.memory.gradients(loss), self.memory.values()
        self._descend(optimizer, loss + self.memory.penalty())
        self.memory.follow(gradients, before)

    def _descend(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained(self.net), 1.0)
        optimizer.step()

    def _logits(self, batch: dict[str, Tensor], task: Task) -> Tensor:
        """[batch, classes of the task]."""
        return self.net.answer(pixel_values=batch["pixel_values"])[:, list(task)]

    def right(self, data: Data, task: Task) -> Array:
        """Which examples of a task are answered right, among its own classes: [examples]."""
        self.net.model.eval()
        with torch.inference_mode():
            found = [
                (self._logits(batch, task).argmax(-1) == batch["labels"]).float()
                for batch in data.batches(256)
            ]
        return torch.cat(found).numpy()


def shuffled(data: Data, generator: torch.Generator) -> Iterator[dict[str, Tensor]]:
    """Every example once, in batches."""
    for rows in torch.split(torch.randperm(len(data), generator=generator), BATCH):
        yield data.examples.collate([data.examples[i] for i in rows.tolist()], train=True)


@dataclass(frozen=True)
class Run:
    """All tasks, learnt in turn.

    Args:
        after: which test examples of every task seen so far are right, after each task:
            [task][earlier task][examples].
    """

    after: list[list[Array]]

    @classmethod
    def of(cls, lab: Lab, form: str, seed: int, intelligent: bool) -> Run:
        """Learn them."""
        net = lab.fresh(Wanted(form, seed))
        learner = Learner(net, SynapticIntelligence(net) if intelligent else None)
        tests = [lab.part("eval", task, lab.scale.test // len(TASKS)) for task in TASKS]
        after: list[list[Array]] = []
        for number, task in enumerate(TASKS):
            data = lab.part("train", task, lab.scale.task_images)
            learner.learn(data, task, lab.scale.task_epochs, seed + number)
            seen = zip(tests[: number + 1], TASKS, strict=False)
            after.append([learner.right(test, earlier) for test, earlier in seen])
        return cls(after)

    @property
    def accuracies(self) -> list[list[float]]:
        """Of every task seen so far, after each."""
        return [[float(a.mean()) for a in row] for row in self.after]

    @property
    def lost(self) -> Array:
        """Per test example of all tasks but the last: right at the task's best moment less right at
        the end. Its mean is the forgetting."""
        tasks = range(len(TASKS) - 1)
        return np.concatenate([self._best(t) - self.after[-1][t] for t in tasks])

    def _best(self, task: int) -> Array:
        """A task's answers when most of them were right."""
        return max((row[task] for row in self.after[task:]), key=lambda a: float(a.mean()))


class Forgetting(Found):
    """One form, learning in one way; the forgetting is the mean over seeds."""

    accuracy_after_each_task: list[list[list[float]]]
    final: float
    forgetting_of_each_seed: list[float]
    forgetting: float
    low: float
    high: float


def forgetting(runs: list[Run], lost: Array) -> Forgetting:
    """Of the runs of all seeds."""
    found = mean_drop(lost)
    return Forgetting(
        accuracy_after_each_task=[run.accuracies for run in runs],
        final=float(np.mean([run.accuracies[-1] for run in runs])),
        forgetting_of_each_seed=[float(run.lost.mean()) for run in runs],
        forgetting=found.drop,
        low=found.low,
        high=found.high,
    )


def claim_7(lab: Lab) -> Entry:
    """Forgetting, residual against ACN, paired by test example, mean over seeds. yes: the ACN
    forgets significantly less, naive and with SI; partly: in one of the two, and not significantly
    more in the other; no: otherwise."""
    less: dict[str, Drop] = {}
    found: dict[str, Forgetting] = {}
    for name, intelligent in METHODS.items():
        lost: dict[str, Array] = {}
        for form in FORMS:
            runs = [Run.of(lab, form, seed, intelligent) for seed in lab.seeds]
            lost[form] = np.mean([run.lost for run in runs], axis=0)
            found[f"{name}_{form}"] = forgetting(runs, lost[form])
        less[name] = mean_drop(lost["residual"] - lost["acn"])
    return Entry(
        "7",
        "continual learning: forgetting",
        THEIRS,
        "; ".join(_in_words(name, found, less[name]) for name in METHODS),
        f"Mixer, 5 tasks of 2 classes, task-incremental, {seeds_of(lab.seeds)}",
        judge(list(less.values())),
        {"seeds": list(lab.seeds), **found, "acn_forgets_less_by": less},
    )


def _in_words(name: str, found: dict[str, Forgetting], less: Drop) -> str:
    r, a = found[f"{name}_residual"], found[f"{name}_acn"]
    return (
        f"{name}: {percent(r.forgetting)} against {percent(a.forgetting)} "
        f"(ACN less by {points(less)}; "
        f"accuracy at the end {percent(r.final)} and {percent(a.final)})"
    )


def judge(gains: list[Drop]) -> Verdict:
    """Rule of claim 7: yes if every gain is significant, partly if some are and none is
    significantly negative."""
    if all(g.low > 0 for g in gains):
        return "yes"
    some = any(g.low > 0 for g in gains)
    return "partly" if some and not any(g.high < 0 for g in gains) else "no"
