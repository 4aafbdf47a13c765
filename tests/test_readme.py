"""README and guide do what they say: their commands run, in order, as a stranger would type them;
their words and versions are right. (That the README's figures are those that were measured is a
matter of `docs/generate.py --check`.)"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import GUIDE_RUN
from typer.testing import CliRunner

import acn_compress
from acn_compress.cli.app import app
from acn_compress.reports.ran import Ran

ROOT = Path(__file__).parent.parent
PAGES = {name: (ROOT / name).read_text() for name in ("README.md", "docs/guide.md")}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", "\n".join(PAGES.values()), flags=re.S)


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("acn-compress ")]


@pytest.mark.xdist_group("runner")  # the run is looked at there as well
@pytest.mark.long
def test_the_commands_run_as_they_stand(
    digits_vit: Path,
    guide_run: tuple[Path, Ran],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digits_vit, "my-vit")
    shutil.copyfile(guide_run[0].parent / "recipe.yaml", "recipe.yaml")
    verbs = set()
    here = {"2,4": "1,2", "minilm-sst2": "my-vit", "sst2": "digits"}
    for _, verb, *rest in commands():
        arguments = [here.get(a, a) for a in rest]
        if verb == "run":  # which was done, and ended well
            assert [verb, *arguments] == GUIDE_RUN
            verbs.add(verb)
            continue
        if verb in {"convert", "prune", "compare"}:
            arguments += ["--limit", "128", "--eval-limit", "60"]
        if verb == "compare":
            arguments += ["--seeds", "1", "--routes", "drop-last,acn-one-run"]
        if verb == "compress":  # three blocks hold less to take out
            arguments = ["1.2" if a == "2" else a for a in arguments] + ["--backend", "torch"]
        if verb == "truncate":
            # less trained, so it loses more
            arguments = ["0.9" if a == "0.02" else a for a in arguments]
        if verb in {"profile", "evaluate"}:
            arguments += ["--limit", "160"]  # what 0.02 can be shown on
        result = CliRunner().invoke(app, [verb, *arguments])
        assert result.exit_code == 0, f"{verb} {arguments}: {result.stderr}{result.exception!r}"
        verbs.add(verb)
    assert verbs == {
        "convert",
        "profile",
        "truncate",
        "prune",
        "export",
        "evaluate",
        "benchmark",
        "inspect",
        "validate",
        "run",
        "compare",
        "compress",
    }
    for code in blocks("python"):
        exec(code, {})


def test_make_targets_and_links_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("sh")), flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target
    for name, page in PAGES.items():
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page):
            assert ((ROOT / name).parent / link).exists(), f"{link} in {name}"


def test_the_changelog_is_about_this_version() -> None:
    newest = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert newest is not None and newest[1] == acn_compress.__version__
