"""What the figures in the documentation were measured with. Every module with a `main` is a
command, run in the root of a clone: `python -m benchmarks.claims --help`. README.md says which
command made which file of `results/`."""
