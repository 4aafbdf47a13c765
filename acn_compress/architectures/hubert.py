"""HuBERT (arXiv 2106.07447): wav2vec 2.0's blocks."""

from __future__ import annotations

from acn_compress.architectures import wav2vec2

ARCHITECTURE = wav2vec2.family("hubert", "Hubert")
