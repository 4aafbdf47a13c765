"""Where every block of a cut network has to lead for it to follow the whole one (`refit`)."""

from __future__ import annotations

from typing import NamedTuple

from acn_compress.errors import ConfigError
from acn_compress.network import widths
from acn_compress.network.network import Network


class Goal(NamedTuple):
    """Where one block has to lead.

    Args:
        place: where the block stands in the whole network.
        to: how many blocks of the whole network its prefix sum stands for.
        gap: it has to do more than its own in the whole network: others were behind it, or its
            alphas are other ones.
    """

    place: int
    to: int
    gap: bool


def goals(net: Network, whole: Network) -> list[Goal]:
    """Of every block of `net`.

    Raises:
        ConfigError: if `net` was not cut from `whole`.
    """
    own, all_ = net.structure, whole.structure
    positions = {source: i for i, source in enumerate(all_.blocks)}
    if own.source_blocks != all_.source_blocks or not set(own.blocks) <= set(positions):
        raise ConfigError("a refit needs the network that the model was cut from.")
    places = [positions[b] for b in own.blocks]
    residual = (own.form, all_.form) == ("residual", "residual")

    def alike(k: int, place: int) -> bool:
        return own.layer == all_.layer and own.alphas_of(k) == all_.alphas_of(place)

    return [
        Goal(place, to, to != place + 1 or not (residual or alike(k, place)))
        for k, (place, to) in enumerate(zip(places, [*places[1:], whole.depth], strict=True))
    ]


def first_changed(net: Network, whole: Network) -> int:
    """The first block that does not compute what the whole network does already."""
    units, all_units = widths.counts(net), widths.counts(whole)
    same = (
        goal == (k, k + 1, False) and units[k] == all_units[k]
        for k, goal in enumerate(goals(net, whole))
    )
    return next((k for k, right in enumerate(same) if not right), net.depth)


def narrowed(net: Network, whole: Network) -> bool:
    """Whether a block lost heads or features."""
    units, all_units = widths.counts(net), widths.counts(whole)
    return any(
        own != all_units[goal.place] for own, goal in zip(units, goals(net, whole), strict=True)
    )
