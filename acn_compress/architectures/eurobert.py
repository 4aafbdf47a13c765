"""EuroBERT (arXiv 2503.05500): Llama's block under a mask that sees both ways."""

from __future__ import annotations

from dataclasses import replace

from acn_compress.architectures import llama

ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    model_type="eurobert",
    block="EuroBertDecoderLayer",
)
