"""What each task asks of a model's output: a loss to train on, a score per example to report,
logits to distil.

Every task's main metric is a weighted mean over examples and larger is better, so that intervals,
pairing and tolerances work the same for all:

    image-, text-classification   accuracy
    text-regression               negative_mae: minus the absolute error, in the labels' own units
    token-classification          token_accuracy, over the labelled tokens (the first of each word)
    question-answering            exact_match: the first and the last token of the answer are both
    right masked-lm, causal-lm          token_accuracy: of the hidden tokens, of the next token
    features                      cosine: of the mean-pooled sentence embedding with that of a
        reference model, which stands in the
                                  place of labels (see data.load_data)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from acn_compress.architectures import architecture_of
from acn_compress.errors import UnsupportedError
from acn_compress.network.network import Network
from acn_compress.network.registration import plain_class

SUFFIXES = {
    "ForImageClassification": "image-classification",
    "ForImageClassificationWithTeacher": "image-classification",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "masked-lm",
    "ForCausalLM": "causal-lm",
    "LMHeadModel": "causal-lm",
    "Model": "features",
}
METRICS = {
    "image-classification": "accuracy",
    "text-classification": "accuracy",
    "text-regression": "negative_mae",
    "token-classification": "token_accuracy",
    "question-answering": "exact_match",
    "masked-lm": "token_accuracy",
    "causal-lm": "token_accuracy",
    "features": "cosine",
}
IGNORED = -100  # the label of a token that does not count, as in transformers


@dataclass(frozen=True)
class Scored:
    """One batch, scored.

    Args:
        loss: [batch], the task loss of each example.
        score: [batch], the main metric of each example.
        weight: [batch], what the example counts for in the mean.
        logits: [rows, classes], what agreement and distillation compare; a row is an example or a
            token that counts.
        target: [rows], the label of each row, or None.
        numbers: `logits` are numbers (a regression, an embedding), not scores of classes.
    """

    loss: Tensor
    score: Tensor
    weight: Tensor
    logits: Tensor
    target: Tensor | None
    numbers: bool = False

    @property
    def prediction(self) -> Tensor:
        """[rows], the class (or the first number)."""
        return self.logits[:, 0] if self.numbers else self.logits.argmax(-1)


def task_of(net: Network) -> str:
    """The task of a model, from its head.

    Raises:
        UnsupportedError: listing the known heads.
    """
    return task_named(plain_class(type(net.model)).__name__, net.config)


def task_named(name: str, config: Any) -> str:
    """`task_of` a model class, by its name."""
    task = next((task for suffix, task in SUFFIXES.items() if name.endswith(suffix)), None)
    if task is None or (task == "features" and architecture_of(config).modality != "text"):
        raise UnsupportedError(
            f"{name} has no head that can be trained or evaluated here. Known: {', '.join(SUFFIXES)}."
        )
    if task == "text-classification":
        if getattr(config, "problem_type", None) == "multi_label_classification":
            raise UnsupportedError(
                f"{name} gives an example several labels (multi_label_classification), which has no metric here."
            )
        return "text-regression" if config.num_labels == 1 else task
    return task


def features(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the model is called with: the batch without its labels."""
    return {k: v for k, v in batch.items() if k != "labels"}


def score(task: str, output: Any, batch: dict[str, Tensor]) -> Scored:
    """Score one batch of a model's output against its labels."""
    return _SCORERS[task](output, batch)


def _classification(output: Any, batch: dict[str, Tensor]) -> Scored:
    """Labels [batch]."""
    logits, labels = output.logits.float(), batch["labels"]
    loss = F.cross_entropy(logits, labels, reduction="none")
    return Scored(
        loss, (logits.argmax(-1) == labels).float(), torch.ones_like(loss), logits, labels
    )


def _regression(output: Any, batch: dict[str, Tensor]) -> Scored:
    """Labels [batch], numbers. Squared error trains, the absolute one is reported."""
    found, labels = output.logits.float().squeeze(-1), batch["labels"]
    return Scored(
        (found - labels).square(),
        -(found - labels).abs(),
        torch.ones_like(found),
        found[:, None],
        labels,
        numbers=True,
    )


