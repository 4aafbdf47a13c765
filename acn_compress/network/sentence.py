"""What turns the last hidden states of a sentence encoder into its embedding: pooling, then dense
layers and norms, as sentence-transformers' `modules.json` lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Pool = Callable[[Tensor, Tensor], Tensor]  # hidden [batch, length, width], mask -> [batch, width]


def first(hidden: Tensor, mask: Tensor) -> Tensor:
    """The first token."""
    return hidden[:, 0]


def most(hidden: Tensor, mask: Tensor) -> Tensor:
    """The largest of every feature."""
    return hidden.masked_fill(mask[..., None] == 0, -1e9).amax(1)


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens that are no padding."""
    weight = mask[..., None].float()
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


def mean_over_root(hidden: Tensor, mask: Tensor) -> Tensor:
    """The sum over the root of the number of tokens."""
    weight = mask[..., None].float()
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1).sqrt()


def rising_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean, in which token i counts i times."""
    weight = mask.float() * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return (hidden * weight[..., None]).sum(1) / weight.sum(1, keepdim=True).clamp(min=1)


def last(hidden: Tensor, mask: Tensor) -> Tensor:
    """The last token that is no padding."""
    places = torch.arange(mask.shape[1], device=mask.device)
    end = (mask * places).argmax(1)
    rows = torch.arange(
        hidden.shape[0], device=hidden.device
    )  # len() would fix the batch of a graph
    return hidden[rows, end]


# by their names in 1_Pooling/config.json; of several the results are joined in this order
POOLS: dict[str, Pool] = {
    "cls_token": first,
    "max_tokens": most,
    "mean_tokens": mean,
    "mean_sqrt_len_tokens": mean_over_root,
    "weightedmean_tokens": rising_mean,
    "lasttoken": last,
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Tanh": torch.tanh,
    "Identity": lambda x: x,
    "ReLU": F.relu,
    "GELU": F.gelu,
    "Sigmoid": torch.sigmoid,
}


@dataclass(frozen=True, eq=False)
class Dense:
    """A dense layer behind the pooling; it is not trained."""

    weight: Tensor
    bias: Tensor | None
    activation: str

    def __call__(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x)
        return ACTIVATIONS[self.activation](F.linear(x, self.weight.to(x), bias))


def normalised(x: Tensor) -> Tensor:
    """Of length 1."""
    return F.normalize(x, dim=-1)


@dataclass(frozen=True, eq=False)
class SentenceHead:
    """What makes an embedding of a text.

    Args:
        pools: names out of `POOLS`.
        after: what follows the pooling, in order.
        prompt: stands before every text.
        lower: texts are lower-cased.
        longest: most tokens of a text.
        unknown: a module that cannot be computed here, if there is one.
    """

    pools: tuple[str, ...] = ("mean_tokens",)
    after: tuple[Callable[[Tensor], Tensor], ...] = ()
    prompt: str = ""
    lower: bool = False
    longest: int | None = None
    unknown: str | None = None

    def __call__(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """The embedding [batch, width] of the last hidden states [batch, length, width]."""
        pooled = [POOLS[name](hidden.float(), mask) for name in POOLS if name in self.pools]
        found = pooled[0] if len(pooled) == 1 else torch.cat(pooled, -1)
        for step in self.after:
            found = step(found)
        return found

    def tensors(self) -> Iterator[Tensor]:
        """Those of its dense layers."""
        for step in self.after:
            if isinstance(step, Dense):
                yield step.weight
                if step.bias is not None:
                    yield step.bias

    def width(self, width: int) -> int:
        """Of the embedding, for a network of this width."""
        return int(self(torch.zeros(1, 1, width), torch.ones(1, 1)).shape[-1])

    def text(self, text: str) -> str:
        """What the tokenizer is given for a text."""
        return self.prompt + (text.lower() if self.lower else text)
