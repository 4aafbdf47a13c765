"""How much a unit matters, by the name of the score. Adding one: a file beside this one, and a
line in the dict."""

from __future__ import annotations

from acn_compress.compression.prune.scores import magnitude
from acn_compress.compression.prune.scores.score import Score, Units

__all__ = ["SCORES", "Score", "Units"]

SCORES: dict[str, Score] = {score.SCORE.name: score.SCORE for score in (magnitude,)}
