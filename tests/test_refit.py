"""The least-squares refit: it finds weights that were lost, leads a cut network back to the whole
one, and harms nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import FAMILIES, KINDS, MODELS, network, outputs, tiny
from torch import Tensor

from acn_compress import convert, truncate
from acn_compress.checkpoint import load as checkpoint
from acn_compress.checkpoint.find import find_source
from acn_compress.compression import refit, walk
from acn_compress.compression.blocks import best as best_blocks
from acn_compress.compression.prune import prune_
from acn_compress.compression.start import SHARE, cut_
from acn_compress.data.load import load_data
from acn_compress.data.splits import eval_split, training_split
from acn_compress.errors import ConfigError
from acn_compress.measure.budget import training_flops
from acn_compress.measure.quality import measure
from acn_compress.network.network import Network
from acn_compress.options import Trained

DIGITS = Trained(data="digits")


class Inputs:
    """Random inputs in batches, which is all that a refit asks of its data."""

    def __init__(self, net: Network, count: int = 256) -> None:
        torch.manual_seed(1)
        self.all = net.example_inputs(batch=count)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def batches(self, size: int, *, device: torch.device) -> Iterator[dict[str, Tensor]]:
        for i in range(0, self.count, size):
            yield {k: v[i : i + size] for k, v in self.all.items()}


def error(net: Network, whole: Network, data: Inputs) -> float:
    """Mean squared difference of the two networks' answers."""
    return float((outputs(net, **data.all) - outputs(whole, **data.all)).square().mean())


# every writer of every model in one form; one family of each kind in the other
BOTH = [*((name, 0.5) for name in MODELS), *((name, 1.0) for name in KINDS)]


