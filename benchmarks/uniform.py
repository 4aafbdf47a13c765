"""What it costs, without any training, that every block keeps the same widths, in multiples of
eight, so that plain transformers loads the result; against free widths of the same share.

    python -m benchmarks.uniform MINILM --data SST2

As `benchmarks.structured`, by whose rules all is measured. Writes uniform-NAME.json.
"""

from benchmarks.structured import Routes, by, main

ROUTES: Routes = {
    "free": (by("obs", refit=True), 1),
    "free, round-to 8": (by("obs", refit=True, round_to=8), 1),
    "uniform, round-to 8": (by("obs", refit=True, uniform=True, round_to=8), 1),
}

if __name__ == "__main__":
    main(__doc__, "uniform", ROUTES)
