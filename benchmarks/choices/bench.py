"""Trials, trained and measured: the network, the data and the budget that all of one run share."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import numpy as np

from acn_compress.checkpoint.files import read_json, write_json
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.compression.refit import EXAMPLES, refit_
from acn_compress.compression.start import cut_
from acn_compress.data.load import Data, Noise
from acn_compress.data.splits import eval_split, training_split
from acn_compress.events import Event, TrainingStep
from acn_compress.found import Found
from acn_compress.measure.budget import equal_epochs
from acn_compress.measure.intervals import Array
from acn_compress.measure.quality import measure
from acn_compress.network.network import Network
from acn_compress.options import Trained
from acn_compress.training.fit import fit
from benchmarks.choices.norms import norm_sum_
from benchmarks.choices.table import Kind, Trial

STEP_DOWN = 0.02  # of a cautious walk, at every hundredth of the run
Scores = dict[str, Array]  # of every test example, by "DEPTH-clean" and "DEPTH-noisy"


class Run(Found):
    """What one training gave."""

    epochs: float
    seconds: float
    blocks: list[int]
    """It started from."""
    alpha: list[float]
    """It ended with."""
    training_loss: float
    at: dict[str, dict[str, float]]
    """The metric, by depth and by "clean" or "noisy"."""


class Bench:
    """The network, the data and the budget of all trials of one run.

    Args:
        source: directory of the trained network.
        data: folder with the parquet files.
        work: where finished runs are kept.
    """

    def __init__(self, kind: Kind, source: Path, data: str, work: Path, device: str) -> None:
        self.source, self.device, self.work = find_source(source), device, work
        self.teacher = load_source(self.source, device=device)
        self.how = kind.budget.part(Trained, data=data, eval_data=f"{data}:test")
        self.train = training_split(self.how, self.teacher, self.source)
        test = eval_split(self.how, self.teacher, self.source)
        assert test is not None
        self.test = test
        self.noise = None if kind.noise is None else Noise.parse(kind.noise)
        work.mkdir(parents=True, exist_ok=True)

    def scores(self, name: str, trial: Trial, seed: int) -> tuple[Run, Scores]:
        """What the trial gave, from `work` if it is there."""
        path = self.work / f"{name}-seed{seed}-{self._mark(trial, seed)}.json"
        arrays = path.with_suffix(".npz")
        if (row := read_json(path)) is None:
            done, found = self._run(trial, seed)
            np.savez_compressed(arrays, **found)  # type: ignore[arg-type]  # of its stub
            write_json(path, done.plain())
            return done, found
        return Run.model_validate(row), dict(np.load(arrays))

    def _mark(self, trial: Trial, seed: int) -> str:
        """Of everything a run depends on."""
        parts = [vars(trial), self.how.plain(), seed, self.source.sha256()]
        asked = json.dumps(parts, default=str, sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()[:12]

    def _run(self, trial: Trial, seed: int) -> tuple[Run, Scores]:
        """Train and measure."""
        started = time.perf_counter()
        net = load_source(self.source, device=self.device, verify=False)
        training = self._cut(net, trial, self.how.part(Trained, seed=seed, **trial.recipe.given()))
        kept = list(net.structure.blocks)
        if trial.norm:
            norm_sum_(net, trial.norm)
        done = fit(
            net,
            self.train,
            training,
            walk=trial.walk,
            teacher=self.teacher,
            progress=Caution(net) if trial.cautious else None,
        )
        seconds = time.perf_counter() - started
        at, found = self._measured(net, trial)
        run = Run(
            epochs=training.epochs,
            seconds=seconds,
            blocks=kept,
            alpha=net.current_alphas(),
            training_loss=float(np.mean([entry.loss for entry in done.history[-10:]])),
            at=at,
        )
        return run, found

    def _cut(self, net: Network, trial: Trial, base: Trained) -> Trained:
        """Cut the network to what is trained; returns the training that is left of the budget."""
        budget = trial.budget * base.epochs
        nominal = equal_epochs(self.teacher, budget, depth=trial.depth)
        spent = cut_(
            net,
            trial.depth,
            trial.keep,
            base.part(Trained, epochs=nominal),
            self.source,
            refitted=trial.refit is True,
        )
        left = equal_epochs(
            self.teacher,
            budget,
            depth=trial.depth,
            prefixes=base.prefixes,
            spent=spent / len(self.train),
        )
        return base.part(Trained, epochs=left)

    def _measured(self, net: Network, trial: Trial) -> tuple[dict[str, dict[str, float]], Scores]:
        """At every depth that is read, clean and (where there is noise) noisy."""
        at: dict[str, dict[str, float]] = {}
        found: Scores = {}
        noises: dict[str, Noise | None] = {"clean": None}
        if self.noise is not None:
            noises["noisy"] = self.noise
        for depth in trial.depths:
            cut, at[str(depth)] = self._read(net, trial, depth), {}
            for kind, noise in noises.items():
                scores = measure(cut, self.test, noise=noise)
                at[str(depth)][kind] = scores.value
                found[f"{depth}-{kind}"] = scores.score
        return at, found

    def _read(self, net: Network, trial: Trial, depth: int) -> Network:
        """The trained network as it is read out at a depth."""
        cut = net.twin()
        if depth < trial.depth:
            cut.truncate_(depth)
        if trial.refit == "read":
            refit_(cut, net, self._few())
        return cut

    def _few(self) -> Data:
        """What a refit is solved on."""
        few = self.how.part(Trained, limit=min(EXAMPLES, len(self.train)), augment=None)
        return training_split(few, self.teacher, self.source)


class Caution:
    """Lowers alpha a little whenever the mean loss of late is not above the mean of longer ago."""

    def __init__(self, net: Network) -> None:
        self.net, self.alpha = net, 1.0
        self._losses: list[float] = []

    def __call__(self, now: Event) -> None:
        assert isinstance(now, TrainingStep)
        self._losses.append(now.loss)
        if len(self._losses) < 10 or np.mean(self._losses[-3:]) <= np.mean(self._losses[-10:]):
            self.alpha = max(0.0, self.alpha - STEP_DOWN)
            alphas = (self.alpha,) * self.net.depth
            self.net.set_structure_(self.net.structure.with_alpha(alphas))
