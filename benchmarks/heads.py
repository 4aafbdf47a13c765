"""Is the layer that answers worth solving for, behind a refit of what writes into the stream?

    python -m benchmarks.heads VIT --data CIFAR10 --shares 0.5,0.7

Pruned by obs as `structured` does it, with and without that layer, three draws of the rows; `loss`
is what to look at where few answers change. Writes heads-NAME.json.
"""

from __future__ import annotations

from unittest.mock import patch

from acn_compress.compression import head
from acn_compress.data.load import Data
from acn_compress.network.network import Network
from benchmarks import structured

SEEDS = 3
WITH = structured.by("obs", refit=True)


def without(net: Network, share: float, rows: Data, seed: int) -> object:
    """The layer that answers stays as it was."""
    with patch.object(head, "solve_", return_value=0.0):
        return WITH(net, share, rows, seed)


def main() -> None:
    """The command."""
    routes = {"with it": (WITH, SEEDS), "without it": (without, SEEDS)}
    structured.main(__doc__, "heads", routes)


if __name__ == "__main__":
    main()
