"""What has been tried, by network and name. To try an idea, add a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from acn_compress.form import LayerKind
from acn_compress.options import Keep, Trained
from acn_compress.training.walk import Walk


@dataclass(frozen=True)
class Trial:
    """One way to a smaller network.

    Args:
        depth: blocks that are trained.
        end: alpha at the end of the walk; None stays residual.
        share: of the run that the walk takes.
        layer: what one layer is.
        pull: let alpha be trained under this pull instead.
        cautious: walk on only while the training loss does not rise.
        keep: which ones, as in `convert --keep`.
        refit: before training, as in `convert --refit`; "read" refits what is read out at a depth
            instead, as `truncate --refit` does.
        norm: of the sum of a post-norm encoder, one of `norms.NORMS`.
        read: depths that are measured; none is `depth` alone.
        budget: times the budget of the others.
        recipe: only what differs from the budget's options.
    """

    depth: int
    end: float | None = None
    share: float = 0.5
    layer: LayerKind = "block"
    pull: float = 0.0
    cautious: bool = False
    keep: Keep = "first"
    refit: bool | Literal["read"] = False
    norm: Literal["scale", "last"] | None = None
    read: tuple[int, ...] = ()
    budget: float = 1.0
    recipe: Trained = Trained()  # noqa: RUF009  (frozen)

    @property
    def depths(self) -> tuple[int, ...]:
        """That are measured."""
        return self.read or (self.depth,)

    @property
    def walk(self) -> Walk | None:
        """The walk of alpha, from 1."""
        if self.end is None and not self.pull:
            return None
        layers = self.depth * (2 if self.layer == "branch" else 1)
        end = 1.0 if self.end is None else self.end
        return Walk((1.0,) * layers, (end,) * layers, self.share, self.layer, pull=self.pull)

    def settings(self) -> dict[str, object]:
        """Where it differs from nothing special."""
        own = vars(self) | {"recipe": self.recipe.given()}
        usual = vars(Trial(0)) | {"recipe": {}}
        return {k: v for k, v in own.items() if v != usual[k]}


MATCHED = Trained(hidden_weight=1.0)
RANDOM = Trained(prefix_loss=1.0)
CHOSEN = Trained(prefix_loss=1.0, prefix_depths=(3, 4, 6))
WEIGHTED = Trained(prefix_loss=3.0, prefix_depths=(3, 4, 6))
READ = (3, 4, 6, 12)
VIT = {
    "drop-last": Trial(3),
    "drop-last-4": Trial(4),
    "drop-last-6": Trial(6),
    # which blocks to start from
    "evenly-spaced": Trial(3, keep="even"),
    "best": Trial(3, keep="best"),
    "best-0.5": Trial(3, 0.5, keep="best"),
    # refitted first, with as much training and with a third of it
    "drop-last-refit": Trial(3, refit=True),
    "best-refit": Trial(3, keep="best", refit=True),
    "best-refit-0.5": Trial(3, 0.5, keep="best", refit=True),
    "drop-last-third": Trial(3, budget=1 / 3),
    "best-refit-third": Trial(3, keep="best", refit=True, budget=1 / 3),
    "best-refit-0.5-third": Trial(3, 0.5, keep="best", refit=True, budget=1 / 3),
    # how far alpha walks, how, and what one layer is
    "alpha-0": Trial(3, 0.0),
    "alpha-0.5": Trial(3, 0.5),
    "best-0": Trial(3, 0.0, keep="best"),
    "branch-0.5": Trial(3, 0.5, layer="branch"),
    "pull-0.1-at-6": Trial(6, pull=0.1),
    "walk-0.9": Trial(3, 0.5, share=0.9),
    # the teacher's hidden states
    "drop-last-matched": Trial(3, recipe=MATCHED),
    "best-0.5-matched": Trial(3, 0.5, keep="best", recipe=MATCHED),
    # the learning rate
    "drop-last-lr-5e-4": Trial(3, recipe=Trained(lr=5e-4)),
    "drop-last-lr-2e-3": Trial(3, recipe=Trained(lr=2e-3)),
    "best-0.5-lr-2e-3": Trial(3, 0.5, keep="best", recipe=Trained(lr=2e-3)),
    # more of everything
    "drop-last-longer": Trial(3, budget=3.0),
    "best-0.5-longer": Trial(3, 0.5, keep="best", budget=3.0),
    "best-0-longer": Trial(3, 0.0, keep="best", budget=3.0),
    # one run for every depth
    "one-residual-random": Trial(12, read=READ, recipe=RANDOM),
    "one-residual-chosen": Trial(12, read=READ, recipe=CHOSEN),
    "one-0.5-chosen": Trial(12, 0.5, read=READ, recipe=CHOSEN),
    "one-0.5-chosen-refit": Trial(12, 0.5, read=READ, recipe=CHOSEN, refit="read"),
    "one-residual-chosen-refit": Trial(12, read=READ, recipe=CHOSEN, refit="read"),
    "one-0.5-longer-refit": Trial(12, 0.5, read=READ, recipe=WEIGHTED, budget=3.0, refit="read"),
    "one-0.5-longer": Trial(12, 0.5, read=READ, recipe=CHOSEN, budget=3.0),
    "one-0.5-longer-weighted": Trial(12, 0.5, read=READ, recipe=WEIGHTED, budget=3.0),
    "one-0.25-chosen": Trial(12, 0.25, read=READ, recipe=CHOSEN),
    "one-0-chosen": Trial(12, 0.0, read=READ, recipe=CHOSEN),
}
BERT = {
    "drop-last": Trial(3),
    "evenly-spaced": Trial(3, keep="even"),
    "best": Trial(3, keep="best"),
    "even-refit": Trial(3, keep="even", refit=True),
    "even-refit-0.5": Trial(3, 0.5, keep="even", refit=True),
    "drop-last-half": Trial(3, budget=0.5),
    "even-refit-half": Trial(3, keep="even", refit=True, budget=0.5),
    "alpha-0": Trial(3, 0.0),
    "alpha-0.25": Trial(3, 0.25),
    "alpha-0.5": Trial(3, 0.5),
    "pull-0.1": Trial(3, pull=0.1),
    "cautious": Trial(3, cautious=True),
    "drop-last-matched": Trial(3, recipe=MATCHED),
    "alpha-0.5-matched": Trial(3, 0.5, recipe=MATCHED),
    "alpha-0-matched": Trial(3, 0.0, recipe=MATCHED),
    "alpha-0-scaled": Trial(3, 0.0, norm="scale"),
    "alpha-0-normed": Trial(3, 0.0, norm="last"),
    "alpha-0.5-scaled": Trial(3, 0.5, norm="scale"),
}
BASELINES = {3: "drop-last", 4: "drop-last-4", 6: "drop-last-6"}


@dataclass(frozen=True)
class Kind:
    """A network to be made smaller: what is tried on it, and the budget that every trial has.

    Args:
        noise: measured under, besides clean data.
    """

    trials: dict[str, Trial]
    budget: Trained
    noise: str | None = None

    def named(self, names: list[str]) -> dict[str, Trial]:
        """These trials, and the baselines they are compared with."""
        depths = {d for n in names for d in self.trials[n].depths}
        wanted = {*names, *(BASELINES[d] for d in depths if d in BASELINES)}
        return {n: t for n, t in self.trials.items() if n in wanted}


KINDS = {
    "vit": Kind(
        VIT,
        Trained(epochs=3.0, batch_size=128, lr=1e-3, limit=15_000, augment="flip-crop"),
        "gaussian:0.2",
    ),
    "bert": Kind(BERT, Trained(epochs=2.0, batch_size=32, lr=2e-4, limit=1_600)),
}
