"""RoBERTa (arXiv 1907.11692): BERT's block; positions are counted from the padding token, which is
the embedding's business."""

from __future__ import annotations

from acn_compress.architectures import bert

ARCHITECTURE = bert.family("roberta", "RobertaLayer")
