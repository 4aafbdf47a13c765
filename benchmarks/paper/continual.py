"""Claim 7: continual learning of five tasks of two classes each, naive and with Synaptic
Intelligence (arXiv 1703.04200).

Task-incremental: one head of ten classes, of which a task trains and reads its own two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from acn_compress.data.load import Data
from acn_compress.measure.quality import Array, interval
from paper.entry import Entry, Verdict, percent, points, seeds_of
from paper.setting import FORMS, Lab

TASKS = tuple((2 * t, 2 * t + 1) for t in range(5))
STRENGTH = 1.0  # of the penalty, the paper's lambda
DAMPING = (
    0.1  # xi of Synaptic Intelligence: keeps the importance of weights that did not move finite
)


class SynapticIntelligence:
    """The penalty strength * sum_p importance_p * (p - anchor_p)^2 over all parameters.

    A weight's importance is what it took off the loss along its path (the sum of -gradient * step),
    over the square of how far it went in the task (plus DAMPING), summed over the tasks so far; the
    anchor is where the last task left it.
    """

    def __init__(self, net: Any, strength: float = STRENGTH) -> None:
        self.strength = strength
        self._parameters = [p for p in net.model.parameters() if p.requires_grad]
        self._importance = [torch.zeros_like(p) for p in self._parameters]
        self._path = [torch.zeros_like(p) for p in self._parameters]
        self._anchor = self._values()

    def _values(self) -> list[Tensor]:
        return [p.detach().clone() for p in self._parameters]

    def penalty(self) -> Tensor:
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
        self._anchor = self._values()


def learn_task(
    net: Any,
    data: Data,
    task: tuple[int, ...],
    epochs: int,
    seed: int,
    memory: SynapticIntelligence | None,
) -> None:
    """Train on one task: AdamW at 1e-3, batch 64, gradients clipped to norm 1. Labels count within
    the task."""
    net.model.train()
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # of crops and flips
    parameters = [p for p in net.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.0)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(data), generator=generator), 64):
            batch = data.examples.collate([data.examples[i] for i in rows.tolist()], train=True)
            logits = net(pixel_values=batch["pixel_values"]).logits[:, list(task)]
            loss = torch.nn.functional.cross_entropy(logits, batch["labels"])
            before, gradients = [], []
            if memory is not None:
                # allow_unused: what the task's loss does not reach has no path
                found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
                gradients = [
                    torch.zeros_like(p) if g is None else g
                    for g, p in zip(found, parameters, strict=True)
                ]
                before = [p.detach().clone() for p in parameters]
                loss = loss + memory.penalty()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            if memory is not None:
                memory.follow(gradients, before)
    if memory is not None:
        memory.consolidate()


def right(net: Any, data: Data, task: tuple[int, ...]) -> Array:
    """Which examples of a task are answered right, among its own classes: [examples]."""
    net.model.eval()
    found = []
    with torch.inference_mode():
        for batch in data.batches(256):
            logits = net(pixel_values=batch["pixel_values"]).logits[:, list(task)]
            found.append((logits.argmax(-1) == batch["labels"]).float())
    return torch.cat(found).numpy()


def run_tasks(lab: Lab, form: str, seed: int, intelligent: bool) -> tuple[list[list[float]], Array]:
    """Learn all tasks in turn.

    Returns:
        Accuracy of every task seen so far, after each; and per test example of all tasks but the
        last, right at the task's best moment
        less right at the end: its mean is the forgetting.
    """
    s = lab.scale
    net = lab.fresh("mixer", form, 10, seed)
    memory = SynapticIntelligence(net) if intelligent else None
    after: list[list[Array]] = []
    for number, task in enumerate(TASKS):
        learn_task(
            net,
            lab.part("train", task, s.task_images),
            task,
            s.task_epochs,
            seed + number,
            memory,
        )
        after.append(
            [right(net, lab.part("eval", t, s.test // len(TASKS)), t) for t in TASKS[: number + 1]]
        )
    lost = []
    for t in range(len(TASKS) - 1):
        best = max(range(t, len(TASKS)), key=lambda j: float(after[j][t].mean()))
        lost.append(after[best][t] - after[-1][t])
    return [[float(a.mean()) for a in row] for row in after], np.concatenate(lost)


def claim_7(lab: Lab) -> Entry:
    """Forgetting, residual against ACN, paired by test example, mean over seeds. yes: the ACN
    forgets significantly less, naive and with SI; partly: in one of the two, and not significantly
    more in the other; no: otherwise."""
    less = {}
    found: dict[str, dict[str, Any]] = {}
    for name, intelligent in (("naive", False), ("si", True)):
        lost = {}
        for form in FORMS:
            runs = [run_tasks(lab, form, seed, intelligent) for seed in lab.seeds]
            lost[form] = np.mean([run[1] for run in runs], axis=0)
            found[f"{name}_{form}"] = {
                "accuracy_after_each_task": [run[0] for run in runs],
                "final": float(np.mean([run[0][-1] for run in runs])),
                "forgetting_of_each_seed": [float(run[1].mean()) for run in runs],
                **mean_of(lost[form], "forgetting"),
            }
        less[name] = mean_of(lost["residual"] - lost["acn"], "drop")

    def one(name: str) -> str:
        r, a = found[f"{name}_residual"], found[f"{name}_acn"]
        return (
            f"{name}: {percent(r['forgetting'])} against {percent(a['forgetting'])} (ACN less by {points(less[name])}; "
            f"accuracy at the end {percent(r['final'])} and {percent(a['final'])})"
        )

    theirs = "naive 52.8-54.9 against 45.5-46.9; SI 42.4-50 against 32-35.7"
    scale = f"Mixer, 5 tasks of 2 classes, task-incremental, {seeds_of(lab.seeds)}"
    figures = {"seeds": list(lab.seeds), **found, "acn_forgets_less_by": less}
    ours = "; ".join(map(one, ("naive", "si")))
    return Entry(
        "7",
        "continual learning: forgetting",
        theirs,
        ours,
        scale,
        judge(list(less.values())),
        figures,
    )


def mean_of(values: Array, name: str) -> dict[str, float]:
    """The mean over examples under `name`, with its 95 % interval."""
    low, high = interval(values, np.ones_like(values))
    return {name: float(values.mean()), "low": low, "high": high}


def judge(gains: list[dict[str, float]]) -> Verdict:
    """Rule of claim 7: yes if every gain is significant, partly if some are and none is
    significantly negative."""
    if all(g["low"] > 0 for g in gains):
        return "yes"
    return (
        "partly"
        if any(g["low"] > 0 for g in gains) and not any(g["high"] < 0 for g in gains)
        else "no"
    )
