"""Training: the walk of alpha, distillation, resuming, repeating; from a checkpoint and from
scratch."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import network

from acn_compress import convert, finetune, profile
from acn_compress.errors import ConfigError, DataError, Interrupted
from acn_compress.events import Event, TrainingStep
from acn_compress.training.objective import apart
from acn_compress.training.state import state_directory
from acn_compress.training.walk import Walk


def _hash(directory: Path) -> str:
    return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()


def _structure(directory: Path) -> Any:
    return network(directory).structure


def test_the_walk_starts_at_the_source_and_ends_where_asked() -> None:
    walk = Walk((1.0, 0.8), (0.2, 0.0), 0.5, "block")
    assert walk.at(0.0) == (1.0, 0.8)
    assert walk.at(0.25) == pytest.approx((0.6, 0.4))
    assert walk.at(0.5) == walk.at(1.0) == (0.2, 0.0)
    assert Walk((1.0,), (0.0,), 0.0, "block").at(0.0) == (0.0,)  # no walk: at once


def test_conversion_keeps_what_the_network_knows(digits_vit: Path, digits_acn: Path) -> None:
    from acn_compress import evaluate

    found = evaluate(digits_acn, data="digits", against=digits_vit)
    assert _structure(digits_acn).form == "acn"
    assert found["result"]["value"] > 0.5 and found["drop"]["drop"] < 0.1


def test_alpha_walks_during_training_and_is_stored(digits_vit: Path, tmp_path: Path) -> None:
    seen: list[float] = []
    report = convert(
        digits_vit,
        tmp_path / "out",
        "digits",
        alpha_end=0.25,
        epochs=0.5,
        batch_size=32,
        progress=lambda info: seen.append(info["alpha"]),
    )
    assert seen[0] > 0.9 and seen[-1] == 0.25 and seen == sorted(seen, reverse=True)
    assert (
        _structure(tmp_path / "out").alpha == (0.25,) * 3
        and report["structure"]["form"] == "hybrid"
    )


@pytest.mark.parametrize("layer", ["branch", "plain"])
def test_other_layer_kinds_are_stored(digits_vit: Path, tmp_path: Path, layer: Any) -> None:
    convert(digits_vit, tmp_path / "out", "digits", layer=layer, epochs=0.1, batch_size=32)
    structure = _structure(tmp_path / "out")
    assert structure.layer == layer and len(structure.alpha) == (6 if layer == "branch" else 3)
    with pytest.raises(ConfigError, match="cannot become layer 'block'"):
        convert(tmp_path / "out", tmp_path / "again", "digits", epochs=0.1)


def test_learned_alphas_move_and_end_as_plain_numbers(digits_vit: Path, tmp_path: Path) -> None:
    convert(digits_vit, tmp_path / "out", "digits", learned=True, epochs=1, batch_size=32, lr=5e-3)
    net = network(tmp_path / "out")
    alpha = net.structure.alpha
    assert all(0 <= a <= 1 for a in alpha) and any(0 < a < 1 for a in alpha)
    assert not [k for k in net.model.state_dict() if "learned" in k]


@pytest.mark.long
def test_a_pull_takes_alpha_down_and_a_stronger_one_further(
    digits_vit: Path, tmp_path: Path
) -> None:
    means = []
    for name, pull in (("weak", 0.01), ("strong", 10.0)):
        convert(digits_vit, tmp_path / name, "digits", pull=pull, epochs=1, batch_size=32)
        structure = _structure(tmp_path / name)
        assert all(0 <= a < 1 for a in structure.alpha) and structure.form != "residual"
        means.append(sum(structure.alpha) / len(structure.alpha))
    assert means[1] < means[0] - 0.05
    with pytest.raises(ConfigError, match="pull is -1, expected: greater than or equal to 0"):
        convert(digits_vit, tmp_path / "x", "digits", pull=-1, epochs=1)
    with pytest.raises(ConfigError, match="convert has both pull and learned"):
        convert(digits_vit, tmp_path / "x", "digits", pull=0.1, learned=True, epochs=1)


@pytest.mark.long
def test_matching_hidden_states_brings_them_closer_whatever_their_scale(
    digits_vit: Path, tmp_path: Path
) -> None:
    y = torch.randn(2, 3, 8)
    assert float(apart(3 * y + 1, y, None)) < 1e-6 < float(apart(torch.randn(2, 3, 8), y, None))
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    changed = torch.where(mask[..., None].bool(), y, torch.randn(2, 3, 8))
    assert float(apart(changed, y, mask)) == 0 < float(apart(changed, y, None))

    def distances(**options: Any) -> list[float]:
        out = tmp_path / str(len(options))
        convert(
            digits_vit,
            out,
            "digits",
            depth=2,
            keep="even",
            refit=False,  # a refit in front of a gap leads away from what stood there
            epochs=1,
            batch_size=32,
            lr=1e-3,
            **options,
        )
        teacher, student = network(digits_vit), network(out)
        given = {
            "pixel_values": torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        }
        found = []
        for net in (student, teacher):
            with torch.no_grad(), net.recording() as prefixes:
                net(**given)
            found.append(prefixes)
        # the blocks kept are 0 and 2
        return [float(apart(found[0][k], found[1][at], None)) for k, at in ((1, 1), (2, 3))]

    assert sum(distances(hidden_weight=3.0)) < 0.9 * sum(distances())
    with pytest.raises(
        ConfigError,
        match="hidden_weight is 1, which needs a teacher of the same width, but there is none",
    ):
        finetune(digits_vit, tmp_path / "x", "digits", epochs=0.1, hidden_weight=1.0)


@pytest.mark.long
def test_chosen_prefix_depths_are_what_is_trained(digits_vit: Path, tmp_path: Path) -> None:
    def loss_at_depth_1(name: str, **options: Any) -> float:
        convert(digits_vit, tmp_path / name, "digits", epochs=2, batch_size=32, lr=1e-3, **options)
        depths: list[dict[str, float]] = profile(tmp_path / name, data="digits")["depths"]
        return depths[1]["loss"]

    assert loss_at_depth_1("chosen", prefix_loss=3.0, prefix_depths=(1,)) < 0.95 * loss_at_depth_1(
        "none"
    )
    with pytest.raises(
        ConfigError,
        match=r"prefix_depths has 3, but the model has 3 blocks. Choose depths from 1 to 2",
    ):
        convert(
            digits_vit, tmp_path / "x", "digits", epochs=0.1, prefix_loss=1.0, prefix_depths=(3,)
        )
    with pytest.raises(ConfigError, match="convert has prefix_depths, but prefix_loss is 0"):
        convert(digits_vit, tmp_path / "x", "digits", epochs=0.1, prefix_depths=(1,))


@pytest.mark.long
def test_the_same_seed_gives_the_same_file_and_another_seed_does_not(
    digits_vit: Path, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        convert(
            digits_vit,
            tmp_path / name,
            "digits",
            epochs=0.3,
            batch_size=32,
            seed=seed,
            prefix_loss=1.0,
        )
    assert _hash(tmp_path / "a") == _hash(tmp_path / "b") != _hash(tmp_path / "c")


def test_interrupted_training_goes_on_to_the_same_weights(digits_vit: Path, tmp_path: Path) -> None:
    job: dict[str, Any] = {"data": "digits", "epochs": 0.5, "batch_size": 32}
    job |= {"prefix_loss": 1.0, "augment": "crop"}
    convert(digits_vit, tmp_path / "straight", **job)

    def interrupt(event: Event) -> None:
        if isinstance(event, TrainingStep) and event.step == 9:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"interrupted at step 10 of 22; .*--resume") as caught:
        convert(digits_vit, tmp_path / "stopped", **job, progress=interrupt)
    assert caught.value.exit_code == 130
    assert not (tmp_path / "stopped").exists() and state_directory(tmp_path / "stopped").is_dir()
    report = convert(digits_vit, tmp_path / "stopped", **job, resume=True)
    assert _hash(tmp_path / "straight") == _hash(tmp_path / "stopped")
    assert not state_directory(tmp_path / "stopped").exists() and report["training"]["steps"] == 22


@pytest.mark.parametrize("how", [{"learned": True}, {"pull": 0.5}])
@pytest.mark.long
def test_interrupted_trained_alphas_go_on_too(
    how: dict[str, Any], digits_vit: Path, tmp_path: Path
) -> None:
    job: dict[str, Any] = {"data": "digits", "epochs": 0.5, "batch_size": 32, "lr": 2e-3}
    convert(digits_vit, tmp_path / "straight", **job, **how)

    def interrupt(event: Event) -> None:
        if isinstance(event, TrainingStep) and event.step == 14:  # past the half: a pull has let go
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        convert(digits_vit, tmp_path / "stopped", **job, **how, progress=interrupt)
    convert(digits_vit, tmp_path / "stopped", **job, **how, resume=True)
    assert _structure(tmp_path / "straight") == _structure(tmp_path / "stopped")
    assert _hash(tmp_path / "straight") == _hash(tmp_path / "stopped")


def test_resume_without_a_checkpoint_says_so(digits_vit: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to resume: no training checkpoint in"):
        convert(digits_vit, tmp_path / "out", "digits", epochs=0.1, resume=True)
    assert not (tmp_path / "out").exists()


def test_an_acn_can_be_trained_from_scratch(vit_config: Path, tmp_path: Path) -> None:
    report = finetune(
        vit_config, tmp_path / "out", "digits", init="random", alpha=0.0, epochs=0.3, batch_size=32
    )
    assert report["structure"]["form"] == "acn" and report["source"] is None
    assert (tmp_path / "out" / "preprocessor_config.json").is_file()
    assert network(tmp_path / "out").config.id2label[3] == "3"


@pytest.mark.long
def test_finetuning_a_cut_network_keeps_its_form(digits_acn: Path, tmp_path: Path) -> None:
    report = finetune(
        digits_acn,
        tmp_path / "out",
        "digits",
        depth=2,
        teacher=digits_acn,
        epochs=0.2,
        batch_size=32,
    )
    structure = _structure(tmp_path / "out")
    assert structure.form == "acn" and structure.blocks == (0, 1) and structure.source_blocks == 3
    assert {"before", "after", "drop"} <= set(report.keys())


@pytest.mark.long
def test_gradient_checkpointing_gives_the_same_weights(digits_acn: Path, tmp_path: Path) -> None:
    for name, on in (("plain", False), ("checkpointed", True)):
        finetune(digits_acn, tmp_path / name, "digits", epochs=0.2, batch_size=32, checkpointing=on)
    a, b = (network(tmp_path / n).model.state_dict() for n in ("plain", "checkpointed"))
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"alpha_end": 1.5}, "alpha_end is 1.5, expected: less than or equal to 1"),
        ({"anneal": 2.0}, "anneal is 2.0, expected: less than or equal to 1"),
        ({"layer": "blok"}, "layer is 'blok', expected: 'block', 'branch' or 'plain'"),
        ({"depth": 7}, "depth is 7, but .* has 3 blocks. Choose 1 to 3"),
        ({"epochs": 0}, "epochs is 0, expected: greater than 0"),
        ({"temperature": 0.0}, "temperature is 0.0, expected: greater than 0"),
        ({"task_weight": 0.0, "distil_weight": 0.0}, "nothing to train on"),
        ({"batch_size": 5000}, "has 1437 examples, fewer than one batch of 5000"),
        ({"augment": "mixup"}, "augment is 'mixup', expected: 'crop' or 'flip-crop'"),
    ],
)
def test_options_that_cannot_be_meant(
    digits_vit: Path, tmp_path: Path, options: dict[str, Any], text: str
) -> None:
    with pytest.raises((ConfigError, DataError), match=text):
        convert(digits_vit, tmp_path / "out", "digits", **options)
    assert not (tmp_path / "out").exists()


def test_a_diverging_run_says_what_to_do(digits_vit: Path, tmp_path: Path) -> None:
    from acn_compress.errors import AcnError

    with pytest.raises(AcnError, match=r"diverged at step .* Lower the learning rate"):
        convert(digits_vit, tmp_path / "out", "digits", lr=1e30, epochs=1, batch_size=32)
    assert not (tmp_path / "out").exists()
