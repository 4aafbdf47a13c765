"""How many threads a network is run with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from acn_compress.network.network import Network

NARROW = 128  # features of the stream


@contextlib.contextmanager
def threads_for(net: Network) -> Iterator[None]:
    """One thread for a narrow model: its operators are too short to share, and on a busy machine
    sharing them costs 4 to 30 times."""
    before = torch.get_num_threads()
    if net.device.type == "cpu" and net.width < NARROW:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
