"""Structured pruning: whole attention heads (or key/value groups with their heads) and MLP
features are removed. A score (`scores/`) says what each is worth, a ranking (`ranking.py`) which of
them go, and the cut (`cut.py`) goes through the widths the architecture names, so fused
projections, key/value groups and transposed weights cannot be missed. Then the layers that write
into the stream are solved for anew, so that what is left does what the whole network did
(`compression.refit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from acn_compress.architectures import base_type
from acn_compress.compression import refit
from acn_compress.compression.calibration import calibration, named
from acn_compress.compression.prune import cut, ranking
from acn_compress.compression.prune.method import Aim, Method, Pruned, Pruning, Start
from acn_compress.compression.prune.ranking import Choice, Drops
from acn_compress.compression.prune.scores import SCORES
from acn_compress.compression.prune.zeroed import holding_zeros
from acn_compress.errors import ConfigError, UnsupportedError
from acn_compress.network import widths
from acn_compress.network.network import Network
from acn_compress.network.sayable import can_say, is_plain

NOTE = "Removed heads and features are gone from the file and from every forward pass."
REFITTED = " What is left makes up for what went, on {} {}."
ONE_FEATURE = (
    " Of {} widths one feature is left, which hardly computes anything (one_feature): to remove "
    "whole blocks, cut them with truncate."
)

NOTHING = (
    "no head and no MLP feature of this '{}' can be removed alone (norms stand across them): cut "
    "blocks with truncate, or set zeros with method obs."
)
PLAIN = " Every block has the same widths, which the config says: plain transformers loads it."
NOT_PLAIN = " Every block has the same widths, but plain transformers cannot load it: {}."
UNITS = {"heads": "heads", "mlp": "MLP features", "tokens": "token features"}
"""Of a width, for people."""
SIZES = "its config cannot say these widths"


class Narrowed(Pruned):
    """What structured pruning reached."""

    widths_before: list[dict[str, int]]
    """Units of every width, per block."""
    widths: list[dict[str, int]]
    unchanged: list[str]
    """Widths that lost nothing."""
    one_feature: list[str]
    """Widths of which the one feature is left that must stay."""
    max_difference: float
    """To the masked original."""
    tolerance: float
    """That it had to meet."""


def prune_(net: Network, aim: Aim, start: Start) -> Pruning:
    """Remove the units, now."""
    score, before = SCORES[aim.score], list(widths.counts(net))
    if not any(before):
        raise UnsupportedError(NOTHING.format(net.family.model_type))
    examples = calibration(net, aim.data, seed=aim.seed)
    whole = net.twin() if aim.refit else net  # which keeps what the cut replaces
    scores = score.units(net, aim.data if score.needs_data else examples)
    choices = ranking.choices(net, scores, score.adds_up)
    drops = _chosen(net, choices, aim)
    removed, total = _removed(choices, drops), sum(c.cost * c.units for c in choices)
    if aim.target > 0 and removed == 0:
        smallest = min(c.cost for c in choices if c.units > 1) / total
        raise ConfigError(
            f"target_sparsity is {aim.target}, less than what one unit holds "
            f"({smallest:.4f} with scope global). Choose more."
        )
    thin = [str(c) for c, d in zip(choices, drops, strict=True) if d and _leaves_one(c, d)]
    start["note"] += ONE_FEATURE.format(len(thin)) if thin else ""
    difference = cut.cut_checked_(net, choices, drops)
    start["note"] += _alike(net, _names(choices, drops)) if aim.uniform else ""
    why = refit.refused(net, whole) if aim.refit else None
    refitted = aim.refit and why is None and removed > 0
    if refitted:
        refit.refit_(net, whole, examples)
        start["note"] += REFITTED.format(min(len(examples), refit.EXAMPLES), named(aim.data))
    elif why is not None and removed:
        start["note"] += f" Not refitted: {why}"
    found = Narrowed(
        **start,
        max_difference=difference,
        tolerance=cut.TOLERANCE[net.dtype],
        achieved=removed / total,
        of=f"{removed:,} of {total:,} prunable parameters",
        parameters_after=net.parameters,
        widths_before=before,
        widths=list(widths.counts(net)),
        unchanged=[str(c) for c, d in zip(choices, drops, strict=True) if not d],
        one_feature=thin,
    )
    check_held = holding_zeros(net)

    def finish_() -> Pruned:
        check_held()
        return found

    return Pruning(finish_, refitted=refitted)


def _chosen(net: Network, choices: Sequence[Choice], aim: Aim) -> Drops:
    """Which units go."""
    if aim.scope == "layer":
        return ranking.in_each(choices, aim.target, aim.round_to)
    if not aim.uniform:
        return ranking.everywhere(choices, aim.target, ranking.apart(choices, aim.round_to))
    ladders = ranking.alike(choices, aim.round_to)
    if net.structure.form == "residual" and (not _unsaid(net) or is_plain(net)):
        said = ranking.alike(choices, aim.round_to, partial(can_say, net))
        total = sum(c.cost * c.units for c in choices)
        room = sum(step.cost for ladder in said for step in ladder.steps)
        ladders = said if said and room >= round(aim.target * total) else ladders
    return ranking.cheapest(choices, aim.target, ladders)


def _alike(net: Network, cut_: set[str]) -> str:
    """What there is to say of a network whose blocks were made alike; `cut_`: the widths that lost
    something."""
    unsaid, form = _unsaid(net), net.structure.form
    if is_plain(net):
        return PLAIN + (f" Nothing else was cut: {_cannot_say(net, unsaid)}." if unsaid else "")
    if form != "residual":
        return NOT_PLAIN.format(f"it is in {form} form")
    lost = [name for name in unsaid if name in cut_]
    return NOT_PLAIN.format(_cannot_say(net, lost) if lost else SIZES)


def _cannot_say(net: Network, names: list[str]) -> str:
    family, units = base_type(net.config.model_type), " or ".join(UNITS[name] for name in names)
    return f"a config of '{family}' cannot say fewer {units}"


def _names(choices: Sequence[Choice], drops: Drops) -> set[str]:
    """Of the widths that lose something."""
    return {choice.name for choice, gone in zip(choices, drops, strict=True) if gone}


def _unsaid(net: Network) -> list[str]:
    """Widths of which no config of the family says how many units there are."""
    return [name for name in net.family.widths(net.blocks[0]) if name not in net.family.says]


def _removed(choices: Sequence[Choice], drops: Drops) -> int:
    """Parameters that go with the units."""
    return sum(c.cost * len(d) for c, d in zip(choices, drops, strict=True))


def _leaves_one(choice: Choice, drop: Sequence[int]) -> bool:
    """Whether one feature is all that stays; one head may do a lot."""
    single = all(cut.size == 1 for cut in choice.width.inputs)
    return single and choice.units - len(drop) == 1


METHOD = Method(
    name="structured",
    help="removes whole heads and MLP features and lets the rest make up for them "
    "(looks at some of the data, or at random inputs)",
    note=NOTE,
    prune_=prune_,
    looks_at_data=True,
    replaces=True,
)
