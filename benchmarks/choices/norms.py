"""What could tame the sum of a post-norm encoder: it grows with every block, while what reads it
was trained on the output of a norm."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from acn_compress.network.network import Network


def scaled(net: Network, y: Tensor) -> Tensor:
    """Divided by 1 + sum (1 - alpha), the number of outputs in the sum."""
    return y / (1 + sum(1 - alpha for alpha in net.current_alphas()))


def last(net: Network, y: Tensor) -> Tensor:
    """Through the last block's own norm."""
    norm = cast(nn.Module, net.norm_behind(net.depth - 1))
    return cast(Tensor, norm(y))


NORMS: dict[str, Callable[[Network, Tensor], Tensor]] = {"scale": scaled, "last": last}


def norm_sum_(net: Network, name: str) -> None:
    """Let what reads the sum of a BERT encoder see it through one of NORMS, in place."""

    def read(module: nn.Module, inputs: object, output: BaseModelOutput) -> BaseModelOutput:
        output.last_hidden_state = NORMS[name](net, output.last_hidden_state)
        return output

    net.model.base_model.encoder.register_forward_hook(read)
