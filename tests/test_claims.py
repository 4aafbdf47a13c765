"""The paper's claims as benchmarks: the definitions they rest on, and one claim run on digits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from acn_compress.network.network import Network
from benchmarks import claims
from benchmarks.paper.continual import SynapticIntelligence
from benchmarks.paper.entry import Entry, markdown
from benchmarks.paper.exits import Answers
from benchmarks.paper.gradients import block_gradients
from benchmarks.paper.setting import SCALES, Lab, Wanted

pytest.importorskip("timm")

from acn_compress.tasks import TASKS

TINY = replace(
    SCALES["long"],
    blocks=3,
    width=16,
    images=200,
    epochs=1,
    test=100,
    task_images=40,
    task_epochs=1,
    transfer_images=100,
    transfer_epochs=1,
    movement_epochs=1,
    seeds=(0,),
    few=(0, 1),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab("digits", tmp_path_factory.mktemp("claims"), TINY)


@pytest.fixture
def acn(lab: Lab) -> Network:
    net = lab.fresh(Wanted("acn", seed=0))
    for p in net.model.timm_model.get_classifier().parameters():
        torch.nn.init.normal_(p, std=0.1)  # a head of zeros would leave no gradient
    return net


def test_direct_and_mediated_gradients_add_up_to_the_full_one(lab: Lab, acn: Network) -> None:
    batch = next(iter(lab.test().batches(16)))
    found = block_gradients(acn, batch, TASKS["image-classification"])
    assert len(found) == 3
    for direct, through, full in found:
        torch.testing.assert_close(direct + through, full, rtol=1e-4, atol=1e-6)
        assert float(full.norm()) > 0
    torch.testing.assert_close(found[-1][0], found[-1][2], rtol=1e-4, atol=1e-6)
    assert float(found[0][1].norm()) > 0


def test_synaptic_intelligence_costs_nothing_at_its_anchor_and_something_beyond(
    acn: Network,
) -> None:
    memory = SynapticIntelligence(acn)
    parameters = list(acn.model.parameters())
    before = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p in parameters:
            p -= 0.1
    memory.follow([torch.ones_like(p) for p in parameters], before)
    memory.consolidate()
    assert float(memory.penalty().detach()) == 0.0
    with torch.no_grad():
        parameters[0] += 0.2
    # importance 0.1 / (0.1^2 + 0.1) of each weight, moved by 0.2
    assert float(memory.penalty().detach()) == pytest.approx(
        parameters[0].numel() * 0.1 / 0.11 * 0.04, rel=1e-4
    )


def test_an_exit_is_the_first_depth_that_is_sure() -> None:
    entropy = torch.tensor([[0.9, 0.2], [0.5, 0.9], [0.1, 0.9]])
    found = Answers(
        entropy, torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]), outside=0.0, block=1.0
    ).exit_at(0.7)
    assert found.mean_depth == 1.5
    assert found.accuracy == 1.0
    assert found.speedup == 2.0


def test_a_claim_is_measured_written_and_kept_beside_others(lab: Lab, tmp_path: Path) -> None:
    out = tmp_path / "claims.json"
    claims.run(lab, "tiny", ["11"], out)
    entries = claims.run(lab, "tiny", ["4"], out)
    assert [e.number for e in entries] == ["4", "11"]
    report = json.loads(out.read_text())
    assert (
        report["scale"]["name"] == "tiny"
        and len(report["entries"][1]["figures"]["acn"][0]["end"]["ratio"]) == 3
    )
    assert markdown(entries).count("\n") == 3


def test_the_table_names_claim_and_verdict() -> None:
    assert "| 4b | c | t | o | s | `--only 4b` | no |" in markdown(
        [Entry("4b", "c", "t", "o", "s", "no")]
    )


@pytest.mark.parametrize(("name", "scale"), [("claims", "small"), ("claims-long", "long")])
def test_the_page_shows_the_figures_of_the_results(name: str, scale: str) -> None:
    root = Path(__file__).parents[1]
    report = json.loads((root / "benchmarks" / "results" / f"{name}.json").read_text())
    entries = [claims.entry(e) for e in report["entries"]]
    assert report["scale"]["name"] == scale
    if scale == "small":
        assert [e.number for e in entries] == list(claims.CLAIMS)
    assert markdown(entries) in (root / "docs" / "claims.md").read_text()