@pytest.mark.parametrize(("name", "alpha"), BOTH)
def test_a_layer_that_was_damaged_is_found_again(
    name: str, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny(name, alpha)
    net, data = whole.twin(), Inputs(whole)
    block = net.blocks[-1]
    writer = net.family.widths(block)["mlp"].inputs[0]
    layer = block.get_submodule(writer.path)
    assert isinstance(layer.weight, torch.nn.Parameter)
    layer.weight = torch.nn.Parameter(layer.weight + 0.3 * torch.randn_like(layer.weight))
    before, untouched = error(net, whole, data), outputs(whole, **data.all)
    monkeypatch.setattr(refit, "first_changed", lambda net, whole: net.depth - 1)
    assert refit.refit_(net, whole, data) > 0
    assert error(net, whole, data) < 1e-4 * before
    assert torch.equal(outputs(whole, **data.all), untouched)


@pytest.mark.parametrize(("name", "alpha"), BOTH)
def test_a_network_that_lost_heads_and_features_answers_more_like_the_whole_one(
    name: str, alpha: float
) -> None:
    whole = tiny(name, alpha)
    net, data = whole.twin(), Inputs(whole)
    prune_(net, 0.3, score="magnitude", refit=False)
    before, structure, untouched = (
        error(net, whole, data),
        net.structure,
        outputs(whole, **data.all),
    )
    assert walk.price(net, whole) > 0 and refit.refit_(net, whole, data) > 0
    # behind a norm, what a branch lost in length comes back as what it has left in direction
    behind = name.startswith(("gemma3", "olmo2"))
    assert error(net, whole, data) < (0.8 if behind else 0.5) * before
    assert net.structure == structure and torch.equal(outputs(whole, **data.all), untouched)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_cut_network_answers_more_like_the_whole_one(name: str) -> None:
    whole = tiny(name)
    net, data = whole.twin(), Inputs(whole)
    shapes = {k: v.shape for k, v in net.model.state_dict().items()}
    net.truncate_(2)
    before = error(net, whole, data)
    assert refit.refit_(net, whole, data) > 0
    assert error(net, whole, data) < before
    assert all(v.shape == shapes[k] for k, v in net.model.state_dict().items())


def test_what_is_right_already_stays_bit_for_bit() -> None:
    whole = tiny("vit")
    net, data = whole.twin(), Inputs(whole)
    assert walk.price(net, whole) == 0.0 == refit.refit_(net, whole, data)
    assert torch.equal(outputs(net, **data.all), outputs(whole, **data.all))
    net.truncate_(2)
    first = net.twin()
    refit.refit_(net, whole, data)
    changed = {
        k
        for k, v in net.model.state_dict().items()
        if not torch.equal(v, first.model.state_dict()[k])
    }
    assert changed and all(
        ".1.attention.o_proj." in k or ".1.mlp.fc2." in k for k in changed
    )  # the first block's sum was right


def test_with_one_batch_nothing_can_be_held_out_and_nothing_changes() -> None:
    whole = tiny("vit")
    net, data = whole.twin(), Inputs(whole, 1)
    net.truncate_(2)
    before = outputs(net, **data.all)
    refit.refit_(net, whole, data)
    assert torch.equal(outputs(net, **data.all), before)


def test_what_cannot_be_refitted_is_refused(digits_vit: Path, tmp_path: Path) -> None:
    hybrid = tiny("bert", 0.5)
    shallow = hybrid.twin()
    shallow.truncate_(2)
    with pytest.raises(
        ConfigError,
        match="a post-norm network is refitted in residual form; this one is in hybrid form",
    ):
        refit.refit_(shallow, hybrid, Inputs(hybrid))
    whole, part = tiny("vit"), tiny("vit")
    whole.truncate_(2)
    with pytest.raises(ConfigError, match="needs the network that the model was cut from"):
        refit.refit_(part, whole, Inputs(whole))
    part.set_structure_(part.structure.changed(sparsity=0.5))
    with pytest.raises(ConfigError, match="would fill the zeros of a pruned model"):
        cut_(part, 2, "first", DIGITS, None, refitted=True)
    assert (
        cut_(part, 2, "first", DIGITS, None, refitted=None) == 0.0
    )  # where it cannot be done it is left out


def test_a_trained_network_is_better_for_it_and_loads_again(
    digits_vit: Path, tmp_path: Path
) -> None:
    plain = truncate(digits_vit, tmp_path / "plain", depth=1, data="digits")
    fitted = truncate(digits_vit, tmp_path / "fitted", depth=1, data="digits", refit_data="digits")
    assert fitted["after"]["value"] > plain["after"]["value"] + 0.05
    assert "nothing was trained" in fitted["note"]
    net = network(tmp_path / "fitted")
    source = find_source(tmp_path / "fitted")
    test = eval_split(DIGITS, net, source)
    assert test is not None and measure(net, test).value == fitted["after"]["value"]


@pytest.mark.long
def test_blocks_that_others_make_up_for_are_cut_by_a_command(
    digits_vit: Path, tmp_path: Path
) -> None:
    cut = partial(truncate, digits_vit, data="digits")
    fitted = cut(tmp_path / "fitted", depth=2, refit_data="digits")
    best = cut(tmp_path / "best", depth=2, refit_data="digits", keep="best")
    assert "make up for best" in best["why"] and "nothing was trained" in best["note"]
    net, whole = network(tmp_path / "best"), network(digits_vit)
    few = load_data("digits", whole, None, role="train", limit=refit.EXAMPLES)
    assert net.structure.blocks == best_blocks(whole, 2, few).blocks
    test = eval_split(DIGITS, net, find_source(tmp_path / "best"))
    assert test is not None and measure(net, test).value == best["after"]["value"]
    assert best["after"]["loss"] <= fitted["after"]["loss"]
    for wrong in (partial(cut, depth=2), partial(cut, max_drop=0.1, refit_data="digits")):
        with pytest.raises(ConfigError, match="keep best, which needs depth and refit_data"):
            wrong(tmp_path / "none", keep="best")


@pytest.mark.long
def test_a_refit_before_training_is_paid_for_and_takes_no_more_than_its_share(
    digits_vit: Path, tmp_path: Path
) -> None:
    source = find_source(digits_vit)
    whole = checkpoint.load_source(source)
    how = Trained(data="digits", epochs=2.0)
    net = checkpoint.load_source(source)
    spent = cut_(net, 1, "first", how, source, refitted=True)
    examples = len(training_split(how, whole, source))
    training = 2.0 * examples * training_flops(whole, depth=1, teacher_depth=3)
    assert 0 < spent < 1.5 * SHARE * training  # solving comes on top of the share
    tiny_budget, again = Trained(data="digits", epochs=0.01), checkpoint.load_source(source)
    assert cut_(again, 1, "first", tiny_budget, source, refitted=True) == 0.0
    for refitted, flops in ((None, spent), (False, 0.0)):
        out = tmp_path / str(refitted)
        report = convert(
            digits_vit,
            out,
            "digits",
            epochs=2.0,
            depth=1,
            keep="first",
            alpha_end=0.5,
            refit=refitted,
        )
        assert report["choosing_flops"] == pytest.approx(flops)
