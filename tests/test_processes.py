"""Two processes of one launch do what one does: a launch, and the same commands here beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import launched
import pytest
import torch
from tiny import network

import acn_compress as acn
from acn_compress import processes
from acn_compress.errors import ConfigError
from acn_compress.network.device import find_device
from acn_compress.options import Trained
from acn_compress.training.trainer import arguments

pytestmark = pytest.mark.xdist_group("processes")  # one launch serves all
NO_DROPOUT: dict[str, Any] = {  # which each process draws for itself
    f"{name}_dropout": 0.0 for name in ("hidden", "activation", "attention", "final")
}
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


@pytest.fixture(scope="module")
def launch(digits_vit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes did `launched`."""
    place = tmp_path_factory.mktemp("launched")
    if find_spec("soundfile") and find_spec("soxr"):
        import test_clips

        test_clips.folder(place / "clips")
        test_clips.model(place / "hearing", stable=True, **NO_DROPOUT)
    command = [sys.executable, *LAUNCH, launched.__file__, str(digits_vit), str(place)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(place / "cache")},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return place


@pytest.fixture(scope="module")
def found(launch: Path) -> list[dict[str, Any]]:
    """What the processes found, by rank."""
    return [json.loads((launch / f"{rank}.json").read_text()) for rank in range(2)]


def outputs(directory: Path) -> torch.Tensor:
    """Of a model, for fixed inputs. Not its weights: a key's bias moves no answer, and AdamW makes
    steps of the rounding that is its gradient."""
    net = network(directory)
    with torch.inference_mode():
        return net.answer(**net.example_inputs(batch=64))


@pytest.mark.long
def test_training_in_two_processes_ends_where_one_does(
    digits_vit: Path, launch: Path, tmp_path: Path
) -> None:
    acn.convert(digits_vit, tmp_path / "one", progress=None, **launched.CONVERT)
    one, two = network(tmp_path / "one"), network(launch / "converted")
    assert one.structure.alpha == pytest.approx(two.structure.alpha, abs=1e-5)
    assert max(one.structure.alpha) < 1  # the pull moved it
    assert (outputs(tmp_path / "one") - outputs(launch / "converted")).abs().max() < 1e-5


def test_all_processes_are_told_what_one_measures(
    digits_vit: Path, found: list[dict[str, Any]]
) -> None:
    alone = acn.evaluate(digits_vit, data="digits:test", batch_size=50, progress=None)
    assert found[0]["evaluated"] == found[1]["evaluated"] == alone["result"].plain()
    assert found[0]["converted"] == found[1]["converted"]
    assert found[0]["odd"] == found[1]["odd"]
    assert "batch_size is 33, which 2 processes cannot share evenly" in found[0]["odd"][0]


def test_a_profile_in_two_processes_is_that_of_one(
    digits_vit: Path, found: list[dict[str, Any]], tmp_path: Path
) -> None:
    alone = acn.profile(digits_vit, to=tmp_path, progress=None, **launched.PROFILE).plain()
    for name in ("depths", "blocks"):
        for rows in (found[0]["profiled"][name], found[1]["profiled"][name]):
            assert len(rows) == len(alone[name])
            for there, here in zip(rows, alone[name], strict=True):
                assert there == pytest.approx(here, abs=1e-5)


def test_a_refit_in_two_processes_is_that_of_one(
    digits_vit: Path, launch: Path, tmp_path: Path
) -> None:
    acn.truncate(digits_vit, tmp_path / "cut", progress=None, **launched.CUT)
    acn.truncate(digits_vit, tmp_path / "plain", progress=None, depth=launched.CUT["depth"])
    one, two, without = (
        outputs(place) for place in (tmp_path / "cut", launch / "cut", tmp_path / "plain")
    )
    assert (one - two).abs().max() < 1e-5 < (one - without).abs().max()


@pytest.mark.long
def test_clips_train_in_two_processes_as_in_one(launch: Path, tmp_path: Path) -> None:
    if not (launch / "heard").is_dir():
        pytest.skip("the extra of audio is not installed")
    how = launched.CLIPS
    acn.convert(launch / "hearing", tmp_path / "one", launch / "clips", progress=None, **how)
    one, two = outputs(tmp_path / "one"), outputs(launch / "heard")
    assert (one - two).abs().max() < 1e-5 < (one - outputs(launch / "hearing")).abs().max()


@pytest.mark.long
def test_a_teacher_whose_answers_two_processes_keep_teaches_the_same(
    digits_vit: Path, launch: Path, tmp_path: Path
) -> None:
    how = {**launched.HOW, "epochs": 0.8, "teacher": digits_vit, "hidden_weight": 1.0}
    acn.finetune(digits_vit, tmp_path / "one", progress=None, **how)
    assert (outputs(tmp_path / "one") - outputs(launch / "taught")).abs().max() < 1e-5


def test_a_mean_is_that_of_all_whatever_each_process_has(found: list[dict[str, Any]]) -> None:
    weighted, plain = zip(*(rank["mean"] for rank in found[:1]), strict=True)
    assert weighted[0] == pytest.approx(2 * (1 + 9) / 6) and plain[0] == pytest.approx(2 * 4 / 3)


def test_a_signal_to_one_process_ends_all_with_a_checkpoint_that_one_goes_on_from(
    digits_vit: Path, launch: Path, found: list[dict[str, Any]], tmp_path: Path
) -> None:
    said, code = found[0]["stopped"]
    assert found[1]["stopped"] == [said, code] and code == 143
    assert f"interrupted at step {launched.STEP + 1} of 8" in said
    acn.finetune(digits_vit, tmp_path / "straight", progress=None, **launched.FINETUNE)
    acn.finetune(digits_vit, launch / "stopped", progress=None, resume=True, **launched.FINETUNE)
    assert (outputs(tmp_path / "straight") - outputs(launch / "stopped")).abs().max() < 1e-5


def test_an_error_of_one_process_is_that_of_the_command(
    launch: Path, found: list[dict[str, Any]]
) -> None:
    assert found[0]["damaged"] == found[1]["damaged"] == ["row 7 is no image.", 1]
    assert not (launch / "damaged").exists() and not (launch / "damaged.training").exists()


def test_other_launches_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ConfigError, match="FSDP is not supported: a model is whole in every"):
        processes.led(list)


def test_training_stays_on_the_device_of_the_network(
    digits_vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network(digits_vit)
    net.model.to("meta")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)  # the Trainer would spread over both
    args = arguments(net, Trained(), 1, 1e-3, None)
    assert args.device == args.distributed_state.device == torch.device("meta")
    assert args.n_gpu <= 1 and args.train_batch_size == Trained().batch_size


def test_every_process_has_the_accelerator_of_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "4"), ("LOCAL_RANK", "3")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="4 processes on this machine, but 2 GPUs"):
        find_device("cuda")
    with pytest.raises(ConfigError, match="device is cuda:1, but every process has its own"):
        find_device("cuda:1")
