"""Where in a context the answer to a question lies. Main metric: exact_match, the first and the
last token of the answer, or of one of several, are both right.

A context longer than the model takes is read in overlapping windows, and an answer is found in
them, as transformers' run_qa.py does. Of the windows of an example that find something, the surest
one answers; only if none does, the answer is that there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from acn_compress.errors import DataError
from acn_compress.tasks.base import AT_ONCE, Batch, Encoder, Row, Rows, Scored, Table, Task

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig

    from acn_compress.tasks.base import Array

STRIDE = 128  # most tokens that neighbouring windows share, as in run_qa.py
NOTHING = (0, 0)  # where no answer is in view: the first token, twice

Span = tuple[int, str]
"""The character an answer begins with, and its text."""


def score(output: Any, batch: Batch) -> Scored:
    """Labels [windows, 2 * answers]: the first and the last token of every right answer; the loss
    is that of the first. Rows alternate: start, end, start, ... of every window; `held` is of the
    one that answers. Where examples have several windows, `windows` ([batch]) counts them."""
    import torch
    import torch.nn.functional as F

    logits, labels = _logits(output, batch), _pairs(batch["labels"])
    loss = F.cross_entropy(logits.transpose(1, 2), labels[:, 0], reduction="none").mean(-1)
    parts = batch["windows"].tolist() if "windows" in batch else [1] * len(loss)
    if "windows" in batch:
        loss = torch.stack([part.mean() for part in torch.split(loss, parts)])
    said = zip(torch.split(logits, parts), torch.split(labels, parts), strict=True)
    spans, targets = zip(*(judged(*of_one) for of_one in said), strict=True)
    span, right = torch.stack(spans), torch.stack(targets)
    return Scored(
        loss=loss,
        score=(span == right).all(-1).float(),
        weight=torch.ones_like(loss),
        logits=logits.flatten(0, 1),
        target=labels[:, 0].flatten(),
        held=(span.flatten(), right.flatten()),
    )


def answers(output: Any, batch: Batch) -> Tensor:
    """The first token and the last."""
    return _logits(output, batch).flatten(0, 1)


def _logits(output: Any, batch: Batch) -> Tensor:
    """[windows, 2, length]; an answer does not lie in the padding."""
    import torch

    logits = torch.stack((output.start_logits, output.end_logits), 1).float()
    return logits.masked_fill(batch["attention_mask"][:, None] == 0, -1e4)


def _pairs(labels: Tensor) -> Tensor:
    """[windows, answers, 2]."""
    return labels.view(len(labels), -1, 2)


def judged(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """What the windows of one example ([windows, 2, length]) answer, [2], and of its right answers
    ([windows, answers, 2]) the one that is nearest, [2]."""
    sure, found = logits.detach().max(-1)
    finds, present = (found != 0).any(-1), (labels != 0).any(-1)
    best = int((sure.sum(-1) - 1e6 * (~finds)).argmax())
    if not finds[best] and present.any():  # it found nothing, and there is something
        return found[best], labels[present][0]
    gold = labels[best]
    return found[best], gold[int(overlap(found[best].expand_as(gold), gold).argmax())]


def overlap(found: Tensor, right: Tensor) -> Tensor:
    """F1 of the tokens of spans ([spans, 2]: first, last) and of the right ones, [spans]."""
    import torch

    first, last = torch.maximum(found, right)[:, 0], torch.minimum(found, right)[:, 1]
    lengths = (found[:, 1] - found[:, 0] + 1).clamp_min(0) + right[:, 1] - right[:, 0] + 1
    return 2 * (last - first + 1).clamp_min(0) / lengths


def extras(prediction: Array, target: Array, loss: float) -> dict[str, float]:
    """F1 of the tokens of the span found and of the nearest right one, the mean over examples."""
    import torch

    found, right = (torch.from_numpy(x).view(-1, 2) for x in (prediction, target))
    return {"token_f1": float(overlap(found.double(), right.double()).mean())}


def rows(table: Table, encoder: Encoder) -> Rows:
    """Question, context, and where the answers lie."""
    import torch

    questions, contexts = table.question_columns()
    answers = table.values(("answers", "answer"), "answers")
    spans = [characters(a, table.row(i), table.name) for i, a in enumerate(answers)]
    places: list[list[list[int]]] = [[] for _ in questions]

    def encoded() -> Iterator[Any]:
        for first, found in windows(questions, contexts, encoder, table):
            for window, owner in enumerate(found["overflow_to_sample_mapping"]):
                owner += first
                of_window = [tokens_of(found, window, span) for span in spans[owner] or [None]]
                places[owner].append([token for place in of_window for token in place])
            yield found

    read = encoder.rows(encoded())
    tell_doubts(table, spans, contexts, places)
    sizes = [len(q) + len(c) for q, c in zip(questions, contexts, strict=True)]
    inputs = Windowed(read, [len(of_one) for of_one in places])
    return Rows(inputs, [torch.tensor(place) for place in places], None, sizes)


class Windowed(Sequence[Row]):
    """Examples of one window or several.

    Args:
        rows: the windows.
        counts: of each example.
    """

    def __init__(self, rows: Sequence[Row], counts: list[int]) -> None:
        self._rows, self._ends = rows, list(accumulate(counts, initial=0))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: Any) -> Any:
        part = [self._rows[i] for i in range(self._ends[index], self._ends[index + 1])]
        return part[0] if len(part) == 1 else {"windows": part}


def windows(
    questions: list[str], contexts: list[str], encoder: Encoder, table: Table
) -> Iterator[tuple[int, Any]]:
    """Every question with its context, which is read in overlapping windows where it is long: some
    rows at a time, each time with the number of the first."""
    questions = [question.lstrip() for question in questions]
    lengths: list[int] = []
    for begin in range(0, len(questions), AT_ONCE):
        some = questions[begin : begin + AT_ONCE]
        alone = encoder.encode(some, truncation=False, add_special_tokens=False)["input_ids"]
        lengths.extend(map(len, alone))
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    room = encoder.length - encoder.tokenizer.num_special_tokens_to_add(pair=True)
    room -= lengths[longest]
    if room < 1:
        raise DataError(
            f"data {table.name}: the question of row {table.row(longest)} has {lengths[longest]} "
            f"tokens, so that of {encoder.length} none is left for its context. Take it out, "
            "or pass --max-length."
        )
    stride = min(STRIDE, room // 2)
    options = {"truncation": "only_second", "stride": stride, "return_overflowing_tokens": True}
    for begin in range(0, len(questions), AT_ONCE):
        end = begin + AT_ONCE
        yield begin, encoder.encode(questions[begin:end], contexts[begin:end], **options)


def characters(answer: Any, number: int, name: str) -> list[Span]:
    """Where every answer begins, and its text, {"text": [...], "answer_start": [...]} as in SQuAD,
    each once; none where there is none."""
    try:
        texts, starts = answer["text"], answer["answer_start"]
        found = [(int(at), str(text)) for at, text in zip(starts, texts, strict=True)]
    except (TypeError, KeyError, IndexError, ValueError):
        raise DataError(
            f"data {name}: row {number} has no answer as SQuAD writes it. Expected text and "
            f"answer_start, two lists; found {str(answer)[:60]}."
        ) from None
    return [span for span in dict.fromkeys(found) if span[1].strip()]


def tokens_of(encoded: Any, window: int, span: Span | None) -> tuple[int, int]:
    """First and last token of an answer in a window; spaces around it belong to no token."""
    if span is None:
        return NOTHING
    begin, text = span
    begin, end = begin + len(text) - len(text.lstrip()), begin + len(text.rstrip())
    inside = [i for i, part in enumerate(encoded.sequence_ids(window)) if part == 1]
    offsets = encoded.encodings[window].offsets
    inside = [i for i in inside if offsets[i][0] < offsets[i][1]]
    if not inside or offsets[inside[0]][0] > begin or offsets[inside[-1]][1] < end:
        return NOTHING
    first = [i for i in inside if offsets[i][1] > begin]
    last = [i for i in inside if offsets[i][0] < end]
    return (first[0], last[-1]) if first and last and first[0] <= last[-1] else NOTHING


def tell_doubts(
    table: Table,
    spans: Sequence[list[Span]],
    contexts: Sequence[str],
    places: Sequence[Sequence[list[int]]],
) -> None:
    """Say in how many rows an answer is not what the context says at its place, and in how many
    none is in a window whole: these count as unanswered."""
    others = [
        (row, begin, text)
        for row, (of_row, context) in enumerate(zip(spans, contexts, strict=True))
        for begin, text in of_row
        if not context.startswith(text, max(begin, 0))
    ]
    if others:
        row, begin, text = others[0]
        there = contexts[row][max(begin, 0) :][: max(len(text), 20)]
        table.notes.append(
            f"{len({row for row, *_ in others})} of {len(spans)} answers are not what their "
            f"context says at answer_start, which is what counts (row {table.row(row)}: "
            f"{text[:40]!r}, there {there[:40]!r}). Are these characters, counted from 0?"
        )
    lost = sum(
        bool(of_row) and not any(map(any, found))
        for of_row, found in zip(spans, places, strict=True)
    )
    if lost:
        table.notes.append(
            f"{lost} of {len(spans)} answers stand in no window whole, or outside of their "
            "context: they are taken for unanswered"
        )


def collate(
    ids: list[Tensor], labels: list[Tensor], seeds: list[int | None], encoder: Encoder
) -> tuple[list[Tensor], Tensor | None]:
    """The labels of all windows; of an example with fewer answers than others the first again."""
    import torch

    most = max(label.shape[1] for label in labels) // 2
    alike = [
        torch.cat([label, label[:, :2].repeat(1, most - label.shape[1] // 2)], 1)
        for label in labels
    ]
    return ids, torch.cat(alike)


def set_head_(config: PreTrainedConfig) -> None:
    """Start and end."""
    config.num_labels = 2


TASK = Task(
    name="question-answering",
    metric="exact_match",
    modality="text",
    heads=("ForQuestionAnswering",),
    auto_class="AutoModelForQuestionAnswering",
    pipeline_tag="question-answering",
    score=score,
    rows=rows,
    answers=answers,
    extras=extras,
    collate=collate,
    set_head_=set_head_,
    counted=True,
)
