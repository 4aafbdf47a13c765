"""XLM-RoBERTa (arXiv 1911.02116): RoBERTa in many languages."""

from __future__ import annotations

from acn_compress.architectures import bert

ARCHITECTURE = bert.family("xlm-roberta", "XLMRobertaLayer")
