"""Inner widths of a block (attention heads, MLP features): counting, cutting and zeroing them in
place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from acn_compress.architectures import Cut, Width
    from acn_compress.network.network import Network


def counts(net: Network) -> tuple[dict[str, int], ...]:
    """Units of every prunable width, per block."""
    return tuple({name: w.units for name, w in net.family.widths(b).items()} for b in net.blocks)


def _features(cut: Cut, units: int, keep: Sequence[int], device: torch.device) -> Tensor:
    """Feature indices of the kept units in one layer: [parts * len(keep) * size]."""
    numbers = torch.arange(cut.parts * units * cut.size, device="cpu")  # whatever the default is
    all_features = numbers.view(cut.parts, units, cut.size)
    return all_features[:, list(keep)].reshape(-1).to(device)


def layers(block: nn.Module, width: Width) -> Iterator[tuple[Any, Cut, bool]]:
    """Every linear layer (nn.Linear or Conv1D) in which a width lies, the cut that says where, and
    whether the layer puts the width out (or takes it in)."""
    for cuts, output in ((width.outputs, True), (width.inputs, False)):
        for cut in cuts:
            yield block.get_submodule(cut.path), cut, output


def dim(layer: nn.Module, output: bool) -> int:
    """The weight dimension that holds the layer's outputs (or inputs); transformers' Conv1D stores
    [in, out]."""
    transposed = type(layer).__name__ == "Conv1D"
    return int(output == transposed)


def by_inputs(layer: Any) -> Tensor:
    """A view of a layer's weight, [inputs, outputs]."""
    weight: Tensor = layer.weight
    return weight if dim(layer, output=True) == 1 else weight.T


def cut_(block: nn.Module, width: Width, keep: Sequence[int], fix: Any = None) -> None:
    """Keep only the units `keep` of one width, physically."""
    drop = sorted(set(range(width.units)) - set(keep))
    for layer, cut, output in layers(block, width):
        features = _features(cut, width.units, drop, torch.device("cpu"))
        _remove_(layer, features.tolist(), output)
    if fix is not None:
        fix(block)


def _remove_(layer: Any, features: list[int], output: bool) -> None:
    """Remove output (or input) features of one layer. Torch-Pruning does nothing to transformers'
    Conv1D, so that is ours."""
    import torch_pruning

    if isinstance(layer, nn.Linear):
        remove = (
            torch_pruning.prune_linear_out_channels
            if output
            else torch_pruning.prune_linear_in_channels
        )
        remove(layer, features)
        return
    gone = set(features)
    index = torch.tensor(
        [i for i in range(layer.weight.shape[dim(layer, output)]) if i not in gone],
        device=layer.weight.device,
    )
    layer.weight = nn.Parameter(
        layer.weight.detach().index_select(dim(layer, output), index), layer.weight.requires_grad
    )
    if output:
        layer.bias = nn.Parameter(layer.bias.detach()[index], layer.bias.requires_grad)
        layer.nf = len(index)
    else:
        layer.nx = len(index)


def zero_(block: nn.Module, width: Width, drop: Sequence[int]) -> None:
    """Zero the units `drop` of one width, leaving every shape as it is: the masked original of
    `cut_`. Parameters are replaced, so that a twin of the network keeps its own."""
    for layer, cut, output in layers(block, width):
        index = _features(cut, width.units, drop, layer.weight.device)
        layer.weight = _zeroed(layer.weight, dim(layer, output), index)
        if output and layer.bias is not None:
            layer.bias = _zeroed(layer.bias, 0, index)


def _zeroed(parameter: nn.Parameter, along: int, index: Tensor) -> nn.Parameter:
    return nn.Parameter(parameter.detach().index_fill(along, index, 0.0), parameter.requires_grad)


def unit_parameters(block: nn.Module, width: Width) -> int:
    """Parameters removed with one unit."""
    total = 0
    for layer, cut, output in layers(block, width):
        across: int = layer.weight.shape[1 - dim(layer, output)]
        total += cut.parts * cut.size * (across + int(output and layer.bias is not None))
    return total


def resize_(net: Network, sizes: Sequence[Mapping[str, int]]) -> None:
    """Give every block the widths in `sizes` (keeping the first units): the shapes a saved model is
    read into."""
    for block, wanted in zip(net.blocks, sizes, strict=True):
        for name, n in wanted.items():
            width = net.family.widths(block)[name]
            if n < width.units:
                cut_(block, width, range(n), net.family.fix_widths_)
