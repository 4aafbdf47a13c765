"""Scores of structured pruning: what holds for every one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_refit import Inputs
from tiny import KINDS, network, saved, tiny

from acn_compress import prune
from acn_compress.compression.prune import SCORES
from acn_compress.data.load import load_data
from acn_compress.errors import ConfigError
from acn_compress.network import widths


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("model", KINDS)
def test_units_that_do_nothing_are_worth_least(model: str, name: str) -> None:
    net, score = tiny(model), SCORES[name]
    block = net.blocks[1]
    idle = {name: width.units // 2 for name, width in net.family.widths(block).items()}
    for name_of, width in net.family.widths(block).items():
        widths.zero_(block, width, [idle[name_of]])
    for k, scores in enumerate(score.units(net, Inputs(net))):
        assert scores.keys() == idle.keys()
        for name_of, values in scores.items():
            assert values.shape == (net.family.widths(net.blocks[k])[name_of].units,)
            assert score.adds_up or float(values.mean()) == pytest.approx(1.0, rel=1e-4)
            if k == 1:
                least = int(values.argmin())
                assert least == idle[name_of] and float(values[least]) < 1e-9 * values.mean()


def test_activation_energy_follows_the_data_and_not_its_number(digits_vit: Path) -> None:
    net = network(digits_vit)
    few, twice = (load_data("digits", net, None, role="train", limit=n) for n in (64, 64))
    one, other = (SCORES["activation"].units(net, d) for d in (few, twice))
    assert all(torch.equal(a[n], b[n]) for a, b in zip(one, other, strict=True) for n in a)
    plain = SCORES["magnitude"].units(net, None)
    assert any(not torch.allclose(a[n], b[n]) for a, b in zip(one, plain, strict=True) for n in a)


def test_a_score_that_looks_at_examples_needs_some(tmp_path: Path) -> None:
    source = saved(tiny("vit"), tmp_path / "source")
    with pytest.raises(ConfigError, match="score is 'activation', which looks at examples"):
        prune(source, tmp_path / "out", target_sparsity=0.3, score="activation")


def test_pruning_by_activation_is_recorded_and_measured(digits_vit: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"target_sparsity": 0.3, "score": "activation", "scope": "layer"}
    report = prune(digits_vit, tmp_path / "out", data="digits", limit=64, **options)
    assert 0 < report.achieved <= 0.3 and report["max_difference"] < report["tolerance"]
    assert report.drop is not None and network(tmp_path / "out").structure.widths is not None
