"""CamemBERT (arXiv 1911.03894): RoBERTa in French."""

from __future__ import annotations

from acn_compress.architectures import bert

ARCHITECTURE = bert.family("camembert", "CamembertLayer")
