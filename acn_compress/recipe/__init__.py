"""A chain of steps as data (YAML): read, run, compared with the plain baseline."""
