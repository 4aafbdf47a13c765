"""DeiT (arXiv 2012.12877): ViT's blocks, with or without the distillation token, which is one more
token to them."""

from __future__ import annotations

from dataclasses import replace

from acn_compress.architectures import vit

ARCHITECTURE = replace(vit.ARCHITECTURE, model_type="deit", block="DeiTLayer")
