"""Qwen3 (arXiv 2505.09388): Llama's block with normed queries and keys; layers may have a sliding
window each."""

from __future__ import annotations

from acn_compress.architectures.base import Architecture
from acn_compress.architectures.llama import DEPTH_FIELDS, SAYS, branches, widths

ARCHITECTURE = Architecture(
    model_type="qwen3",
    block="Qwen3DecoderLayer",
    blocks="layers",
    branches=branches,
    widths=widths,
    modality="text",
    depth_fields=DEPTH_FIELDS,
    says=SAYS,
)
