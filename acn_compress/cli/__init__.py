"""The command line."""

from acn_compress.cli.app import app, main

__all__ = ["app", "main"]
