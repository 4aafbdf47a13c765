"""features: the embedding of a text, made of its last hidden states as the encoder's own modules
say; where it has none what its family pools (CLIP), otherwise their mean. Main metric: cosine, of
the embedding with that of a reference model, which stands in the place of labels (see
data.load_data)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from acn_compress.errors import UnsupportedError
from acn_compress.tasks.base import Batch, Encoder, Rows, Scored, Table, Task, of_loose_texts

if TYPE_CHECKING:
    from torch import Tensor

    from acn_compress.network.network import Network
    from acn_compress.network.sentence import SentenceHead


Embed = Callable[[Any, Batch], "Tensor"]


def score(output: Any, batch: Batch, embed: Embed) -> Scored:
    """Labels [batch, width]: the reference's embeddings. The loss is 1 - cosine, and the squared
    error over the reference's square, at a small weight: on its way to alpha = 0 a sum of normed
    outputs grows first, and the error of its scale would drown its direction."""
    import torch
    import torch.nn.functional as F

    found, reference = embed(output, batch), batch["labels"]
    cosine = F.cosine_similarity(found, reference, dim=-1)
    error = (found - reference).square().sum(-1) / reference.square().sum(-1).clamp(min=1e-12)
    loss = (1 - cosine).clamp(min=0) + 0.1 * error
    return Scored(loss, cosine, torch.ones_like(cosine), found, None, numbers=True)


def embedding(output: Any, batch: Batch, head: SentenceHead | None = None) -> Tensor:
    """The embeddings of a batch, [batch, width]: the mean of the last hidden state over the tokens
    that are no padding, or what the encoder's own modules make of it."""
    from acn_compress.network.sentence import SentenceHead

    return (head or SentenceHead())(output.last_hidden_state, batch["attention_mask"])


def own(output: Any, batch: Batch) -> Tensor:
    """The embeddings of a batch, [batch, width], as the model pools and projects them itself."""
    found: Tensor | None = getattr(output, "text_embeds", None)
    return output.pooler_output if found is None else found


def answers(output: Any, batch: Batch, embed: Embed) -> Tensor:
    """The direction of every embedding, which is what embeddings are compared by."""
    import torch.nn.functional as F

    return F.normalize(embed(output, batch), dim=-1)


def rows(table: Table, encoder: Encoder, head: SentenceHead | None = None) -> Rows:
    """A text per row; empty ones are left out."""
    if head is not None and head.unknown:
        raise UnsupportedError(
            f"the model's modules.json names a {head.unknown}, which cannot be computed here. "
            "Known are Transformer, Pooling, Dense and Normalize."
        )
    return of_loose_texts(table, encoder, str if head is None else head.text)


def embeds(net: Network) -> Embed:
    """How a network's embeddings are made."""
    if net.sentence is not None:
        return partial(embedding, head=net.sentence)
    return own if net.family.embeds else embedding


def bound(task: Task, net: Network) -> Task:
    """The task with the network's own pooling, dense layers, prompt and longest text."""
    head, embed = net.sentence, embeds(net)
    made = replace(TASK, score=partial(score, embed=embed), answers=partial(answers, embed=embed))
    if head is None:
        return made if net.family.embeds else TASK
    return replace(made, rows=partial(rows, head=head), longest=head.longest)


TASK = Task(
    name="features",
    metric="cosine",
    modality="text",
    heads=("Model", "ModelWithProjection"),
    auto_class="AutoModel",
    pipeline_tag="feature-extraction",
    score=partial(score, embed=embedding),
    rows=rows,
    answers=partial(answers, embed=embedding),
    bound=bound,
    taught=True,
    numbers=True,
    reach=(-1.0, 1.0),
)
