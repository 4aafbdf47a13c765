"""What training minimises.

    loss = task_weight * task loss + distil_weight * T^2 KL(teacher || student)
           [+ hidden_weight * squared difference of the standardised y_L of student and teacher,
           plus its mean over the other blocks both have] [+ pull * mean alpha]
           [+ prefix_loss * the same loss of one sampled depth k, or the mean over chosen depths,
           read out through the shared head]

Distillation: Hinton et al., arXiv 1503.02531. Prefix readouts: LayerSkip, arXiv 2404.16710, applied
    to y_k.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from accelerate.utils import convert_to_fp32
from torch import Tensor, nn

from acn_compress import processes
from acn_compress.network.network import Network
from acn_compress.options import Trained
from acn_compress.tasks.base import Scored, Task, distillation, features

TAUGHT = "taught."  # how names begin of what a batch holds of the teacher's answers


class Asked(NamedTuple):
    """What is asked of a teacher.

    Args:
        answers: what its head says.
        hidden: which y_k.
    """

    answers: bool
    hidden: tuple[int, ...]


def asked_of(net: Network, teacher: Network | None, how: Trained, task: Task) -> Asked:
    """What a training asks of its teacher; of embeddings the answers are the labels."""
    if teacher is None:
        return Asked(False, ())
    at = tuple(sorted({at for _, at in pairs(net, teacher)})) if how.hidden_weight else ()
    return Asked(how.distil_weight > 0 and not task.taught, at)


def pairs(net: Network, teacher: Network) -> list[tuple[int, int]]:
    """Which y_k of the student is like which of the teacher: of every block that both have, and
    last the end of both."""
    own, whole = net.structure, teacher.structure
    same = own.source_blocks == whole.source_blocks
    places = {block: k for k, block in enumerate(whole.blocks, 1)} if same else {}
    found = [(k, places[b]) for k, b in enumerate(own.blocks[:-1], 1) if b in places]
    return [*found, (len(own.blocks), len(whole.blocks))]


def answers_of(
    teacher: Network, given: dict[str, Tensor], asked: Asked
) -> tuple[Any, dict[int, Tensor]]:
    """The teacher's output, and the y_k that are asked for."""
    with torch.no_grad(), ExitStack() as probed:
        prefixes: list[Tensor] = []
        if asked.hidden:
            prefixes = probed.enter_context(teacher.recording())
        output = teacher(**given)
    return output, {k: prefixes[k] for k in asked.hidden}


class Objective(nn.Module):
    """The loss of a batch; its parameters are the student's, so that what trains it in several
    processes sees one module that is called once a step. Every mean is over the examples of all
    processes.

    Args:
        net: the student.
        how: its weights.
        teacher: distilled from, or None.
        task: of the student.
        pull: per unit of mean alpha, while alphas are trained.
        bf16: the student computes in bfloat16.
    Attributes:
        drawn: what sampled depths are drawn from.
    """

    def __init__(
        self,
        net: Network,
        how: Trained,
        teacher: Network | None,
        task: Task,
        pull: float = 0.0,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.student = net.model
        self.net, self.how, self.teacher, self.task = net, how, teacher, task
        self.pull, self.bf16 = pull, bf16
        self.asked = asked_of(net, teacher, how, task)
        self.drawn = torch.Generator()

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a batch."""
        kept = {k.removeprefix(TAUGHT): batch.pop(k) for k in list(batch) if k.startswith(TAUGHT)}
        net, given = self.net, features(batch)
        target, hidden = self._taught(given, batch, kept)
        if self.how.prefix_loss == 0 and hidden is None:
            return self._loss(self._scored(given, batch), target) + self._pull(net)
        with net.recording() as prefixes:
            full = self._loss(self._scored(given, batch), target)
        full = full + self._pull(net)
        if hidden is not None:
            unlike = self._unlike(net, prefixes, hidden, net.counted(batch))
            full = full + self.how.hidden_weight * unlike
        if self.how.prefix_loss == 0:
            return full
        depths = self.how.prefix_depths or (
            int(torch.randint(1, len(prefixes) - 1, (), generator=self.drawn))
            if len(prefixes) > 2
            else 0,
        )
        shallow = full.new_zeros(())
        for depth in depths:
            with net.injecting(prefixes[depth]):
                shallow = shallow + self._loss(self._scored(given, batch), target)
        return full + self.how.prefix_loss / len(depths) * shallow

    def _scored(self, given: dict[str, Tensor], batch: dict[str, Tensor]) -> Scored:
        """The student's answers."""
        with torch.autocast(self.net.device.type, torch.bfloat16, enabled=self.bf16):
            output: Any = self.student(**self.net.cast(given))
        return self.task.score(convert_to_fp32(output) if self.bf16 else output, batch)

    def _taught(
        self, given: dict[str, Tensor], batch: dict[str, Tensor], kept: dict[str, Tensor]
    ) -> tuple[Scored | None, dict[int, Tensor] | None]:
        """The teacher's answers and its y_k, as far as the options ask for them: those that were
        kept, or anew."""
        if self.teacher is None or not any(self.asked):
            return None, None
        output: Any = SimpleNamespace(**kept)
        hidden = {k: kept[f"hidden.{k}"] for k in self.asked.hidden if kept}
        if not kept:
            output, hidden = answers_of(self.teacher, given, self.asked)
        return self.task.score(output, batch) if self.asked.answers else None, hidden or None

    def _unlike(
        self, net: Network, prefixes: list[Tensor], hidden: dict[int, Tensor], mask: Tensor | None
    ) -> Tensor:
        """How far the student's prefix sums are from the teacher's: y_L, plus the mean over the
        other blocks that both have."""
        assert self.teacher is not None
        *others, last = (apart(prefixes[k], hidden[at], mask) for k, at in pairs(net, self.teacher))
        return last + torch.stack(others).mean() if others else last

    def _pull(self, net: Network) -> Tensor | float:
        """What the alphas that are trained now add to the loss."""
        alphas = [a for a in net.learned_alphas() if a.requires_grad] if self.pull else []
        return self.pull * torch.cat(alphas).mean() if alphas else 0.0

    def _loss(self, student: Scored, target: Scored | None) -> Tensor:
        task = processes.mean(student.loss, student.weight)
        if self.how.label_smoothing and student.target is not None and not student.numbers:
            smoothed = F.cross_entropy(
                student.logits,
                student.target,
                label_smoothing=self.how.label_smoothing,
                reduction="none",
            )
            task = processes.mean(smoothed)
        loss = self.how.task_weight * task
        if target is not None:
            taught = distillation(student, target, self.how.temperature)
            loss = loss + self.how.distil_weight * processes.mean(taught)
        return loss


def apart(y: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
    """The mean squared difference of two stacks' outputs ([batch, ..., width]), every token
    standardised over its features: between 0 and 4. Tokens that `mask` ([batch, length]) leaves out
        do not count."""
    size = y.shape[-1:]
    error = (F.layer_norm(y.float(), size) - F.layer_norm(teacher.float(), size)).square().mean(-1)
    return processes.mean(error, mask)
