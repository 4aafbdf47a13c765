"""Laws of pruning, for every architecture: exact shares, cut equals masked, saved equals loaded."""

from __future__ import annotations

import copy
import gzip
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_pruning as tp
from tiny import KINDS, network, outputs, plain, saved, tiny

import acn_compress
from acn_compress import prune
from acn_compress.architectures import ARCHITECTURES
from acn_compress.checkpoint.find import find_source
from acn_compress.compression.prune import METHODS, SCORES, Aim, Method, Score, prune_
from acn_compress.compression.prune.cut import TOLERANCE
from acn_compress.compression.prune.magnitude import zero_smallest_
from acn_compress.compression.prune.ranking import choices, everywhere, in_each
from acn_compress.compression.prune.scores.magnitude import over_mean
from acn_compress.errors import ConfigError, Interrupted, ModelDirError, VerificationError
from acn_compress.events import Event, TrainingStep
from acn_compress.network import widths
from acn_compress.network.adopt import adopt
from acn_compress.network.network import Network, first_output
from acn_compress.network.zeros import matrices


def zeros(net: Network) -> int:
    return sum(int((w == 0).sum()) for w in matrices(net).values())


# magnitude


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.937])
def test_magnitude_reaches_the_share_within_one_weight(family: str, share: float) -> None:
    net = tiny(family)
    report = prune_(net, share, "magnitude")
    total = sum(w.numel() for w in matrices(net).values())
    assert zeros(net) == report["zeros"] == round(share * total)
    assert report["weights"] == total
    assert report["achieved"] == net.structure.sparsity == zeros(net) / total
    assert report["of"] == f"zeros among {total:,} weights of the blocks"
    assert "neither the dense file smaller nor the model faster" in report["note"]


@pytest.mark.parametrize("family", KINDS)
def test_magnitude_by_layer_gives_every_matrix_the_same_share(family: str) -> None:
    net = tiny(family)
    report = prune_(net, 0.3, "magnitude", "layer")
    for name, weight in matrices(net).items():
        assert int((weight == 0).sum()) == round(0.3 * weight.numel())
        assert report["matrices"][name] == pytest.approx(0.3, abs=1 / weight.numel())


@pytest.mark.parametrize("family", KINDS)
def test_global_magnitude_zeroes_the_smallest_weights_anywhere(family: str) -> None:
    net = tiny(family)
    before = net.copy()
    next(iter(matrices(before).values())).data *= 100  # one matrix of large weights loses none
    net = before.copy()
    report = prune_(net, 0.5, "magnitude")
    assert next(iter(report["matrices"].values())) < 0.02
    kept = torch.cat([w[w != 0].abs() for w in matrices(net).values()])
    dropped = torch.cat(
        [
            b[w == 0].abs()
            for b, w in zip(matrices(before).values(), matrices(net).values(), strict=True)
        ]
    )
    assert dropped.max() <= kept.min()
    for b, w in zip(matrices(before).values(), matrices(net).values(), strict=True):
        assert torch.equal(b[w != 0], w[w != 0])


def test_ties_are_counted_exactly() -> None:
    net = tiny("vit")
    with torch.no_grad():
        for weight in matrices(net).values():
            weight.fill_(0.5)
    assert prune_(net, 0.25, "magnitude")["achieved"] == 0.25


