"""Half precision in an ONNX file: the large weights stay as they are, the computation is in
float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from acn_compress.network.network import Network

TYPES = (torch.float16, torch.bfloat16)


class _Embedding(nn.Embedding):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


class _Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.float()
        return nn.functional.linear(x, self.weight.float(), bias)


class _Conv1D(nn.Module):
    """Of transformers' Conv1D, whose weight is [in, out]."""

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.float().T, self.bias.float())


_READING: dict[str, type[nn.Module]] = {
    "Embedding": _Embedding,
    "Linear": _Linear,
    "Conv1D": _Conv1D,
}


def compute_in_float32_(net: Network) -> None:
    """Leave the large weights in half precision and let their layers read them as float32: nothing
    is held twice."""
    for module in net.model.modules():
        if (reading := _READING.get(type(module).__name__)) is not None:
            module.__class__ = reading
            continue
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point():
                tensor.data = tensor.data.float()
