"""Networks to be compressed along every route. The command is `python -m benchmarks.routes`."""
