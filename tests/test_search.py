"""A search for what stays: the best plan for every budget, and what is made of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest
import torch
from tiny import MODELS, outputs, tiny

from acn_compress.compression import refit
from acn_compress.compression.calibration import RandomInputs
from acn_compress.compression.candidates import Candidates, Parameters
from acn_compress.compression.search import STEPS, Plan, Search, Worth
from acn_compress.compression.statistics import rise_without
from acn_compress.errors import ConfigError
from acn_compress.network import widths

FAMILIES = [name for name in MODELS if "-" not in name]  # one head of each
UNITS = {"heads": 3, "mlp": 4}


def price(block: int, kept: Mapping[str, int]) -> float:
    return 0.3 + 0.1 * block + 0.5 * kept["heads"] + 0.2 * kept["mlp"]


def drawn(seed: int, blocks: int = 3) -> Search:
    """Costs of units that rise, as a path of Optimal Brain Surgeon has them."""
    rng = np.random.default_rng(seed)
    rises = [
        {
            w: np.concatenate([[0], np.cumsum(np.sort(rng.random(n)))])[::-1]
            for w, n in UNITS.items()
        }
        for _ in range(blocks)
    ]
    gone = [float(2 * rng.random()) if seed % 2 or i < blocks - 1 else None for i in range(blocks)]
    return Search([Worth(r, g) for r, g in zip(rises, gone, strict=True)], price, 1.0)


def every_plan(search: Search) -> list[tuple[float, float]]:
    """(price, loss) of all there are: the block that is missed most stays."""
    missed = [np.inf if w.whole is None else w.whole for w in search.worth]
    options = []
    for i, worth in enumerate(search.worth):
        some = [
            (price(i, {"heads": h, "mlp": m}), worth.units["heads"][h] + worth.units["mlp"][m])
            for h, m in product(range(1, 4), range(1, 5))
        ]
        if worth.whole is not None and i != int(np.argmax(missed)):
            some.append((0.0, worth.whole))
        options.append(some)
    return [(1 + sum(p for p, _ in c), sum(r for _, r in c)) for c in product(*options)]


@pytest.mark.parametrize("seed", range(8))
def test_no_plan_is_better_at_any_budget(seed: int) -> None:
    search = drawn(seed)
    plans, step = every_plan(search), search.most / STEPS
    for budget in np.linspace(search.least, search.most, 7):
        found = search.within(budget)
        assert found.price <= budget + len(search.worth) * step
        cheaper = [loss for cost, loss in plans if cost <= budget - len(search.worth) * step]
        assert found.loss <= min(cheaper, default=np.inf)
        assert found.loss == pytest.approx(
            sum(
                float(w.whole or 0)
                if k is None
                else sum(float(w.units[n][u]) for n, u in k.items())
                for w, k in zip(search.worth, found.blocks, strict=True)
            )
        )


def test_the_whole_budget_keeps_everything_and_less_than_nothing_is_refused() -> None:
    search = drawn(0)
    assert search.within(search.most) == Plan((UNITS,) * 3, search.most, 0.0)
    with pytest.raises(ConfigError, match=r"no plan costs as little as 0\.5: the cheapest costs"):
        search.within(0.5)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_plan_that_keeps_everything_changes_nothing(name: str) -> None:
    net = tiny(name)
    candidates = Candidates.of(net, RandomInputs(net, 16))
    inputs = net.example_inputs()
    before = outputs(net, **inputs)
    made = candidates.make(widths.counts(net))
    assert torch.equal(outputs(made, **inputs), before)
    assert candidates.parameters(widths.counts(net)) == net.parameters


@pytest.mark.parametrize("name", FAMILIES)
def test_a_plan_is_made_as_it_says_and_the_network_stays(name: str) -> None:
    net = tiny(name)
    candidates = Candidates.of(net, RandomInputs(net, 16))
    inputs = net.example_inputs()
    before = outputs(net, **inputs)
    for blocks in (True, False):
        search = Search(
            candidates.worth(blocks), parameters := Parameters.of(net), parameters.outside
        )
        plan = search.within((search.least + search.most) / 2)
        made = candidates.make(plan.blocks)
        kept = [block for block in plan.blocks if block is not None]
        assert list(widths.counts(made)) == kept
        assert made.parameters == candidates.parameters(plan.blocks) == round(plan.price)
        assert outputs(made, **inputs).isfinite().all()
    assert torch.equal(outputs(net, **inputs), before)


@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("name", ["vit", "bert", "llama", "mixer"])
def test_blocks_go_only_where_a_refit_can_follow(name: str, alpha: float) -> None:
    net = tiny(name, alpha)
    candidates = Candidates.of(net, RandomInputs(net, 16))
    able = refit.refused(net) is None
    assert [w is not None for w in candidates.without[:-1]] == [able] * (net.depth - 1)
    last = candidates.without[-1] is not None
    assert last == (able and net.norm_behind(0) is None)
    parameters = Parameters.of(net)
    search = Search(candidates.worth(True), parameters, parameters.outside)
    smallest = search.within(search.least)
    assert sum(block is not None for block in smallest.blocks) == (1 if able else net.depth)


def test_a_block_that_adds_nothing_is_not_missed() -> None:
    net = tiny("vit")
    for parameter in net.blocks[1].parameters():
        parameter.data.zero_()
    rises = rise_without(net, RandomInputs(net, 16))
    assert rises[1] == pytest.approx(0, abs=1e-6)
    assert min(rises[0], rises[2]) > 1e-4
