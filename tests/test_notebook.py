"""The notebook in docs does what it says: its cells run, in order, as they stand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import acn_compress
from acn_compress.quality import NOT_MEASURED

NOTEBOOK = Path(__file__).parent.parent / "docs" / "digits.ipynb"


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text())["cells"]
    return found


def code() -> list[str]:
    return ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]


def test_it_is_kept_without_what_a_run_left_in_it() -> None:
    """And calls nothing that is not there."""
    for cell in cells():
        assert cell["cell_type"] == "markdown" or cell["outputs"] == []
    source = "\n".join(code())
    compile(source, NOTEBOOK.name, "exec")
    for verb in ("finetune", "compress", "load"):
        assert f"acn.{verb}(" in source and verb in acn_compress.__all__


@pytest.mark.long
def test_its_cells_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in code():
        exec(compile(cell, NOTEBOOK.name, "exec"), names)
    whole, mine, *_ = names["small"].rows
    assert names["small"].held and mine.parameters <= 0.5 * whole.parameters
    right = (names["answers"].numpy() == names["digits"].target[:16]).mean()
    assert whole.quality.value > 0.8 and right > 0.5
    *_, same, quality = capsys.readouterr().out.splitlines()
    assert same == "True" and quality != NOT_MEASURED
