"""One file per command; each reads a model directory and returns a report. Steps do not import each
other."""
