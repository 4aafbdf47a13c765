"""One kind of network, trained and compressed along every route."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acn_compress import compare, finetune
from acn_compress.options import Route, Trained
from benchmarks.route.kinds import Kind, Scale


@dataclass(frozen=True)
class Run:
    """What was asked for on the command line.

    Args:
        data: folder with the parquet files.
        work: for what is trained.
        routes: as in `compare`.
        seeds: runs of every route.
        device: that trains.
        model: the pretrained encoder of a kind that starts from one.
        source: the trained network, instead of training one.
    """

    name: str
    kind: Kind
    data: str
    work: Path
    routes: tuple[Route, ...]
    seeds: int
    device: str = "cpu"
    model: Path | None = None
    source: Path | None = None

    def network(self, scale: Scale, work: Path | None = None) -> Path:
        """The trained residual network, made in `work` (None: this run's) if it is not there."""
        work = work or self.work
        out = work / self.name
        work.mkdir(parents=True, exist_ok=True)
        if self.source is None and not out.is_dir():
            self._train(scale, out, self._start(work))
        return self.source or out

    def _start(self, work: Path) -> Path:
        """What the network starts from: a config, or a pretrained encoder."""
        if self.kind.config is None:
            if self.model is None:
                sys.exit(f"error: {self.name} starts from a pretrained encoder: pass --model DIR.")
            return self.model
        file = work / f"{self.name}.json"
        file.write_text(json.dumps(self.kind.config()))
        return file

    def _train(self, scale: Scale, out: Path, start: Path) -> None:
        finetune(
            start,
            out,
            self.data,
            init="source" if self.kind.config is None else "random",
            task=self.kind.task,
            device=self.device,
            epochs=scale.pretrain,
            limit=scale.examples,
            **self.kind.pretraining.given(),
        )

    def training(self, scale: Scale) -> Trained:
        """Of every route."""
        return self.kind.training.part(
            Trained,
            data=self.data,
            epochs=scale.budget,
            eval_data=f"{self.data}:test",
            limit=scale.limit,
            eval_limit=scale.eval_limit,
        )

    @property
    def folder(self) -> Path:
        """Of the comparison."""
        return self.work / f"{self.name}-routes"

    def compare(self, scale: Scale, alpha_end: float | None) -> dict[str, Any]:
        """The report of `compare`, as plain data."""
        found = compare(
            self.network(scale),
            self.data,
            depths=self.kind.depths,
            out=str(self.folder),
            seeds=self.seeds,
            routes=self.routes,
            noise=self.kind.noise,
            alpha_end=alpha_end,
            device=self.device,
            epochs=scale.budget,
            eval_data=f"{self.data}:test",
            limit=scale.limit,
            eval_limit=scale.eval_limit,
            **self.kind.training.given(),
        )
        return found.plain()
