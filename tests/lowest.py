"""The oldest versions that pyproject.toml allows, as pip's constraints: `make test-lowest`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def lowest(pyproject: Path) -> list[str]:
    """name==version of every requirement with a lower bound; our own tools are not users'."""
    project = tomllib.loads(pyproject.read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(r for e, rs in extras.items() if e != "dev" for r in rs)]
    found = (re.match(r"([\w.-]+)>=([\w.]+)", requirement) for requirement in asked)
    return [f"{match[1]}=={match[2]}" for match in found if match]


if __name__ == "__main__":
    print("\n".join(lowest(Path(__file__).parents[1] / "pyproject.toml")))