def test_magnitude_touches_only_the_blocks_matrices() -> None:
    net = tiny("vit")
    before = {k: v.clone() for k, v in net.model.state_dict().items()}
    prune_(net, 0.9, "magnitude")
    changed = {k for k, v in net.model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {f"vit.layers.{name}.weight" for name in matrices(net)}
    inner = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")
    assert {name.rsplit(".", 1)[1] for name in matrices(net)} == set(inner)


def test_a_weight_that_is_not_a_number_is_an_error() -> None:
    net = tiny("vit")
    for weight in matrices(net).values():
        weight.data.fill_(float("nan"))
    with pytest.raises(VerificationError, match="Are there NaN weights in the source"):
        prune_(net, 0.5, "magnitude")


def test_pruning_again_keeps_the_zeros() -> None:
    net = tiny("vit")
    prune_(net, 0.3, "magnitude")
    first = [w == 0 for w in matrices(net).values()]
    report = prune_(net, 0.6, "magnitude")
    assert all(bool((w == 0)[m].all()) for w, m in zip(matrices(net).values(), first, strict=True))
    assert report["achieved"] == pytest.approx(0.6, abs=1e-4)
    assert "pruned before" in report["note"]
    assert prune_(net, 0.0, "magnitude")["achieved"] == report["achieved"]
    with pytest.raises(
        ConfigError,
        match=r"target_sparsity is 0\.2, but 0\.6\d* of the blocks are zeros already\. "
        r"Choose more than that",
    ):
        prune_(net, 0.2, "magnitude")


# structured


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("alpha", [1.0, 0.4, 0.0])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_cutting_units_equals_masking_them(family: str, alpha: float, scope: Any) -> None:
    net = tiny(family, alpha)
    before = net.parameters
    report = prune_(net, 0.5, "structured", scope, refit=False)
    assert report["max_difference"] <= report["tolerance"] == 1e-5
    assert report["parameters_before"] == before
    removed, total = (
        int(n.replace(",", "")) for n in report["of"].split(" prunable")[0].split(" of ")
    )
    assert before - net.parameters == removed
    assert report["achieved"] == removed / total <= 0.5
    assert report["widths"] == list(widths.counts(net)) == list(net.structure.widths or ())
    assert report["widths"] != report["widths_before"]


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.25, 0.6])
def test_global_pruning_falls_short_by_less_than_one_unit(family: str, share: float) -> None:
    net = tiny(family)
    total, largest = 0, 0
    for block in net.blocks:
        for width in net.family.widths(block).values():
            cost = widths.unit_parameters(block, width)
            total, largest = total + cost * width.units, max(largest, cost)
    achieved = prune_(net, share, refit=False)["achieved"]
    assert share - largest / total < achieved <= share + 0.5 / total


