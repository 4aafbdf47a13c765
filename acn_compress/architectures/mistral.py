"""Mistral (arXiv 2310.06825): Llama's block under a sliding-window mask."""

from __future__ import annotations

from acn_compress.architectures.base import Architecture
from acn_compress.architectures.llama import DEPTH_FIELDS, SAYS, branches, widths

ARCHITECTURE = Architecture(
    model_type="mistral",
    block="MistralDecoderLayer",
    blocks="layers",
    branches=branches,
    widths=widths,
    modality="text",
    depth_fields=DEPTH_FIELDS,
    says=SAYS,
)
