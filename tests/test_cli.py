"""The commands as a stranger meets them: what they print, exit codes, and what they say to
garbage."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import network
from typer.testing import CliRunner

from acn_compress import surface
from acn_compress.cli.app import app
from acn_compress.options import VERBS

COMMANDS = (
    "inspect",
    "convert",
    "finetune",
    "evaluate",
    "profile",
    "truncate",
    "prune",
    "export",
    "benchmark",
    "compare",
    "run",
    "validate",
)


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The real thing: the process may not write larger files (in bytes); the system refuses, as it
    does on a full disk. Python ignores the signal that comes with it."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


def fails(text: str, *arguments: Any) -> None:
    """The command exits 1 with one line on stderr that holds `text`, and prints nothing else."""
    result = invoke(*arguments)
    assert result.exit_code == 1, result.output + str(result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert text in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_every_option(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    shown = " ".join(result.stdout.replace("│", " ").split())
    for name in (cls := VERBS[command]).model_fields:
        sentence = surface.sentence(cls, name)
        assert len(sentence) > 5 and sentence.endswith("."), f"{name} has no help"
        assert f"--{name.replace('_', '-')}" in shown, name
        assert f" {surface.panel(cls, name)} ─" in shown, name
        assert sentence.split()[0] in shown, name
    assert all(argument.help.split()[0] in shown for argument in cls.arguments)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_common_options(command: str) -> None:
    from typer.main import get_command

    options = {o for p in get_command(app).commands[command].params for o in p.opts}  # type: ignore[attr-defined]
    assert options >= {"--json", "--seed", "--device", "--overwrite"}


@pytest.mark.long
def test_help_loads_no_heavy_package_and_no_step_a_trainer() -> None:
    code = """
