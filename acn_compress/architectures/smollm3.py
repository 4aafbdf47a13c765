"""SmolLM3 (Hugging Face, 2025): Llama's block; every fourth has no positions."""

from __future__ import annotations

from dataclasses import replace

from acn_compress.architectures import llama

ARCHITECTURE = replace(
    llama.ARCHITECTURE,
    model_type="smollm3",
    block="SmolLM3DecoderLayer",
    depth_fields=(*llama.DEPTH_FIELDS, "no_rope_layers"),
)
