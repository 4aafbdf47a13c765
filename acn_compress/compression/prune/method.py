"""What a pruning method is, what it is asked for, and what every one of them reports."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypedDict, get_args

from acn_compress.compression.calibration import Batches
from acn_compress.compression.prune.scores import SCORES
from acn_compress.errors import ConfigError
from acn_compress.found import Found
from acn_compress.network.network import Network
from acn_compress.options import PRUNES_IN_TRAINING, Pattern, Scope, asked
from acn_compress.training.hooks import Hook

PRUNED_BEFORE = (
    " The source was pruned before; its zeros and widths are kept, and the share is one of the "
    "model as it came."
)


@dataclass(frozen=True)
class Aim:
    """What a pruning is asked for, whatever the method.

    Args:
        target: a share in [0, 1), of the network as it comes; 0 changes nothing.
        scope: where it holds: "global", across all blocks; "layer", the same in each place.
        score: of `SCORES`, by which structured pruning ranks.
        refit: what is left by structured pruning makes up for what went.
        data: examples for what looks at some; None is random inputs where a method makes do with
            them.
        pattern: of the zeros, for a method that makes some; its share is the target.
        seed: of what is drawn.
        uniform: structured: every block keeps equally many units of a width.
        round_to: structured: features that are left are a multiple of this.
    Raises:
        ConfigError: for what cannot be meant, before any work.
    """

    target: float
    scope: Scope = "global"
    score: str = "obs"
    data: Batches | None = None
    pattern: Pattern | None = None
    seed: int = 0
    refit: bool = True
    uniform: bool = False
    round_to: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.target < 1:
            raise ConfigError(
                f"target_sparsity is {self.target}, expected a share in [0, 1), "
                "such as 0.5 for one half."
            )
        check_one_of("scope", self.scope, get_args(Scope))
        check_one_of("score", self.score, SCORES)


def share_asked(method: str, share: float | None, pattern: Pattern | None) -> float:
    """`options.asked` for what was loaded already.

    Raises:
        ConfigError: as it does.
    """
    try:
        return asked(method, share, pattern)
    except ValueError as why:
        raise ConfigError(f"prune {why}.") from None


def check_one_of(option: str, value: str, known: Collection[str]) -> None:
    """Refuse a name that is not known.

    Raises:
        ConfigError: with those that are.
    """
    if value not in known:
        raise ConfigError(f"{option} is '{value}', expected one of: {', '.join(known)}.")


class Pruned(Found):
    """What a pruning reached."""

    method: str
    scope: Scope
    target: float
    """The share that was asked for."""
    achieved: float
    """The share that was reached."""
    of: str
    """What it is a share of."""
    parameters_before: int
    parameters_after: int
    note: str
    """What the result is good for."""


class Start(TypedDict):
    """The part of `Pruned` that is known before pruning."""

    method: str
    scope: Scope
    target: float
    parameters_before: int
    note: str


@dataclass(frozen=True)
class Pruning:
    """A pruning that has begun. Train the network now or leave it, then finish.

    Args:
        finish_: checks that what was pruned is so still, records it in the network's structure and
            tells what was reached.
        hook: takes part in every step of the training, where the method prunes while it trains.
        refitted: what is left was solved for.
    """

    finish_: Callable[[], Pruned]
    hook: Hook | None = None
    refitted: bool = False


@dataclass(frozen=True)
class Method:
    """One way to prune, in a file of its own.

    Args:
        name: as it is chosen.
        help: one sentence for who chooses.
        note: what the result is good for, for the report.
        prune_: (net, aim, start) -> the pruning, begun.
        looks_at_data: it looks at some of the data, where there are any.
        replaces: it writes to no parameter but puts others in their place, so that a twin of the
            network keeps what it had.
    """

    name: str
    help: str
    note: str
    prune_: Callable[[Network, Aim, Start], Pruning]
    looks_at_data: bool = False
    replaces: bool = False

    def begin_(self, net: Network, aim: Aim) -> Pruning:
        """Prune `net` in place; a method that prunes while training gets ready to.

        Raises:
            ConfigError: for a share that cannot be reached, or a pattern that contradicts it.
            VerificationError: if the network is not what pruning should have made of it.
        """
        share_asked(self.name, aim.target, aim.pattern)
        structure = net.structure
        again = structure.widths is not None or structure.sparsity > 0
        start: Start = {
            "method": self.name,
            "scope": aim.scope,
            "target": aim.target,
            "parameters_before": net.parameters,
            "note": self.note + (PRUNED_BEFORE if again else ""),
        }
        return self.prune_(net, aim, start)

    def check_training(self, trains: bool, advice: str) -> None:
        """Refuse to go without training what needs it.

        Raises:
            ConfigError: saying why, and the advice.
        """
        if self.name in PRUNES_IN_TRAINING and not trains:
            why = "which prunes while it trains and needs data and more than 0 epochs"
            raise ConfigError(f"method is {self.name!r}, {why}. {advice}")