import sys
sys.argv = ['acn-compress', '--help']
from acn_compress.cli.app import main
try: main()
except SystemExit: pass
heavy = ('torch', 'transformers', 'onnx', 'numpy', 'datasets')
print([m for m in heavy if m in sys.modules])
import acn_compress.steps.compress, acn_compress.steps.convert, acn_compress.steps.prune
print('transformers.trainer' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["[]", "False"]


def test_wrong_usage_exits_2() -> None:
    assert invoke("truncate").exit_code == 2
    assert invoke("convert", "a", "b", "--data", "digits", "--layer", "blok").exit_code == 2
    assert invoke("no-such-command").exit_code == 2


def test_json_prints_one_object_and_nothing_else(digits_acn: Path, tmp_path: Path) -> None:
    for arguments in (
        ("evaluate", digits_acn, "--data", "digits"),
        ("profile", digits_acn, "--data", "digits", "--to", tmp_path / "profile"),
        ("truncate", digits_acn, tmp_path / "cut", "--depth", 2),
        ("prune", digits_acn, tmp_path / "pruned", "--target-sparsity", 0.3),
        ("finetune", digits_acn, tmp_path / "tuned", "--data", "digits", "--epochs", 0.1),
        ("inspect", digits_acn, "--seed", 3, "--device", "cpu", "--overwrite"),
    ):
        result = invoke(*arguments, "--json")
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["step"] == arguments[0]


def test_the_chain_prints_what_to_do_next(digits_vit: Path, tmp_path: Path) -> None:
    result = invoke(
        "convert",
        digits_vit,
        tmp_path / "acn",
        "--data",
        "digits",
        "--epochs",
        0.2,
        "--batch-size",
        32,
    )
    said = " ".join(result.stdout.replace("\\\n", "").split())  # a long command is broken so
    assert result.exit_code == 0 and f"next: acn-compress profile {tmp_path / 'acn'}" in said
    result = invoke("profile", tmp_path / "acn", "--data", "digits", "--max-drop", 0.9)
    assert (
        result.exit_code == 0
        and "cutoff: 1 of 3 blocks" in result.stdout
        and "next: acn-compress truncate" in result.stdout
    )
    result = invoke("truncate", tmp_path / "acn", tmp_path / "cut", "--max-drop", 0.9)
    assert result.exit_code == 0 and "smallest depth whose drop is at most 0.9" in result.stdout


def test_commands_are_their_functions(digits_vit: Path, tmp_path: Path) -> None:
    from acn_compress import convert

    convert(digits_vit, tmp_path / "function", "digits", epochs=0.2, batch_size=32, seed=3)
    assert (
        invoke(
            "convert",
            digits_vit,
            tmp_path / "command",
            "--data",
            "digits",
            "--epochs",
            0.2,
            "--batch-size",
            32,
            "--seed",
            3,
        ).exit_code
        == 0
    )
    assert (tmp_path / "function/model.safetensors").read_bytes() == (
        tmp_path / "command/model.safetensors"
    ).read_bytes()


# what people feed it


def test_not_a_checkpoint(digits_vit: Path, tmp_path: Path) -> None:
    fails("no such file or directory", "inspect", tmp_path / "nothing")
    fails(f"Did you mean {digits_vit}?", "inspect", str(digits_vit) + "x")
    (tmp_path / "empty").mkdir()
    fails(
        "not a model directory: no config.json (found: nothing)",
        "truncate",
        tmp_path / "empty",
        tmp_path / "out",
        "--depth",
        1,
    )
    fails("as a Hugging Face Hub id it cannot be had either", "inspect", "someone/no-such-model")
    broken = tmp_path / "broken"
    shutil.copytree(digits_vit, broken)
    (broken / "config.json").write_text("{not json")
    fails("cannot be read as JSON", "truncate", broken, tmp_path / "out", "--depth", 1)
    (broken / "config.json").write_text('{"hidden_size": 3}')
    fails("config.json has no model_type", "truncate", broken, tmp_path / "out", "--depth", 1)
    assert not (tmp_path / "out").exists()


def test_damaged_weights(digits_vit: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(digits_vit, cut)
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    fails(
        "the safetensors file is damaged or cut short",
        "truncate",
        cut,
        tmp_path / "out",
        "--depth",
        1,
    )
    weights.unlink()
    fails("no weights: expected model.safetensors", "truncate", cut, tmp_path / "out", "--depth", 1)
    config = json.loads((digits_vit / "config.json").read_text())
    config.pop("acn")  # as somebody else's
    shutil.copyfile(digits_vit / "model.safetensors", weights)
    (cut / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    fails(
        "tensors the model needs, but the file lacks",
        "truncate",
        cut,
        tmp_path / "out",
        "--depth",
        1,
    )
    (cut / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    fails("tensors have no place in the model", "truncate", cut, tmp_path / "out", "--depth", 1)
    (cut / "config.json").write_text(json.dumps(config | {"intermediate_size": 128}))
    fails("the weights do not fit config.json", "truncate", cut, tmp_path / "out", "--depth", 1)
    assert not (tmp_path / "out").exists()


def test_a_pickle_with_code_is_not_run(digits_vit: Path, tmp_path: Path) -> None:
    proof = tmp_path / "code-ran"

    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {proof}",)

    evil = tmp_path / "evil"
    shutil.copytree(digits_vit, evil)
    (evil / "model.safetensors").unlink()
    torch.save({"weights": Payload()}, evil / "pytorch_model.bin")
    fails("this pickle needs code to load", "truncate", evil, tmp_path / "out", "--depth", 1)
    assert not proof.exists() and not (tmp_path / "out").exists()


def test_a_legacy_file_of_plain_tensors_is_read(digits_vit: Path, tmp_path: Path) -> None:

    net = network(digits_vit)
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in net.model.state_dict().items()}},
        tmp_path / "old.pth",
    )
    result = invoke(
        "truncate", tmp_path / "old.pth", tmp_path / "out", "--depth", 2, "--config", digits_vit
    )
    assert result.exit_code == 0, result.stderr
    fails(
        "a weight file says nothing about its architecture. Pass --config",
        "truncate",
        tmp_path / "old.pth",
        tmp_path / "o2",
        "--depth",
        2,
    )
    (tmp_path / "junk.pth").write_bytes(b"not a checkpoint at all")
    fails(
        "not a PyTorch checkpoint",
        "truncate",
        tmp_path / "junk.pth",
        tmp_path / "o3",
        "--depth",
        2,
        "--config",
        digits_vit,
    )


def test_an_unknown_architecture_lists_the_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    fails("is of type 'resnet'", "truncate", tmp_path, tmp_path.parent / "out", "--depth", 1)
    result = invoke("truncate", tmp_path, tmp_path.parent / "out", "--depth", 1)
    assert "vit" in result.stderr.split("Known: ")[1]


def test_a_structure_that_was_tampered_with(digits_acn: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(digits_acn, bad)
    config = json.loads((bad / "config.json").read_text())
    for change, text in (
        ({"extra": 1}, "acn.extra: Extra inputs are not permitted"),
        ({"alpha": [0.0]}, "alpha has 1 values, 3 expected"),
        ({"form": "residual"}, "form is 'residual', but alpha says 'acn'"),
        ({"version": 2}, "acn.version"),
    ):
        (bad / "config.json").write_text(json.dumps(config | {"acn": config["acn"] | change}))
        fails(text, "truncate", bad, tmp_path / "out", "--depth", 1)
    # fewer layers by hand, also where plain transformers saved it
    for model_type in (config["model_type"], "vit"):
        changed = {"num_hidden_layers": 2, "model_type": model_type}
        (bad / "config.json").write_text(json.dumps(config | changed))
        fails(
            "num_hidden_layers 2, but its structure (acn) has 3 blocks",
            *("truncate", bad, tmp_path / "out", "--depth", 1),
        )


def test_data_that_does_not_fit(digits_vit: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("picture,kind\n1,2\n")
    out = tmp_path / "out"
    fails(
        "no column holds the labels. Present: picture, kind. Name it with --label-column",
        "convert",
        digits_vit,
        out,
        "--data",
        table,
    )
    fails(
        "has no column 'klass'. Present: picture, kind",
        "convert",
        digits_vit,
        out,
        "--data",
        table,
        "--label-column",
        "klass",
    )
    fails("no such file or folder", "evaluate", digits_vit, "--data", tmp_path / "nothing.parquet")
    fails("no split 'dev'. Present: train, test.", "evaluate", digits_vit, "--data", "digits:dev")
    fails(
        "noise 'fog:1' is not known. Expected gaussian:SD",
        "evaluate",
        digits_vit,
        "--data",
        "digits",
        "--noise",
        "fog:1",
    )
    assert not out.exists()


def test_output_that_would_do_damage(digits_acn: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.tex").write_text("years of work")
    fails(
        "exists and is not empty. Choose another, or pass --overwrite",
        "truncate",
        digits_acn,
        taken,
        "--depth",
        1,
    )
    fails(
        "overlap. A step never writes into its source",
        "truncate",
        digits_acn,
        digits_acn / "inside",
        "--depth",
        1,
    )
    fails(
        "overlap. A step never writes into its source",
        "truncate",
        digits_acn,
        digits_acn.parent,
        "--depth",
        1,
        "--overwrite",
    )
    fails(
        "is a file, expected a directory",
        "truncate",
        digits_acn,
        taken / "thesis.tex",
        "--depth",
        1,
    )
    assert (taken / "thesis.tex").read_text() == "years of work" and len(list(taken.iterdir())) == 1
    told = "was not written by acn-compress"
    fails(told, "truncate", digits_acn, taken, "--depth", 1, "--overwrite")
    assert (taken / "thesis.tex").read_text() == "years of work" and len(list(taken.iterdir())) == 1
    (blank := tmp_path / "blank").mkdir()
    assert invoke("truncate", digits_acn, blank, "--depth", 1).exit_code == 0
    fails("exists and is not empty", "truncate", digits_acn, blank, "--depth", 2)
    assert network(blank).depth == 1
    assert invoke("truncate", digits_acn, blank, "--depth", 2, "--overwrite").exit_code == 0
    assert network(blank).depth == 2


def test_a_full_disk_leaves_nothing(digits_acn: Path, tmp_path: Path) -> None:
    with files_up_to(20_000):
        done = invoke("truncate", digits_acn, tmp_path / "out", "--depth", 2)
    assert done.exit_code == 1, done.stderr
    assert "Nothing was written." in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_space_and_no_permission_are_told_apart(
    digits_acn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from acn_compress.checkpoint import save as checkpoint

    for number, text in (
        (errno.ENOSPC, "no space left on the device"),
        (errno.EACCES, "no permission to write there"),
    ):

        def refuse(*arguments: Any, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(checkpoint, "save", refuse)
        fails(
            f"{text}. Nothing was written.", "truncate", digits_acn, tmp_path / "out", "--depth", 2
        )
        assert list(tmp_path.iterdir()) == []


def test_sparsity_that_cannot_be(digits_acn: Path, tmp_path: Path) -> None:
    for value, bound in ((1.0, "less than 1"), (-0.1, "greater than or equal to 0"), (2, "less")):
        fails(
            f"target_sparsity is {float(value)}, expected: {bound}",
            "prune",
            digits_acn,
            tmp_path / "out",
            "--target-sparsity",
            value,
        )
    fails("0.999", "prune", digits_acn, tmp_path / "out", "--target-sparsity", 0.999)
    fails(
        "prune has epochs 2, but no data to train on",
        "prune",
        digits_acn,
        tmp_path / "out",
        "--target-sparsity",
        0.2,
        "--epochs",
        2,
    )
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_there(digits_acn: Path) -> None:
    fails(
        "device 'tpu9' cannot be used here",
        "evaluate",
        digits_acn,
        "--data",
        "digits",
        "--device",
        "tpu9",
    )
