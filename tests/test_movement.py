"""Laws of movement pruning: what the score is, which weights go and return, exact shares, exact
resume."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cli import fails
from test_prune import TRAINED, zeros
from tiny import network, saved, tiny

from acn_compress import prune, run
from acn_compress.checkpoint.find import find_source
from acn_compress.compression.prune import METHODS, Aim, Movement, prune_
from acn_compress.data.load import Data, load_data
from acn_compress.errors import ConfigError, Interrupted, VerificationError
from acn_compress.events import Event, TrainingStep
from acn_compress.network.network import Network
from acn_compress.network.zeros import by_value, lowest, matrices, threshold
from acn_compress.options import Trained
from acn_compress.recipe.read import read
from acn_compress.tasks import task_of
from acn_compress.training.fit import fit


def flat(tensors: Any) -> torch.Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


# the score


@pytest.mark.parametrize(("batch_size", "accumulate"), [(32, 1), (16, 2)])
def test_the_score_of_a_training_step_is_minus_gradient_times_weight(
    batch_size: int, accumulate: int
) -> None:
    net = tiny("vit")
    net.model.train()
    data = load_data("digits", net, None, role="train", limit=32)
    batch = data.examples.collate([data.examples[i] for i in range(32)], train=False)
    named = matrices(net)
    logits = net(pixel_values=batch["pixel_values"]).logits
    loss = torch.nn.functional.cross_entropy(logits, batch["labels"])
    gradients = torch.autograd.grad(loss, list(named.values()))
    expected = {
        name: -g * w.detach() for (name, w), g in zip(named.items(), gradients, strict=True)
    }
    hook = Movement(net, 0.5)
    fit(
        net,
        data,
        Trained(
            epochs=1,
            batch_size=batch_size,
            accumulate=accumulate,
            task_weight=1.0,
            precision="fp32",
        ),
        hook=hook,
    )
    for (
        name,
        matrix,
    ) in hook.matrices.items():  # before clipping: the norm of these gradients is not 1
        torch.testing.assert_close(matrix.score, expected[name], rtol=1e-4, atol=1e-6)


def test_scores_sum_over_steps_with_gradients_at_the_masked_weights() -> None:
    net = tiny("vit")
    weights = list(matrices(net).values())
    hook, inputs = Movement(net, 0.5), net.example_inputs(batch=4)
    optimizer = torch.optim.SGD(net.model.parameters(), lr=0.1)
    latent = [w.detach().clone() for w in weights]
    expected = [torch.zeros_like(w) for w in weights]
    for step in range(3):
        masked = [w == 0 for w in weights]
        loss = net(**inputs).logits.logsumexp(1).sum()
        gradients = torch.autograd.grad(loss, weights)
        for e, g, v in zip(expected, gradients, latent, strict=True):
            e -= g * v
        optimizer.zero_grad()
        net(**inputs).logits.logsumexp(1).sum().backward()
        hook.on_backward(step, 6)
        optimizer.step()
        for v, g, m in zip(
            latent, gradients, masked, strict=True
        ):  # a masked weight waits as it was
            v -= 0.1 * torch.where(m, 0.0, g)
        hook.on_step(step, 6)
        for matrix, weight, e, v in zip(
            hook.matrices.values(), weights, expected, latent, strict=True
        ):
            torch.testing.assert_close(matrix.score, e)
            torch.testing.assert_close(matrix.value, v)
            assert torch.equal(weight, torch.where(matrix.masked, 0.0, matrix.value))
    scores, gone = flat(expected), flat(m.masked for m in hook.matrices.values())
    assert int(gone.sum()) == round(0.5 * len(gone))
    assert scores[gone].max() <= scores[~gone].min()


def moved(
    hook: Movement, weight: torch.nn.Parameter, gradient: torch.Tensor, step: int, steps: int
) -> None:
    """One step of plain descent whose gradient is known; the other matrices stand still."""
    weight.grad = gradient.clone()
    hook.on_backward(step, steps)
    with torch.no_grad():
        weight.sub_(0.01 * weight.grad)
    hook.on_step(step, steps)


def test_a_small_weight_that_grows_stays_and_a_large_one_that_shrinks_goes() -> None:
    net = tiny("vit")
    name, weight = next(iter(matrices(net).items()))
    small, large = (
        torch.zeros_like(weight, dtype=torch.bool),
        torch.zeros_like(weight, dtype=torch.bool),
    )
    small[:16], large[16:] = True, True
    with torch.no_grad():
        weight.copy_(torch.where(small, 1e-3, 10.0) * weight.sign())
    other = net.copy()
    hook = Movement(net, 0.5, "layer")
    for step in range(4):
        moved(hook, weight, torch.where(small, -1.0, 1.0) * weight.sign(), step, 4)
    assert torch.equal(weight == 0, large)
    prune_(other, 0.5, "magnitude", "layer")
    assert torch.equal(matrices(other)[name] == 0, small)


def test_a_masked_weight_returns_with_its_value_when_others_fall_below_it() -> None:
    net = tiny("vit")
    weight = next(iter(matrices(net).values()))
    with torch.no_grad():
        weight.fill_(1.0)
    hook = Movement(net, 0.5, "layer")
    first, second = torch.zeros_like(weight), torch.zeros_like(weight)
    first[:8], second[8:24] = (
        1.0,
        10.0,
    )  # the first quarter falls first, then half of them fall further
    moved(hook, weight, first, 0, 20)  # 10 steps of schedule: after the first 1 - 0.9^3 of one half
    assert (
        int((weight == 0).sum())
        == int((weight[:8] == 0).sum())
        == round(0.5 * (1 - 0.9**3) * weight.numel())
    )
    for step in range(1, 10):
        moved(hook, weight, second, step, 20)
    assert (
        torch.equal((weight == 0).all(1).nonzero().flatten(), torch.arange(8, 24))
        and int((weight == 0).sum()) == 512
    )
    assert torch.equal(
        weight[:8], torch.full((8, 32), 1.0) - 0.01
    )  # the one step that moved them, then they waited
    moved(hook, weight, -1e3 * torch.ones_like(weight), 10, 20)
    assert torch.equal(
        (weight == 0).all(1).nonzero().flatten(), torch.arange(8, 24)
    )  # the schedule is over: the mask is fixed


def test_zeros_follow_the_cubic_schedule_from_what_the_source_has() -> None:
    net = tiny("vit")
    prune_(net, 0.2, "magnitude")
    gone, total, found = (
        [w == 0 for w in matrices(net).values()],
        sum(w.numel() for w in matrices(net).values()),
        [],
    )
    hook = Movement(net, 0.8)
    for step in range(8):
        moved(hook, next(iter(matrices(net).values())), torch.ones(32, 32), step, 8)
        found.append(zeros(net))
        assert all(
            bool((w == 0)[g].all()) for w, g in zip(matrices(net).values(), gone, strict=True)
        )
    cubic = [0.8 - 0.6 * (1 - t / 4) ** 3 for t in (1, 2, 3, 4, 4, 4, 4, 4)]
    assert (
        found == [pytest.approx(c * total, abs=1) for c in cubic]
        and found[-1] == round(0.8 * total) == hook.wanted
    )


def test_the_lowest_scores_are_found_without_sorting_them() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = [torch.randn(shape, generator=generator) for shape in ((7, 5), (1, 64), (30, 11))]
    scores[0][0], scores[1][0, ::3], scores[2][4] = -torch.inf, -0.25, 0.0
    scores[2][5] = -0.0
    everything = flat(scores)
    for number in (1, 5, 30, 200, 220, 428):
        bound = threshold(scores, number, by_value)
        expected = torch.zeros(len(everything), dtype=torch.bool)
        expected[everything.argsort(stable=True)[:number]] = True
        assert torch.equal(flat(lowest(scores, bound, by_value)), expected)


# training


class Random:
    """Random examples with random labels, for any family."""

    sizes: torch.Tensor | None = None
    labels: list[str] | None = None

    def __init__(self, net: Network, n: int) -> None:
        self.inputs = net.example_inputs(batch=n)
        generator = torch.Generator().manual_seed(1)
        drawn = torch.randint(2, (n,), generator=generator)
        tokens = self.inputs.get("input_ids", drawn)
        self.inputs["labels"] = tokens if task_of(net).name == "causal-lm" else drawn

    def __len__(self) -> int:
        return len(self.inputs["labels"])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {k: v[index] for k, v in self.inputs.items()}

    def collate(
        self, examples: Sequence[dict[str, Any]], *, train: bool = False, noise: object = None
    ) -> dict[str, torch.Tensor]:
        return {k: torch.stack([e[k] for e in examples]) for k in self.inputs}


@pytest.mark.parametrize(
    "family", ["bert", "gpt2", "qwen3", "dinov2", "mixer", "timmvit"]
)  # gpt2: transposed weights, tied embeddings
def test_after_training_exactly_the_share_is_zero_and_only_in_the_blocks_matrices(
    family: str,
) -> None:
    net = tiny(family, 0.5)
    teacher, named = net.copy(), matrices(net)
    data = Data("random", task_of(net), Random(net, 16))
    fit(
        net,
        data,
        Trained(epochs=1, batch_size=4, lr=1e-3),
        teacher=teacher,
        hook=Movement(net, 0.6),
    )
    assert zeros(net) == round(0.6 * sum(w.numel() for w in named.values()))
    inside = {id(w) for w in named.values()}
    assert all(bool((p != 0).all()) for p in net.model.parameters() if id(p) not in inside)
    smallest = teacher.copy()
    prune_(smallest, 0.6, "magnitude")
    assert any(
        not torch.equal(w == 0, s == 0)
        for w, s in zip(named.values(), matrices(smallest).values(), strict=True)
    )


def test_by_layer_every_matrix_gets_the_share_and_the_report_says_all_of_it(tmp_path: Path) -> None:
    source = saved(tiny("vit", 0.0), tmp_path / "source")
    report = prune(
        source, tmp_path / "out", target_sparsity=0.3, method="movement", scope="layer", **TRAINED
    )
    trained = network(tmp_path / "out")
    for name, weight in matrices(trained).items():
        assert (
            int((weight == 0).sum())
            == round(0.3 * weight.numel())
            == round(report["matrices"][name] * weight.numel())
        )
    assert trained.structure.sparsity == report["achieved"] == report["zeros"] / report["weights"]
    assert trained.structure.alpha == (0.0, 0.0, 0.0)
    assert (
        report["method"] == "movement"
        and "neither the dense file smaller nor the model faster" in report["note"]
    )
    assert (
        report["gzip_bytes"] < report["bytes"]
        and report["parameters_before"] == report["parameters_after"]
    )
    assert report["training"]["steps"] == 5 and report["drop"]["drop"] == pytest.approx(
        report["before"]["value"] - report["after"]["value"]
    )


def test_a_share_of_zero_only_trains(tmp_path: Path) -> None:
    source = saved(tiny("vit"), tmp_path / "source")
    for method in ("movement", "magnitude"):
        report = prune(source, tmp_path / method, target_sparsity=0.0, method=method, **TRAINED)
        assert report["achieved"] == 0 == report["structure"]["sparsity"]
    assert (
        find_source(tmp_path / "movement").sha256()
        == find_source(tmp_path / "magnitude").sha256()
        != find_source(source).sha256()
    )


def test_zeros_of_the_source_stay_and_count(tmp_path: Path) -> None:
    prune(
        saved(tiny("vit"), tmp_path / "source"),
        tmp_path / "a",
        target_sparsity=0.3,
        method="magnitude",
    )
    report = prune(
        tmp_path / "a", tmp_path / "b", target_sparsity=0.6, method="movement", **TRAINED
    )
    before, after = (matrices(network(tmp_path / name)).values() for name in "ab")
    assert all(bool((w == 0)[b == 0].all()) for b, w in zip(before, after, strict=True))
    assert report["zeros"] == round(0.6 * report["weights"]) and "pruned before" in report["note"]
    with pytest.raises(
        ConfigError, match=r"target_sparsity is 0\.4, but 0\.6\d* of the blocks are zeros already"
    ):
        prune(tmp_path / "b", tmp_path / "c", target_sparsity=0.4, method="movement", **TRAINED)


# interruption


def interrupted(source: Path, out: Path, at: int, **options: Any) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, TrainingStep) and event.step == at:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="--resume"):
        prune(source, out, **TRAINED, progress=stop, **options)
    assert not out.exists()


@pytest.mark.long
def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    source = saved(tiny("vit"), tmp_path / "source")
    options: dict[str, Any] = {"target_sparsity": 0.5, "method": "movement"}
    prune(source, tmp_path / "whole", **TRAINED, **options)
    for at in (1, 4):  # while zeros come, and when the mask is fixed
        interrupted(source, tmp_path / f"{at}", at, **options)
        prune(source, tmp_path / f"{at}", **TRAINED, resume=True, **options)
        assert find_source(tmp_path / f"{at}").sha256() == find_source(tmp_path / "whole").sha256()


def test_a_checkpoint_of_another_target_or_method_is_refused(tmp_path: Path) -> None:
    source = saved(tiny("vit"), tmp_path / "source")
    interrupted(source, tmp_path / "out", 2, target_sparsity=0.5, method="movement")
    other: tuple[tuple[dict[str, Any], str], ...] = (
        (
            {"target_sparsity": 0.6, "method": "movement"},
            r"is of another training: target_sparsity was 0\.5, is 0\.6",
        ),
        (
            {"target_sparsity": 0.5, "method": "movement", "scope": "layer"},
            "is of another training: scope was global, is layer",
        ),
        (
            {"target_sparsity": 0.5, "method": "magnitude"},
            "is of another training: method was movement, is magnitude",
        ),
    )
    for options, message in other:
        with pytest.raises(ConfigError, match=message):
            prune(source, tmp_path / "out", **TRAINED, resume=True, **options)


def test_the_state_of_another_target_or_scope_is_refused() -> None:
    state = Movement(tiny("vit"), 0.5).state_dict()
    Movement(tiny("vit"), 0.5).load_state_dict(state)
    for other in (Movement(tiny("vit"), 0.6), Movement(tiny("vit"), 0.5, "layer")):
        with pytest.raises(ConfigError, match="is of another target_sparsity or scope"):
            other.load_state_dict(state)


# refusals


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"data": "digits"},
        {"data": "digits", "epochs": 0},
    ],
    ids=str,
)
def test_without_training_it_is_refused_before_any_work(
    options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError, match="prunes while it trains and needs data and more than 0 epochs"
    ):
        prune(
            tmp_path / "nothing there",
            tmp_path / "out",
            target_sparsity=0.5,
            method="movement",
            **options,
        )
    with pytest.raises(ConfigError, match="Call prune with both"):
        prune_(tiny("vit"), 0.5, "movement")


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    command = (
        "prune",
        tmp_path / "nothing there",
        tmp_path / "out",
        "--method",
        "movement",
        "--target-sparsity",
    )
    fails("needs data and more than 0 epochs", *command, 0.5)
    fails("needs data and more than 0 epochs", *command, 0.5, "--data", "digits")
    fails(
        "target_sparsity is 1.0, expected: less than 1",
        *command,
        1.0,
        "--data",
        "digits",
        "--epochs",
        1,
    )


def test_pruning_that_does_not_reach_the_share_is_an_error() -> None:
    pruning = METHODS["movement"].begin_(tiny("vit"), Aim(0.5))
    with pytest.raises(VerificationError, match=r"training left 0 zeros of 12,288"):
        pruning.finish_()  # nobody called the hook


def recipe(path: Path, source: Path, step: str) -> Path:
    text = f"source: {source}\ndata: digits\nlimit: 160\neval_limit: 100\n"
    text += "training: {epochs: 2, batch_size: 32, lr: 1e-3}\nsteps:\n  - prune: "
    path.write_text(text + step + "\n")
    return path


def test_a_recipe_must_say_its_epochs(tmp_path: Path) -> None:
    path = recipe(tmp_path / "mine.yaml", tmp_path, "{method: movement, target_sparsity: 0.5}")
    with pytest.raises(ConfigError, match=r"mine.yaml:7: steps.1.prune .*prunes while it trains"):
        read(path)


@pytest.mark.usefixtures("no_table")
def test_a_recipe_runs_it(tmp_path: Path) -> None:
    source = saved(tiny("vit"), tmp_path / "source")
    step = "{method: movement, target_sparsity: 0.5, epochs: 1}"
    run(recipe(tmp_path / "mine.yaml", source, step), out=str(tmp_path / "run"))
    prune(source, tmp_path / "out", target_sparsity=0.5, method="movement", **TRAINED)
    assert (
        find_source(tmp_path / "run" / "1-prune").sha256() == find_source(tmp_path / "out").sha256()
    )
