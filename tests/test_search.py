"""A search for what stays: the best plan for every budget, and what is made of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
import pytest
import torch
from tiny import IMAGE, KINDS, SHAPE, outputs, tiny
from transformers import ViTConfig, ViTForImageClassification

from acn_compress.compression import refit
from acn_compress.compression.blocks import least_missed, weighed_on, weighing
from acn_compress.compression.calibration import RandomInputs
from acn_compress.compression.candidates import Candidates, Parameters
from acn_compress.compression.search import STEPS, Array, Plan, Search, Worth, options
from acn_compress.compression.writers import writers_of
from acn_compress.errors import ConfigError
from acn_compress.network import widths
from acn_compress.network.adopt import adopt

UNITS = {"heads": 3, "mlp": 4}


def price(block: int, kept: Mapping[str, int]) -> float:
    return 0.3 + 0.1 * block + 0.5 * kept["heads"] + 0.2 * kept["mlp"]


def rises(rng: np.random.Generator, units: int) -> Array:
    """Costs of units that rise, as a path of Optimal Brain Surgeon has them."""
    return np.concatenate([[0], np.cumsum(np.sort(rng.random(units)))])[::-1]


def worth(seed: int, blocks: int = 3) -> list[Worth]:
    rng = np.random.default_rng(seed)
    return [{name: rises(rng, units) for name, units in UNITS.items()} for _ in range(blocks)]


def drawn(seed: int) -> Search:
    """Every other one without its second block."""
    gone = frozenset({1} if seed % 2 else ())
    return Search(options(worth(seed), price), 1.0, gone, 0.25 * len(gone))


def every_plan(seed: int) -> list[tuple[float, float]]:
    """(price, loss) of all there are."""
    found = [
        [
            (price(i, {"heads": h, "mlp": m}), float(block["heads"][h] + block["mlp"][m]))
            for h, m in product(range(1, 4), range(1, 5))
        ]
        for i, block in enumerate(worth(seed))
    ]
    if seed % 2:
        found[1] = [(0.0, 0.25)]
    return [(1 + sum(p for p, _ in plan), sum(r for _, r in plan)) for plan in product(*found)]


@pytest.mark.parametrize("seed", range(8))
def test_no_plan_is_better_at_any_budget(seed: int) -> None:
    search, plans = drawn(seed), every_plan(seed)
    slack = 3 * (search.most - 1) / STEPS
    assert search.least == pytest.approx(min(cost for cost, _ in plans), abs=slack)
    for budget in np.linspace(search.least, search.most, 7):
        found = search.within(budget)
        assert found.price <= budget + slack
        cheaper = [loss for cost, loss in plans if cost <= budget - slack]
        assert found.loss <= min(cheaper, default=np.inf) + 1e-12
        assert any((found.price, found.loss) == pytest.approx(plan, abs=1e-9) for plan in plans)


def test_the_whole_budget_keeps_everything_and_less_than_nothing_is_refused() -> None:
    search = drawn(0)
    assert search.within(search.most) == Plan((UNITS,) * 3, search.most, 0.0)
    with pytest.raises(ConfigError, match=r"no plan costs as little as 0\.5: the cheapest costs"):
        search.within(0.5)


@pytest.mark.parametrize("name", KINDS)
def test_a_plan_is_made_as_it_says_and_the_network_stays(name: str) -> None:
    net = tiny(name)
    candidates = Candidates.of(net, RandomInputs(net, 16))
    inputs, parameters = net.example_inputs(), Parameters.of(net)
    before = outputs(net, **inputs)
    whole = candidates.make(widths.counts(net))
    assert torch.equal(outputs(whole, **inputs), before)
    assert candidates.parameters(widths.counts(net)) == net.parameters
    able = options(candidates.worth(), parameters)
    for number in {0, len(candidates.gone) // 2}:
        gone = frozenset(block for block, _ in candidates.gone[:number])
        search = Search(able, parameters.outside, gone)
        plan = search.within((search.least + search.most) / 2)
        made = candidates.make(plan.blocks)
        kept = [block for block in plan.blocks if block is not None]
        assert list(widths.counts(made)) == kept and len(kept) == net.depth - number
        assert made.parameters == candidates.parameters(plan.blocks) == round(plan.price)
        assert outputs(made, **inputs).isfinite().all()
    assert torch.equal(outputs(net, **inputs), before)


@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("name", ["vit", "bert", "llama", "mixer"])
def test_blocks_go_only_where_a_refit_can_follow(name: str, alpha: float) -> None:
    net = tiny(name, alpha)
    order = [block for block, _ in Candidates.of(net, RandomInputs(net, 16)).gone]
    assert len(set(order)) == (net.depth - 1 if refit.refused(net) is None else 0)
    assert net.norm_behind(0) is None or net.depth - 1 not in order


def test_a_block_that_adds_nothing_is_missed_least() -> None:
    net = tiny("vit")
    for parameter in net.blocks[1].parameters():
        parameter.data.zero_()
    (first, rise), *others = least_missed(net, RandomInputs(net, 16), range(net.depth))
    assert first == 1 and rise == pytest.approx(0, abs=1e-6)
    assert min(rise for _, rise in others) > 1e-4


@pytest.mark.parametrize("seed", range(2))
def test_a_block_that_the_others_make_up_for_goes_first(seed: int) -> None:
    """It adds the same to every token, which a bias in front of it can as well."""
    net = tiny("vit")
    for parameter in net.model.parameters():  # what the others do is missed
        if parameter.dim() == 2:
            parameter.data.mul_(10)
    for writer in writers_of(net, 1):
        writer.weight.data.zero_()
        writer.layer.bias.data.normal_(0, 3, generator=torch.Generator().manual_seed(0))
    data = RandomInputs(net, 256, seed)
    (first, rise), *_ = Candidates.of(net, data).gone
    assert first == 1 and rise > 1e-4  # far from rounding
    assert least_missed(net, data, range(net.depth))[0][0] != 1  # while nobody does


def test_blocks_are_missed_together_and_not_one_by_one() -> None:
    net = tiny("vit")
    inputs = net.example_inputs(batch=16, seed=0)
    order = least_missed(net, RandomInputs(net, 16), range(net.depth))
    with torch.inference_mode():
        whole = net.answer(**inputs).log_softmax(-1)
        for number, (_, rise) in enumerate(order, 1):
            with net.bypassing([block for block, _ in order[:number]]):
                now = net.answer(**inputs).log_softmax(-1)
            apart = (whole.exp() * (whole - now)).sum() / 16
            assert rise == pytest.approx(float(apart), rel=1e-3, abs=1e-6)


def test_blocks_that_are_run_to_choose_among_them_grow_as_the_depth() -> None:
    per_block = []
    for depth in (6, 12, 24):
        config = ViTConfig(**SHAPE | {"num_hidden_layers": depth}, **IMAGE, num_labels=10)
        net, run = adopt(ViTForImageClassification(config).eval()), [0]

        def count(block: object, given: tuple[torch.Tensor, ...], run: list[int] = run) -> None:
            run[0] += len(given[0])

        for block in net.blocks:
            block.register_forward_pre_hook(count)
        gone = depth - depth // 4
        assert len(least_missed(net, RandomInputs(net, 1), range(depth), gone)) == gone
        assert run[0] == weighing(depth, depth, gone).blocks
        per_block.append(weighed_on(net) * run[0] / depth)
    assert max(per_block) < 1.5 * min(per_block)