def _tokens(output: Any, batch: dict[str, Tensor]) -> Scored:
    """Labels [batch, length], IGNORED where a token does not count."""
    return _score_tokens(output.logits, batch["labels"])


def _next_tokens(output: Any, batch: dict[str, Tensor]) -> Scored:
    """Labels [batch, length]: the inputs themselves, IGNORED in the padding."""
    return _score_tokens(output.logits[:, :-1], batch["labels"][:, 1:])


def _score_tokens(logits: Tensor, labels: Tensor) -> Scored:
    """logits [batch, length, classes], labels [batch, length]; an example counts for as many tokens
    as it has labels."""
    counts = labels != IGNORED
    rows, target = logits[counts].float(), labels[counts]
    example = counts.nonzero()[:, 0]
    weight = counts.sum(-1).float()

    def mean(values: Tensor) -> Tensor:
        return torch.zeros_like(weight).index_add(0, example, values) / weight.clamp(min=1)

    loss = F.cross_entropy(rows, target, reduction="none")
    return Scored(mean(loss), mean((rows.argmax(-1) == target).float()), weight, rows, target)


def _span(output: Any, batch: dict[str, Tensor]) -> Scored:
    """Labels [batch, 2]: the first and the last token of the answer. Rows alternate: start, end,
    start, ..."""
    logits = torch.stack((output.start_logits, output.end_logits), 1).float()
    logits = logits.masked_fill(batch["attention_mask"][:, None] == 0, -1e4)
    labels = batch["labels"]
    loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(-1)
    right = (logits.argmax(-1) == labels).all(-1).float()
    return Scored(loss, right, torch.ones_like(loss), logits.flatten(0, 1), labels.flatten())


def _embedding(output: Any, batch: dict[str, Tensor]) -> Scored:
    """Labels [batch, width]: the reference's embeddings. The loss is 1 - cosine, and the squared
    error over the reference's square, at
    a small weight: on its way to alpha = 0 a sum of normed outputs grows first, and the error of
        its scale would drown its direction."""
    found, reference = embedding(output, batch), batch["labels"]
    cosine = F.cosine_similarity(found, reference, dim=-1)
    error = (found - reference).square().sum(-1) / reference.square().sum(-1).clamp(min=1e-12)
    return Scored(
        (1 - cosine).clamp(min=0) + 0.1 * error,
        cosine,
        torch.ones_like(cosine),
        found,
        None,
        numbers=True,
    )


def embedding(output: Any, batch: dict[str, Tensor]) -> Tensor:
    """The mean of the last hidden state over the tokens that are no padding: [batch, width]."""
    mask = batch["attention_mask"][..., None].float()
    mean: Tensor = (output.last_hidden_state.float() * mask).sum(1) / mask.sum(1).clamp(min=1)
    return mean


_SCORERS = {
    "image-classification": _classification,
    "text-classification": _classification,
    "text-regression": _regression,
    "token-classification": _tokens,
    "question-answering": _span,
    "masked-lm": _tokens,
    "causal-lm": _next_tokens,
    "features": _embedding,
}


def divergence(student: Scored, teacher: Scored, temperature: float = 1.0) -> Tensor:
    """[rows], how far the student's answer is from the teacher's: KL(teacher || student), or for
    numbers the squared error."""
    if student.numbers:
        return (student.logits - teacher.logits).square().mean(-1)
    return F.kl_div(
        F.log_softmax(student.logits / temperature, -1),
        F.log_softmax(teacher.logits / temperature, -1),
        log_target=True,
        reduction="none",
    ).sum(-1)


def distillation(student: Scored, teacher: Scored, temperature: float) -> Tensor:
    """Hinton's loss: T^2 * KL(teacher_T || student_T), the mean over rows; for numbers the mean
    squared error."""
    mean = divergence(student, teacher, temperature).mean()
    return mean if student.numbers else mean * temperature**2
