"""The code on docs/python.md runs, in order, as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "python.md"


@pytest.mark.usefixtures("no_table")
@pytest.mark.long
def test_the_code_runs_as_it_stands(
    digits_vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digits_vit, "my-vit")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S):
        exec(compile(block, PAGE.name, "exec"), names)
    assert {"report", "profile", "run", "again"} <= names.keys() and names["seen"]
