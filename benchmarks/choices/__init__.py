"""Single choices of a conversion, tried one by one: `python -m benchmarks.trials`."""
