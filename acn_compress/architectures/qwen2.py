"""Qwen2 (arXiv 2407.10671): Llama's block with biases on queries, keys and values; layers may have
a sliding window each."""

from __future__ import annotations

from acn_compress.architectures.base import Architecture
from acn_compress.architectures.llama import DEPTH_FIELDS, SAYS, branches, widths

ARCHITECTURE = Architecture(
    model_type="qwen2",
    block="Qwen2DecoderLayer",
    blocks="layers",
    branches=branches,
    widths=widths,
    modality="text",
    depth_fields=DEPTH_FIELDS,
    says=SAYS,
)
