"""A network in memory: the stack that runs the equation, its structure, its widths and zeros."""
