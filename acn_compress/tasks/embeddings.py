"""features: the embedding of a sentence, the mean of its last hidden states. Main metric: cosine,
of the embedding with that of a reference model, which stands in the place of labels (see
data.load_data)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from acn_compress.tasks.base import Batch, Encoder, Rows, Scored, Table, Task

if TYPE_CHECKING:
    from torch import Tensor


def score(output: Any, batch: Batch) -> Scored:
    """Labels [batch, width]: the reference's embeddings. The loss is 1 - cosine, and the squared
    error over the reference's square, at a small weight: on its way to alpha = 0 a sum of normed
    outputs grows first, and the error of its scale would drown its direction."""
    import torch
    import torch.nn.functional as F

    found, reference = embedding(output, batch), batch["labels"]
    cosine = F.cosine_similarity(found, reference, dim=-1)
    error = (found - reference).square().sum(-1) / reference.square().sum(-1).clamp(min=1e-12)
    loss = (1 - cosine).clamp(min=0) + 0.1 * error
    return Scored(loss, cosine, torch.ones_like(cosine), found, None, numbers=True)


def embedding(output: Any, batch: Batch) -> Tensor:
    """The mean of the last hidden state over the tokens that are no padding: [batch, width]."""
    mask = batch["attention_mask"][..., None].float()
    mean: Tensor = (output.last_hidden_state.float() * mask).sum(1) / mask.sum(1).clamp(min=1)
    return mean


def rows(table: Table, encoder: Encoder) -> Rows:
    """A text per row; empty ones are left out."""
    texts = [text.strip() for text in table.loose_texts() if text.strip()]
    inputs = encoder.rows(encoder.encode(texts)) if texts else []
    return Rows(inputs, None, None, [len(text) for text in texts])


TASK = Task(
    name="features",
    metric="cosine",
    modality="text",
    heads=("Model",),
    auto_class="AutoModel",
    pipeline_tag="feature-extraction",
    score=score,
    rows=rows,
    taught=True,
    numbers=True,
)
