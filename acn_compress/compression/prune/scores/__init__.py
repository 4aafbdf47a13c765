"""How much a unit matters, by the name of the score. Adding one: a file of its name
beside this one, and the name in `options.Score`."""

from __future__ import annotations

from acn_compress import options
from acn_compress.compression.prune.scores.score import Score, Units
from acn_compress.named import objects

__all__ = ["SCORES", "Score", "Units"]

SCORES: dict[str, Score] = objects(options.Score, __name__, "SCORE")