@pytest.mark.parametrize("family", KINDS)
def test_pruning_by_layer_removes_the_same_share_of_each_width(family: str) -> None:
    report = prune_(tiny(family), 0.5, "structured", "layer", refit=False)
    for before, after in zip(report["widths_before"], report["widths"], strict=True):
        assert after == {name: n - n // 2 for name, n in before.items()}
    assert report["unchanged"] == []


@pytest.mark.parametrize("family", KINDS)
def test_the_largest_reachable_share_leaves_one_unit_everywhere_and_more_is_an_error(
    family: str,
) -> None:
    net = tiny(family)
    with pytest.raises(
        ConfigError,
        match=r"target_sparsity is 0\.9999.*one unit of every width must stay.*"
        r"largest reachable share is 0\.\d+",
    ) as error:
        prune_(net, 0.9999)
    assert net.structure.widths is None
    reachable = float(str(error.value).rstrip(".").rsplit(" ", 1)[1])
    achieved = prune_(net, reachable)["achieved"]
    assert achieved == pytest.approx(reachable, abs=5e-3)  # one unit
    assert min(n for w in net.structure.widths or ({"none": 0},) for n in w.values()) >= 1


def test_by_layer_the_smallest_width_sets_the_largest_share() -> None:
    message = (
        r"block 0 heads has 4 units and one must stay: "
        r"the largest reachable share with scope layer is 0\.75"
    )
    with pytest.raises(ConfigError, match=message):
        prune_(tiny("vit"), 0.8, "structured", "layer")
    assert (
        prune_(tiny("vit"), 0.75, "structured", "layer")["widths"] == [{"heads": 1, "mlp": 16}] * 3
    )


def test_a_share_below_one_unit_is_an_error_and_not_silence() -> None:
    with pytest.raises(
        ConfigError,
        match=r"target_sparsity is 0\.001, less than what one unit holds "
        r"\(0\.0026 with scope global\)",
    ):
        prune_(tiny("vit"), 0.001)


def test_widths_that_lose_nothing_are_named() -> None:
    report = prune_(tiny("vit"), 0.2, "structured", "layer")
    assert report["unchanged"] == [f"block {i} heads" for i in range(3)]


def test_the_scale_of_a_layer_does_not_count() -> None:
    one, other = tiny("vit"), tiny("vit")
    for weight in (p for n, p in other.model.named_parameters() if "layers.1." in n):
        weight.data *= 8
    cut, scaled = (prune_(net, 0.4, score="magnitude", refit=False) for net in (one, other))
    assert cut["widths"] == scaled["widths"]


def test_importance_is_the_group_norm_of_torch_pruning() -> None:
    """`GroupMagnitudeImportance(p=2, group_reduction="sum", normalizer="mean", bias=True)`, a head
    being the sum of its features."""
    vit = plain("vit")
    block, width = vit.vit.layers[1], ARCHITECTURES["vit"].widths(vit.vit.layers[1])
    importance = tp.importance.GroupMagnitudeImportance(
        p=2, group_reduction="sum", normalizer="mean", bias=True
    )
    graph = dependency_graph(vit)
    for name, layer, size in (("mlp", block.mlp.fc1, 1), ("heads", block.attention.q_proj, 8)):
        ours = over_mean(block, width[name])
        theirs = (
            importance(
                graph.get_pruning_group(
                    layer, tp.prune_linear_out_channels, list(range(layer.out_features))
                )
            )
            .view(-1, size)
            .mean(1)
        )
        torch.testing.assert_close(ours, theirs)


def test_torch_pruning_removes_the_same_units_to_the_same_outputs() -> None:
    vit = plain("vit")
    net = adopt(copy.deepcopy(vit))
    architecture = ARCHITECTURES["vit"]
    for i, block in enumerate(net.blocks):
        theirs = vit.vit.layers[i]
        heads, features = [(i + 1) % 4], [i, 5 + i, 40]
        graph = dependency_graph(vit)
        graph.get_pruning_group(
            theirs.attention.q_proj,
            tp.prune_linear_out_channels,
            [8 * h + j for h in heads for j in range(8)],
        ).prune()
        graph.get_pruning_group(theirs.mlp.fc1, tp.prune_linear_out_channels, features).prune()
        for name, drop in (("heads", heads), ("mlp", features)):
            width = architecture.widths(block)[name]
            widths.cut_(block, width, [u for u in range(width.units) if u not in drop])
    for ours, theirs in zip(net.model.parameters(), vit.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(outputs(net), first_output(vit(**net.example_inputs(batch=3))))


def dependency_graph(model: Any) -> Any:
    inputs = {"pixel_values": torch.randn(2, 1, 8, 8)}
    return tp.DependencyGraph().build_dependency(
        model, example_inputs=inputs, output_transform=lambda out: out.logits.sum(), verbose=False
    )


def spoilt(spoil: Callable[[torch.nn.Module], None]) -> Network:
    """A network whose adapter does something else to a block than repair what repeats a width."""
    net = tiny("vit")
    return Network(net.model, replace(net.family, fix_widths_=spoil))


def test_a_cut_that_differs_from_the_mask_is_an_error() -> None:
    def double(block: torch.nn.Module) -> None:
        weight = block.get_submodule("mlp.fc2").weight
        assert isinstance(weight, torch.nn.Parameter)
        weight.data.mul_(2)

    with pytest.raises(
        VerificationError, match=r"differs from the masked original by .*, expected at most 1e-05"
    ):
        prune_(spoilt(double), 0.5)


def test_a_cut_that_leaves_other_parameters_is_an_error() -> None:
    def grow(block: torch.nn.Module) -> None:
        block.register_parameter("more", torch.nn.Parameter(torch.zeros(1)))

    with pytest.raises(VerificationError, match=r"pruning left [\d,]+ parameters, expected [\d,]+"):
        prune_(spoilt(grow), 0.5)


def test_a_twin_of_what_is_pruned_stays_what_it_was() -> None:
    net = tiny("vit")
    twin, before = net.twin(), outputs(net)
    prune_(net, 0.5)
    assert torch.equal(outputs(twin), before) and not torch.equal(outputs(net), before)


def test_a_width_of_which_one_feature_is_left_is_named() -> None:
    with pytest.raises(ConfigError, match="to remove whole blocks use truncate"):
        prune_(tiny("vit"), 0.95)
    report = prune_(tiny("vit"), 0.86)  # one of four heads may do a lot, one of 64 features cannot
    one = [f"block {i} mlp" for i, w in enumerate(report["widths"]) if w["mlp"] == 1]
    assert report["one_feature"] == one != []
    assert f"Of {len(one)} widths one feature is left" in report["note"]
    assert prune_(tiny("vit"), 0.3)["one_feature"] == []


def test_units_of_the_lowest_score_go_whatever_the_score() -> None:
    net = tiny("vit")
    units = tuple(
        {name: torch.arange(n).flip(0) + i / 10 for name, n in block.items()}
        for i, block in enumerate(widths.counts(net))
    )
    found = choices(net, units)
    for chosen in (everywhere, in_each):
        for choice, drop in zip(found, chosen(found, 0.4), strict=True):
            last = range(choice.units - len(drop), choice.units)  # the scores fall
            assert sorted(drop) == list(last)


def test_a_score_that_looks_at_examples_is_refused_without_any() -> None:
    score = Score("activity", "how much it does", lambda net, data: (), needs_data=True)
    with pytest.raises(ConfigError, match="score is 'activity', which looks at examples"):
        score.units(tiny("vit"), None)
    with pytest.raises(ConfigError, match="score is 'fame', expected one of: obs, fisher, taylor"):
        prune_(tiny("vit"), 0.5, score="fame")


@pytest.mark.parametrize("entry", [*METHODS.items(), *SCORES.items()], ids=lambda e: str(e[0]))
def test_methods_and_scores_are_known_by_their_names_and_say_what_they_do(
    entry: tuple[str, Method | Score],
) -> None:
    name, chosen = entry
    assert chosen.name == name and len(chosen.help.split()) > 3 and not chosen.help.endswith(".")


def test_outputs_that_are_not_numbers_do_not_pass_for_equal() -> None:
    net = tiny("vit")
    net.model.classifier.bias.data[0] = float("nan")
    with pytest.raises(VerificationError, match="differs from the masked original by nan"):
        prune_(net, 0.5, score="magnitude")
    with pytest.raises(VerificationError, match="answers are not finite: nothing can be chosen"):
        prune_(net, 0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", ["magnitude", "structured"])
def test_half_precision_is_pruned_within_its_own_tolerance(dtype: torch.dtype, method: Any) -> None:
    net = tiny("vit")
    net.model.to(dtype)
    report = prune_(net, 0.5, method)
    assert report["achieved"] == pytest.approx(0.5, abs=2e-3)
    assert (
        method == "magnitude" or report["max_difference"] <= report["tolerance"] == TOLERANCE[dtype]
    )
    assert net.dtype == dtype


def test_pruning_structure_after_zeros_counts_the_zeros_again() -> None:
    net = tiny("vit")
    prune_(net, 0.5, "magnitude")
    report = prune_(net, 0.3)
    left = sum(w.numel() for w in matrices(net).values())
    assert net.structure.sparsity == zeros(net) / left > 0
    assert "pruned before" in report["note"]
    again = prune_(net, 0.3)
    assert again["widths_before"] == report["widths"]
    assert again["achieved"] == pytest.approx(0.3, abs=0.05)


# both


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("method", ["magnitude", "structured"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_share_of_zero_changes_nothing(family: str, method: Any, scope: Any) -> None:
    net = tiny(family)
    before, structure = copy.deepcopy(net.model.state_dict()), net.structure
    report = prune_(net, 0.0, method, scope)
    assert report["achieved"] == 0
    assert net.structure == structure
    assert all(torch.equal(v, before[k]) for k, v in net.model.state_dict().items())


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("method", ["magnitude", "structured"])
@pytest.mark.parametrize("alpha", [1.0, 0.0])
def test_pruned_saved_and_loaded_is_bit_equal(
    family: str, method: Any, alpha: float, tmp_path: Path
) -> None:
    source = saved(tiny(family, alpha), tmp_path / "source")
    report = prune(source, tmp_path / "out", target_sparsity=0.4, method=method)
    expected = network(source)
    prune_(expected, 0.4, method)
    loaded = network(tmp_path / "out")
    assert loaded.structure == expected.structure
    assert loaded.model.state_dict().keys() == expected.model.state_dict().keys()
    for key, value in expected.model.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[key])
    assert torch.equal(outputs(loaded), outputs(expected))
    assert report["parameters"] == report["parameters_after"] == loaded.parameters
    assert report["step"] == "prune"


def test_widths_that_differ_between_blocks_survive_saving(tmp_path: Path) -> None:
    prune(saved(tiny("vit"), tmp_path / "source"), tmp_path / "out", target_sparsity=0.3)
    loaded = network(tmp_path / "out")
    kept = [w["mlp"] for w in loaded.structure.widths or ()]
    assert len(set(kept)) > 1
    assert [b.get_submodule("mlp.fc1").out_features for b in loaded.blocks] == kept


def test_a_pruned_directory_can_be_pruned_again(tmp_path: Path) -> None:
    source = saved(tiny("vit", 0.0), tmp_path / "source")
    prune(source, tmp_path / "a", target_sparsity=0.3)
    prune(tmp_path / "a", tmp_path / "b", target_sparsity=0.5, method="magnitude")
    report = prune(tmp_path / "b", tmp_path / "c", target_sparsity=0.3)
    loaded = network(tmp_path / "c")
    assert report["structure"] == loaded.structure
    assert loaded.structure.sparsity > 0


def test_gzip_bytes_are_what_gzip_makes_of_the_file(tmp_path: Path) -> None:
    report = prune(
        saved(tiny("vit"), tmp_path / "source"),
        tmp_path / "out",
        target_sparsity=0.9,
        method="magnitude",
    )
    file = tmp_path / "out" / "model.safetensors"
    assert (
        report["bytes"]
        == file.stat().st_size
        == (tmp_path / "source" / "model.safetensors").stat().st_size
    )
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    assert report["gzip_bytes"] == pytest.approx(
        len(gzip.compress(file.read_bytes()[header:], 6)), rel=0.02
    )
    assert report["gzip_bytes"] < report["bytes"] / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_sparsity": 1.0}, r"target_sparsity is 1\.0, expected: less than 1"),
        ({"target_sparsity": -0.1}, r"target_sparsity is -0\.1, expected: greater than or equal"),
        ({"target_sparsity": float("nan")}, r"target_sparsity is nan, expected: less than 1"),
        (
            {"target_sparsity": 0.5, "method": "lottery"},
            "method is 'lottery', expected: 'structured', 'magnitude', 'obs' or 'movement'",
        ),
        (
            {"target_sparsity": 0.5, "scope": "block"},
            "scope is 'block', expected: 'global' or 'layer'",
        ),
        ({"target_sparsity": 0.5, "epochs": 1}, "has epochs 1, but no data to train on"),
        ({"target_sparsity": 0.5, "lr": 0.1}, r"has lr 0\.1, but no data to train on"),
        (
            {"target_sparsity": 0.5, "data": "digits", "epochs": -1},
            "epochs is -1, expected: greater than or equal to 0",
        ),
    ],
)
def test_options_that_cannot_be_meant_are_refused_before_any_work(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        prune(tmp_path / "nothing there", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_data_without_epochs_is_measured_on(digits_vit: Path, tmp_path: Path) -> None:
    blind: dict[str, Any] = {"target_sparsity": 0.4, "score": "magnitude", "refit": False}
    report = prune(digits_vit, tmp_path / "out", data="digits", **blind)
    alone = prune(digits_vit, tmp_path / "alone", **blind)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        tmp_path / "alone" / "model.safetensors"
    ).read_bytes()
    assert "training" not in report and "before" not in alone
    assert report["data"] == "digits:test" and report["before"]["examples"] == 360
    assert report["drop"]["drop"] == pytest.approx(
        report["before"]["value"] - report["after"]["value"]
    )


@pytest.mark.parametrize("share", [1.0, -0.1, float("nan")])
def test_a_share_that_cannot_be_meant_is_refused_in_memory_too(share: float) -> None:
    with pytest.raises(ConfigError, match=r"target_sparsity is \S+, expected a share in \[0, 1\)"):
        prune_(tiny("vit"), share)
    with pytest.raises(ConfigError, match="method is 'lottery', expected one of: structured, mag"):
        prune_(tiny("vit"), 0.5, "lottery")


def test_an_output_that_exists_is_refused_before_any_work(tmp_path: Path) -> None:
    source = saved(tiny("vit"), tmp_path / "source")
    (source / "model.safetensors").write_bytes(b"damaged")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ModelDirError, match="exists and is not empty"):
        prune(source, tmp_path / "out", target_sparsity=0.5)


def test_an_unreachable_share_leaves_nothing_behind(tmp_path: Path) -> None:
    source = saved(tiny("vit"), tmp_path / "source")
    with pytest.raises(ConfigError, match="largest reachable share"):
        prune(source, tmp_path / "out", target_sparsity=0.99)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


# recovery


TRAINED: dict[str, Any] = {
    "data": "digits",
    "epochs": 1,
    "batch_size": 32,
    "lr": 1e-3,
    "limit": 160,
    "eval_limit": 100,
}


@pytest.mark.parametrize("method", ["magnitude", "structured"])
def test_training_back_keeps_what_was_pruned(method: Any, tmp_path: Path) -> None:
    source = saved(tiny("vit", 0.0), tmp_path / "source")
    report = prune(source, tmp_path / "out", target_sparsity=0.5, method=method, **TRAINED)
    only_pruned = network(source)
    prune_(only_pruned, 0.5, method)
    trained = network(tmp_path / "out")
    assert trained.structure == only_pruned.structure
    for before, after in zip(
        matrices(only_pruned).values(), matrices(trained).values(), strict=True
    ):
        assert torch.equal(before == 0, after == 0)
        assert not torch.equal(before, after)
    assert report["training"]["steps"] == 5
    assert {"before", "after", "drop"} <= set(report.keys())


@pytest.mark.parametrize(("refit", "share"), [(True, 0.3), (False, 1.0)])
def test_behind_a_refit_it_trains_gently_unless_told_otherwise(
    refit: bool, share: float, tmp_path: Path
) -> None:
    source = saved(tiny("vit"), tmp_path / "source")
    short = {k: v for k, v in TRAINED.items() if k != "lr"} | {"refit": refit}
    report = prune(source, tmp_path / "out", target_sparsity=0.5, **short)
    assert report["training"]["lr"] == pytest.approx(share * 5e-4)
    told = prune(source, tmp_path / "told", target_sparsity=0.5, **short, lr=2e-4)
    assert told["training"]["lr"] == 2e-4


@pytest.mark.parametrize("method", ["magnitude", "structured"])
@pytest.mark.long
def test_the_same_seed_gives_the_same_weights(method: Any, tmp_path: Path) -> None:
    source = saved(tiny("vit"), tmp_path / "source")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        prune(source, tmp_path / name, target_sparsity=0.5, method=method, seed=seed, **TRAINED)
    a, b, c = (find_source(tmp_path / name).sha256() for name in "abc")
    assert a == b != c


def test_the_job_of_the_last_version_is_the_same_as_options_by_name(tmp_path: Path) -> None:
    source = saved(tiny("vit"), tmp_path / "source")
    job = acn_compress.Job(**TRAINED, seed=1)
    prune(source, tmp_path / "a", target_sparsity=0.5, data=job)
    prune(source, tmp_path / "b", target_sparsity=0.5, **TRAINED, seed=1)
    assert find_source(tmp_path / "a").sha256() == find_source(tmp_path / "b").sha256()


@pytest.mark.parametrize("method", ["magnitude", "structured"])
@pytest.mark.long
def test_an_interrupted_recovery_goes_on_to_the_same_weights(method: Any, tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, TrainingStep) and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    source = saved(tiny("vit"), tmp_path / "source")
    options: dict[str, Any] = {"target_sparsity": 0.5, "method": method, **TRAINED}
    prune(source, tmp_path / "whole", **options)
    with pytest.raises(Interrupted, match="--resume"):
        prune(source, tmp_path / "out", **options, progress=interrupt)
    assert not (tmp_path / "out").exists()
    prune(source, tmp_path / "out", **options, resume=True)
    assert find_source(tmp_path / "out").sha256() == find_source(tmp_path / "whole").sha256()


@pytest.mark.parametrize("method", ["magnitude", "structured"])
def test_training_that_loses_zeros_is_an_error(method: str) -> None:
    net = tiny("vit")
    prune_(net, 0.25, "magnitude")
    pruning = METHODS[method].begin_(net, Aim(0.5))
    for weight in matrices(net).values():
        weight.data += 1
    with pytest.raises(VerificationError, match=r"training left 0 zeros of [\d,]+"):
        pruning.finish_()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_smallest_are_found_without_sorting_them(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(shape, generator=generator).to(dtype) for shape in ((7, 5), (1, 64), (30, 11))
    ]
    weights[1][0, ::3] = 0.25
    weights[2][4] = 0.0
    everything = torch.cat([w.abs().float().flatten() for w in weights])
    for count in (1, 11, 12, 60, everything.numel() - 1):
        kept = [w.clone() for w in weights]
        order = everything.argsort(stable=True)[: max(count, 11)]
        zero_smallest_(kept, max(count, 11))  # the eleven that are zero count
        expected = everything.clone()
        expected[order] = 0
        assert torch.equal(torch.cat([w.abs().float().flatten() for w in kept]), expected)
