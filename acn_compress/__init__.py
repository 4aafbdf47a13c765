"""acn-compress: trained transformer checkpoint in, smaller, faster, verified model out.

Importing this package is light and teaches transformers the compressed model types: afterwards
`AutoModelFor...from_pretrained(directory)` and `pipeline` load what acn-compress wrote.
"""

from __future__ import annotations

__version__ = "0.1.0"

import acn_compress.compat as _compat  # noqa: F401
import acn_compress.registration as _registration  # noqa: F401
