"""ELECTRA (arXiv 2003.10555): BERT's block behind embeddings of a width of their own."""

from __future__ import annotations

from acn_compress.architectures import bert

ARCHITECTURE = bert.family("electra", "ElectraLayer")
