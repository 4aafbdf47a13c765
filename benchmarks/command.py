"""What the commands share: how they read their options, and where their results go."""

from __future__ import annotations

import argparse
from pathlib import Path

from acn_compress.found import Found

RESULTS = Path(__file__).parent / "results"


def parser(text: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows the docstring of its command as it stands."""
    return argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def rounded(data: object) -> object:
    """Plain data with floats cut to five digits behind the point, and text for keys."""
    if isinstance(data, Found):
        return rounded(data.plain())
    if isinstance(data, dict):
        return {str(k): rounded(v) for k, v in data.items()}
    if isinstance(data, list | tuple):
        return [rounded(v) for v in data]
    return round(data, 5) if isinstance(data, float) else data
