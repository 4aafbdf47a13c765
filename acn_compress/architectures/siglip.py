"""SigLIP (arXiv 2303.15343): CLIP's towers; the one of texts sees both ways."""

from __future__ import annotations

from acn_compress.architectures import clip

VISION, TEXT, ARCHITECTURE = clip.families("siglip", "SiglipEncoderLayer")
