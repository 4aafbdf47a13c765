"""Where in a context the answer to a question lies. Main metric: exact_match, the first and the
last token of the answer are both right.

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


def score(output: Any, batch: Batch) -> Scored:
    """Labels [windows, 2]: the first and the last token of the answer. Rows alternate: start, end,
    start, ... Where examples have several windows, `windows` ([batch]) counts them."""
    import torch
    import torch.nn.functional as F

    logits, labels = _logits(output, batch), batch["labels"]
    loss = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(-1)
    right = (logits.argmax(-1) == labels).all(-1).float()
    if (counts := batch.get("windows")) is not None:
        parts = counts.tolist()
        loss = torch.stack([part.mean() for part in torch.split(loss, parts)])
        pairs = zip(torch.split(logits, parts), torch.split(labels, parts), strict=True)
        right = torch.stack([surest_is_right(*pair) for pair in pairs])
    return Scored(loss, right, torch.ones_like(loss), logits.flatten(0, 1), labels.flatten())


def answers(output: Any, batch: Batch) -> Tensor:
    """The first token and the last."""
    return _logits(output, batch).flatten(0, 1)


def _logits(output: Any, batch: Batch) -> Tensor:
    """[windows, 2, length]; an answer does not lie in the padding."""
    import torch

    logits = torch.stack((output.start_logits, output.end_logits), 1).float()
    return logits.masked_fill(batch["attention_mask"][:, None] == 0, -1e4)


def surest_is_right(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether the windows of one example ([windows, 2, length], [windows, 2]) answer it."""
    sure, found = logits.max(-1)
    finds = (found != 0).any(-1)
    best = (sure.sum(-1) - 1e6 * (~finds)).argmax()
    missed = (labels != 0).any() & ~finds[best]
    return ((found[best] == labels[best]).all() & ~missed).float()


def extras(prediction: Array, target: Array, loss: float) -> dict[str, float]:
    """F1 of the tokens of the span found and of the right one, the mean over examples (over
    windows, where contexts are long)."""
    import numpy as np

    found, right = prediction.reshape(-1, 2), target.reshape(-1, 2)
    shared = np.minimum(found[:, 1], right[:, 1]) - np.maximum(found[:, 0], right[:, 0]) + 1
    length = np.maximum(found[:, 1] - found[:, 0] + 1, 0) + right[:, 1] - right[:, 0] + 1
    return {"token_f1": float((2 * np.maximum(shared, 0) / length).mean())}


def rows(table: Table, encoder: Encoder) -> Rows:
    """Question, context, and where the first answer lies."""
    import torch

    questions, contexts = table.question_columns()
    answers = table.values(("answers", "answer"), "answers")
    spans = [characters(a, table.row(i), table.name) for i, a in enumerate(answers)]
    places: list[list[tuple[int, int]]] = [[] for _ in questions]

    def encoded() -> Iterator[Any]:
        for first, found in windows(questions, contexts, encoder, table):
            for window, owner in enumerate(found["overflow_to_sample_mapping"]):
                owner += first
                places[owner].append(tokens_of(found, window, spans[owner]))
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


def characters(answer: Any, number: int, name: str) -> tuple[int, str] | None:
    """Where the first answer begins, and its text, {"text": [...], "answer_start": [...]} as in
    SQuAD; None where there is none."""
    try:
        texts, starts = answer["text"], answer["answer_start"]
        if not len(starts):
            return None
        begin, text = int(starts[0]), str(texts[0])
    except (TypeError, KeyError, IndexError, ValueError):
        raise DataError(
            f"data {name}: row {number} has no answer as SQuAD writes it. Expected text and "
            f"answer_start, two lists; found {str(answer)[:60]}."
        ) from None
    return (begin, text) if text.strip() else None


def tokens_of(encoded: Any, window: int, span: tuple[int, str] | None) -> tuple[int, int]:
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
    spans: Sequence[tuple[int, str] | None],
    contexts: Sequence[str],
    places: Sequence[Sequence[tuple[int, int]]],
) -> None:
    """Say how many answers are not what their context says at their place, and how many are in no
    window whole: these count as unanswered."""
    others = [
        row
        for row, (span, context) in enumerate(zip(spans, contexts, strict=True))
        if span is not None and not context.startswith(span[1], max(span[0], 0))
    ]
    if others:
        begin, text = spans[others[0]] or (0, "")
        there = contexts[others[0]][max(begin, 0) :][: max(len(text), 20)]
        table.notes.append(
            f"{len(others)} of {len(spans)} answers are not what their context says at "
            f"answer_start, which is what counts (row {table.row(others[0])}: {text[:40]!r}, "
            f"there {there[:40]!r}). Are these characters, counted from 0?"
        )
    lost = sum(
        span is not None and all(place == NOTHING for place in found)
        for span, found in zip(spans, places, strict=True)
    )
    if lost:
        table.notes.append(
            f"{lost} of {len(spans)} answers stand in no window whole, or outside of their "
            "context: they are taken for unanswered"
        )


def collate(
    ids: list[Tensor], labels: list[Tensor], seeds: list[int | None], encoder: Encoder
) -> tuple[list[Tensor], Tensor | None]:
    """The labels of all windows."""
    import torch

    return ids, torch.cat(labels)


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
