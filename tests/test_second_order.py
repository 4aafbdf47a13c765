"""What a choice to second order is made of: gradients of drawn answers, the cost of a unit that the
others make up for, and what calibration looks at."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import GROUPED, KINDS, tiny
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from acn_compress.compression import backwards, refit, statistics
from acn_compress.compression.calibration import RandomInputs, spread
from acn_compress.compression.prune import prune_, ranking
from acn_compress.compression.prune.scores import SCORES, obs
from acn_compress.compression.prune.scores.obs import DAMPING, path
from acn_compress.compression.statistics import Moments, drawn, flows, moments
from acn_compress.compression.writers import Writer, writers
from acn_compress.errors import ConfigError, UnsupportedError, VerificationError
from acn_compress.network import widths
from acn_compress.network.adopt import adopt
from acn_compress.network.network import Network, first_output
from acn_compress.tasks import task_of

SECOND_ORDER = ("obs", "fisher", "taylor")


class Padded:
    """Random inputs with so many tokens of padding behind every text."""

    def __init__(self, net: Network, padding: int, rows: int = 24) -> None:
        self.net, self.padding, self.rows = net, padding, rows

    def __len__(self) -> int:
        return self.rows

    def batches(self, size: int, *, device: torch.device) -> Iterator[dict[str, Tensor]]:
        for batch in RandomInputs(self.net, self.rows).batches(size, device=device):
            yield {k: nn.functional.pad(v, (0, self.padding)) for k, v in batch.items()}


def loss(net: Network, given: dict[str, Tensor]) -> Tensor:
    """Of the answer that seed 0 draws."""
    generator = torch.Generator().manual_seed(0)
    try:
        task = task_of(net)
    except UnsupportedError:
        return drawn(first_output(net(**given)).double(), True, generator)
    return drawn(task.answers(net(**given), given).double(), task.numbers, generator)


def linear(out: int, units: int, size: int) -> Writer:
    """A writer of random weights, of no network."""
    width = next(iter(tiny("vit").family.widths(tiny("vit").blocks[0]).values()))
    cut = replace(width.inputs[0], size=size)
    layer = nn.Linear(units * size, out)
    return Writer(0, "heads", replace(width, units=units, inputs=(cut,)), cut, layer, None)


@pytest.mark.parametrize("size", (1, 3))
def test_a_unit_costs_what_is_left_when_the_others_make_up_for_it(size: int) -> None:
    rng, units, out = np.random.default_rng(0), 6, 4
    writer = linear(out, units, size)
    mixed = rng.normal(size=(200, units * size)) @ rng.normal(size=(units * size,) * 2) + 0.5
    x = np.concatenate([mixed, np.ones((200, 1))], 1)
    metric = rng.normal(size=(out, out))
    metric = metric @ metric.T / np.trace(metric @ metric.T)
    found = path(writer, Moments(torch.as_tensor(x.T @ x / 200), torch.as_tensor(metric)))

    # an oracle that inverts nothing: least squares on the rows themselves, damped by further rows
    root = np.linalg.cholesky(metric).T
    weight = root @ writer.weight.double().numpy()
    damping = np.sqrt(DAMPING * np.mean(np.diag(x.T @ x / 200)[:-1]))
    rows = np.concatenate([x / np.sqrt(200), damping * np.eye(units * size + 1)[:-1]])
    wanted = rows[:, :-1] @ weight.T

    def left(gone: list[int]) -> float:
        keep = [i for i in range(units * size) if i // size not in gone] + [units * size]
        change = np.linalg.lstsq(rows[:, keep], wanted, rcond=None)[0]
        return float(np.square(wanted - rows[:, keep] @ change).sum())

    first = int(found.argmin())
    assert first == int(np.argmin([left([u]) for u in range(units)]))
    assert float(found[first]) == pytest.approx(left([first]), rel=1e-3)
    second = int(found.argsort()[1])
    both = left([first, second])
    assert float(found[second]) == pytest.approx(max(both - left([first]), left([first])), rel=1e-2)


@pytest.mark.parametrize("name", KINDS)
def test_gradients_are_those_of_a_finite_difference(name: str) -> None:
    net = tiny(name)
    net.model.double()
    data = RandomInputs(net, 1)
    (given,) = spread(net, data)
    found = writers(net)
    (seen,) = flows(net, data, found)
    for writer, flow in list(zip(found, seen, strict=True))[::2]:
        moved = (flow.x * (flow.gradient @ writer.weight.float())).flatten(0, -2).sum(0)
        expected = float(moved[: writer.cut.size].sum())
        columns = torch.arange(writer.cut.size)
        along, change, h = widths.dim(writer.layer, output=False), [], 1e-2
        before = writer.layer.weight.detach().clone()
        for factor in (1 + h, 1 - h):
            with torch.no_grad():
                scaled = before.index_select(along, columns) * factor
                writer.layer.weight.copy_(before.index_copy(along, columns, scaled))
                change.append(float(loss(net, given)))
                writer.layer.weight.copy_(before)
        assert (change[0] - change[1]) / (2 * h) == pytest.approx(expected, rel=3e-2, abs=5e-4)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_kept_for_the_way_back_is_bounded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a batch is, and what is found is the same."""
    net = tiny(name)
    data = RandomInputs(net, 64)
    expected = SCORES["obs"].units(net, data)
    (one,) = spread(net, RandomInputs(net, 1))
    tokens = net.calls(**one)[0].stream.shape[1:-1].numel()
    monkeypatch.setattr(statistics, "MEMORY", 3.5 * tokens * statistics.kept_of_a_token(net))
    own = {weight.untyped_storage().data_ptr() for weight in net.model.parameters()}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        kept.setdefault(storage.data_ptr(), storage.nbytes())
        held.append(value)  # no other comes to lie there
        return value

    held: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        for part in flows(net, data, writers(net)):
            assert len(part[0].x) in (3, 2)  # of eight
            bytes_ = sum(size for place, size in kept.items() if place not in own)
            assert 0.4 * statistics.MEMORY < bytes_ * 3.5 / len(part[0].x) < statistics.MEMORY
            kept.clear()
            held.clear()
    for block, other in zip(SCORES["obs"].units(net, data), expected, strict=True):
        for width, costs in block.items():
            torch.testing.assert_close(costs, other[width], rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("alpha", [1.0, 0.3])
@pytest.mark.parametrize("name", KINDS)
def test_blocks_at_a_time_say_what_the_whole_network_says(
    name: str, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the last to the first, whether all that flows between them may be kept or not."""
    net = tiny(name, alpha)
    data = RandomInputs(net, 4)
    expected = SCORES["obs"].units(net, data)
    monkeypatch.setattr(obs, "MEMORY", 0)
    for memory in (backwards.MEMORY, 0):
        monkeypatch.setattr(backwards, "MEMORY", memory)
        for block, other in zip(SCORES["obs"].units(net, data), expected, strict=True):
            for width, costs in block.items():
                torch.testing.assert_close(costs, other[width], rtol=1e-3, atol=1e-9)


def test_a_block_is_run_twice_whatever_the_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obs, "MEMORY", 0)
    for depth in (4, 12):
        net = adopt(LlamaForCausalLM(LlamaConfig(**(GROUPED | {"num_hidden_layers": depth}))))
        runs: list[int] = [0] * depth
        for k, block in enumerate(net.blocks):

            def ran(*_: object, k: int = k, runs: list[int] = runs) -> None:
                runs[k] += 1

            block.register_forward_hook(ran)
        SCORES["obs"].units(net, RandomInputs(net, 4))
        assert set(runs) == {2 * len(list(spread(net, RandomInputs(net, 4))))}


@pytest.mark.parametrize("score", SECOND_ORDER)
@pytest.mark.parametrize("name", [n for n in KINDS if tiny(n).modality == "text"])
def test_padding_does_not_count(name: str, score: str) -> None:
    net = tiny(name)
    short, long = (SCORES[score].units(net, Padded(net, n)) for n in (0, 5))
    for one, other in zip(short, long, strict=True):
        for width in one:
            torch.testing.assert_close(one[width], other[width], rtol=2e-2, atol=1e-9)


def test_a_feature_that_another_repeats_costs_nothing() -> None:
    writer, x = linear(4, 8, 1), torch.randn(300, 8, dtype=torch.float64)
    x[:, 5] = x[:, 2]
    rows = torch.cat([x, torch.ones(300, 1)], 1)
    found = path(writer, Moments(rows.T @ rows / 300, torch.eye(4, dtype=torch.float64) / 4))
    assert int(found.argmin()) in (2, 5)
    others = [float(found[i]) for i in range(8) if i not in (2, 5)]
    assert float(found.min()) < 0.1 * min(others) < float(found[[2, 5]].max())


@pytest.mark.parametrize("score", SECOND_ORDER)
def test_of_equal_losses_the_unit_that_frees_more_goes_first(score: str) -> None:
    net = tiny("vit")
    assert SCORES[score].adds_up
    equal = tuple(
        {n: torch.ones(w.units) for n, w in net.family.widths(b).items()} for b in net.blocks
    )
    found = ranking.choices(net, equal, per_parameter=True)
    largest = max(c.cost for c in found)
    drops = ranking.everywhere(found, 2 * largest / sum(c.cost * c.units for c in found))
    assert {c.cost for c, d in zip(found, drops, strict=True) if d} == {largest}


@pytest.mark.parametrize("name", KINDS)
def test_a_refit_never_costs_more_than_a_few_passes(name: str) -> None:
    whole = tiny(name)
    net, data, runs = whole.twin(), RandomInputs(whole, 64), [0, 0]
    prune_(net, 0.3, refit=False)

    def count(at: int) -> None:
        runs[at] += 1

    for at, one in enumerate((whole, net)):
        for block in one.blocks:
            block.register_forward_pre_hook(lambda m, x, at=at: count(at))
    refit.refit_(net, whole, data)
    batches = len(list(spread(net, data)))
    # linear in depth: on, and up to each of two writers and to what reads for it; two passes more
    # count the operations, one finds what reads
    assert runs[0] <= whole.depth * (batches + 2)
    assert runs[1] <= net.depth * (5 * batches + 3)


def test_what_was_looked_at_is_said() -> None:
    assert "on 512 random inputs" in prune_(tiny("vit"), 0.3)["note"]
    net = tiny("bert")
    assert "on 24 examples" in prune_(net, 0.3, data=Padded(net, 0))["note"]
    assert "makes up" not in prune_(tiny("vit"), 0.3, refit=False)["note"]
    sparse = tiny("vit")
    prune_(sparse, 0.5, "magnitude")
    assert "Not refitted: a refit would fill the zeros" in prune_(sparse, 0.3)["note"]


def test_answers_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(VerificationError, match="answers are not finite"):
        drawn(torch.full((2, 3), torch.nan), False, torch.Generator())


def test_an_answer_is_drawn_as_likely_as_the_model_says() -> None:
    logits = torch.tensor([[1.0, 0.0]]).repeat(4000, 1).requires_grad_()
    value = drawn(logits, False, torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad(value, logits)
    # the mean gradient of a log-likelihood at its own answers is zero (Bartlett's first identity)
    assert float(gradient.mean(0).abs().max()) < 0.02


def test_moments_are_means_over_examples() -> None:
    net = tiny("vit")
    few, many = (
        next(moments(net, RandomInputs(net, rows), writers(net)[:1])) for rows in (256, 512)
    )
    assert float(few.outputs.diagonal().sum()) == pytest.approx(1.0)
    scale = float(few.inputs.diagonal().sum() / many.inputs.diagonal().sum())
    assert 0.7 < scale < 1.4


def test_moments_that_were_used_take_no_memory() -> None:
    net = tiny("vit")
    found = moments(net, RandomInputs(net, 64), writers(net))
    for _ in writers(net):
        gone = [weakref.ref(part) for part in next(found)]
        assert [part() for part in gone] == [None, None]


def test_a_score_for_which_there_is_no_data_says_so() -> None:
    with pytest.raises(ConfigError, match="score is 'activation', which looks at examples"):
        prune_(tiny("vit"), 0.3, score="activation")
