"""What the methods that set weights to zero share: counting and recording the zeros, and proving
that training kept them."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch

from acn_compress.compression.prune.method import Aim, Pruned, Start
from acn_compress.errors import VerificationError
from acn_compress.network import zeros
from acn_compress.network.network import Network

NOTE = (
    "Zeros make neither the dense file smaller nor the model faster: only a compressed copy of "
    "the file (gzip_bytes) shrinks."
)


class Zeroed(Pruned):
    """What a method reached that sets weights to zero."""

    zeros: int
    weights: int
    """Among which they were counted."""
    matrices: dict[str, float]
    """The share of zeros in each weight matrix, by "block.layer"."""
    gzip_bytes: int | None = None
    """What all weights take after gzip -6."""

    def weighed(self, net: Network) -> Zeroed:
        """With `gzip_bytes` of the network as it is now."""
        return self.model_copy(update={"gzip_bytes": gzip_bytes(net)})


def record_(net: Network, aim: Aim, start: Start) -> Zeroed:
    """Count the zeros into the structure; a target of 0 claims none."""
    named = zeros.matrices(net)
    total, found = sum(w.numel() for w in named.values()), zeros.count(list(named.values()))
    if aim.target > 0:
        net.set_structure_(net.structure.changed(sparsity=found / total))
    return Zeroed(
        **start,
        achieved=found / total,
        of=f"zeros among {total:,} weights of the blocks",
        parameters_after=net.parameters,
        zeros=found,
        weights=total,
        matrices={name: zeros.count([w]) / w.numel() for name, w in named.items()},
    )


def holding_zeros(net: Network) -> Callable[[], None]:
    """Remember how many zeros a network has that claims some; what is returned checks that they
    are still there, which the training engine sees to."""
    expected = count(net) if net.structure.sparsity > 0 else None

    def check() -> None:
        if expected is not None and (found := count(net)) != expected:
            raise lost(found, expected)

    return check


def lost(found: int, expected: int) -> VerificationError:
    """The error of a network that was trained and has other zeros than it should."""
    return VerificationError(f"training left {found:,} zeros of {expected:,}. Please report this.")


def count(net: Network) -> int:
    """Zeros among the weights of the blocks' matrices."""
    return zeros.count(list(zeros.matrices(net).values()))


def gzip_bytes(net: Network) -> int:
    """Bytes of all weights after gzip -6, shared ones once: what a compressed copy of the dense
    file takes."""
    packer, size = zlib.compressobj(6, wbits=31), 0
    for tensor in {t.data_ptr(): t for t in net.model.state_dict().values()}.values():
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        size += len(packer.compress(raw))
    return size + len(packer.flush())
