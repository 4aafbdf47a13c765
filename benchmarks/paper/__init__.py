"""The eleven claims of arXiv 2506.09714, measured at a small scale. The command is
`python -m benchmarks.claims`."""
