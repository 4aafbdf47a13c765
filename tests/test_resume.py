"""Training is never lost: what ends it, what is kept, what goes on from it, what is left alone."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState

import acn_compress as acn
from acn_compress.cli import main
from acn_compress.errors import AcnError, ConfigError, Interrupted, ModelDirError
from acn_compress.events import Event, TrainingStep
from acn_compress.training.hooks import EVERY, Stop
from acn_compress.training.interrupt import Stopped, handling
from acn_compress.training.state import resumable, state_directory

HOW: dict[str, Any] = {
    "init": "random",
    "epochs": 1.5,
    "batch_size": 16,
    "lr": 2e-3,
    "limit": 160,
    "eval_limit": 40,
}
STEPS = 15


def _hash(directory: Path) -> str:
    return hashlib.sha256((directory / "model.safetensors").read_bytes()).hexdigest()


def _at(step: int, *actions: Any) -> Any:
    """A progress display that does something after a step, once."""
    left = list(actions)

    def progress(event: Event) -> None:
        if isinstance(event, TrainingStep) and event.step == step and left:
            left.pop(0)()

    return progress


def _send(number: int) -> Any:
    return lambda: os.kill(os.getpid(), number)


def _checkpoint(out: Path) -> Path:
    (found,) = state_directory(out).glob("checkpoint-*")
    return found


@pytest.fixture(scope="module")
def straight(vit_config: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of the run that nothing interrupts."""
    out = tmp_path_factory.mktemp("straight") / "out"
    acn.finetune(vit_config, out, data="digits", progress=False, **HOW)
    assert not state_directory(out).exists()
    return _hash(out)


@pytest.fixture(scope="module")
def stopped(vit_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OUT of a run that Ctrl-C ended after 7 of 15 steps."""
    out = tmp_path_factory.mktemp("stopped") / "out"
    with pytest.raises(Interrupted, match=r"at step 7 of 15; .*out\.training\. Run the same"):
        acn.finetune(vit_config, out, data="digits", progress=_at(6, _send(signal.SIGINT)), **HOW)
    assert not out.exists() and resumable(out)
    return out


@pytest.fixture
def interrupted(stopped: Path, tmp_path: Path) -> Path:
    """The same run, the test's own."""
    shutil.copytree(state_directory(stopped), state_directory(tmp_path / "out"))
    return tmp_path / "out"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_training_as_ctrl_c_does(
    number: int, code: int, vit_config: Path, tmp_path: Path, straight: str
) -> None:
    out = tmp_path / "out"
    before = signal.signal(number, signal.default_int_handler)  # under nohup SIGHUP is ignored
    try:
        with pytest.raises(Interrupted, match="at step 4 of 15") as caught:
            acn.finetune(vit_config, out, data="digits", progress=_at(3, _send(number)), **HOW)
    finally:
        signal.signal(number, before)
    assert caught.value.exit_code == code and os.listdir(tmp_path) == ["out.training"]
    acn.finetune(vit_config, out, data="digits", resume=True, progress=False, **HOW)
    assert _hash(out) == straight and os.listdir(tmp_path) == ["out"]


def test_the_history_of_a_resumed_run_is_that_of_the_whole(
    interrupted: Path, vit_config: Path
) -> None:
    report = acn.finetune(
        vit_config, interrupted, data="digits", resume=True, progress=False, **HOW
    )
    steps = [entry["step"] for entry in report["training"]["history"]]
    assert steps == list(range(1, STEPS + 1))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lr": 1e-3}, r"lr was 0\.002, is 0\.001"),
        ({"epochs": 1}, r"epochs was 1\.5, is 1\.0"),
        ({"batch_size": 8, "epochs": 0.75}, r"batch_size was 16, is 8; epochs was 1\.5"),
        ({"seed": 3}, "seed was 0, is 3"),
        ({"limit": 165}, "limit was 160, is 165; the content of digits:train changed"),
        ({"augment": "crop"}, "augment was not given, is crop"),
        ({"alpha": 0.5}, r"alpha was not given, is 0\.5"),
        ({"data": "digits:test"}, "the data were digits:train, are digits:test"),
    ],
)
def test_another_training_cannot_go_on(
    changed: dict[str, Any], said: str, interrupted: Path, vit_config: Path
) -> None:
    before = sorted(state_directory(interrupted).rglob("*"))
    with pytest.raises(ConfigError, match=said) as caught:
        options: dict[str, Any] = {"data": "digits", **HOW, **changed}
        acn.finetune(vit_config, interrupted, resume=True, progress=False, **options)
    assert "\n" not in str(caught.value) and "instead of --resume" in str(caught.value)
    assert sorted(state_directory(interrupted).rglob("*")) == before and not interrupted.exists()


@pytest.mark.long
def test_another_method_or_source_or_teacher_cannot_go_on(vit_config: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        acn.finetune(
            vit_config, tmp_path / name, data="digits", progress=False, **HOW | {"seed": seed}
        )
    how: dict[str, Any] = {k: v for k, v in HOW.items() if k != "init"}
    a, b, out = tmp_path / "a", tmp_path / "b", tmp_path / "out"
    with pytest.raises(Interrupted):
        acn.convert(a, out, data="digits", progress=_at(3, _send(signal.SIGINT)), **how)
    for src, given, said in (
        (b, {}, "the source has other weights; the teacher has other weights"),
        (a, {"teacher": b}, "the teacher has other weights"),
        (a, {"alpha_end": 0.3}, r"alpha_end was 0\.0, is 0\.3"),
        (a, {"depth": 2}, "depth was not given, is 2"),
    ):
        with pytest.raises(ConfigError, match=said):
            acn.convert(src, out, data="digits", resume=True, progress=False, **how, **given)
    with pytest.raises(ConfigError, match="it was made by convert, not by prune"):
        acn.prune(a, out, target_sparsity=0.3, data="digits", resume=True, progress=False, **how)
    acn.convert(a, out, data="digits", resume=True, progress=False, **how)


def test_the_content_of_the_data_counts_and_not_its_name(
    vit_config: Path, tmp_path: Path, tokens: Path
) -> None:
    rows = [(f"a film of people {'good' if i % 2 else 'bad'} music", i % 2) for i in range(64)]
    _write(tmp_path / "one.csv", rows)
    how: dict[str, Any] = {"epochs": 2, "batch_size": 8, "task": "text-classification"}
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        stop = _at(3, _send(signal.SIGINT))
        acn.finetune(tokens, out, data=str(tmp_path / "one.csv"), progress=stop, **how)
    rows[10] = (rows[10][0], 1 - rows[10][1])
    _write(tmp_path / "other.csv", rows)
    with pytest.raises(ConfigError, match=r"the data were .*one.csv.*, are .*other.csv"):
        data = str(tmp_path / "other.csv")
        acn.finetune(tokens, out, data=data, resume=True, progress=False, **how)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "one.csv", tmp_path / "elsewhere" / "same.csv")
    data = str(tmp_path / "elsewhere" / "same.csv")
    acn.finetune(tokens, out, data=data, resume=True, progress=False, **how)


def _write(path: Path, rows: list[tuple[str, int]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A tiny BERT with its tokenizer."""
    import torch
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", "a", "film", "of", "people", "good", "bad", "music"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=30
    ).save_pretrained(tmp_path / "bert")
    torch.manual_seed(0)
    hf.BertForSequenceClassification(
        hf.BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
        )
    ).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"],
)
def test_a_missing_or_damaged_file_is_refused(
    name: str, interrupted: Path, vit_config: Path
) -> None:
    file = _checkpoint(interrupted) / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    for said in ("is not what was written", "is missing"):
        with pytest.raises(
            ModelDirError, match=rf"{name} {said}.*cannot go on to the same weights"
        ):
            acn.finetune(vit_config, interrupted, data="digits", resume=True, progress=False, **HOW)
        file.unlink(missing_ok=True)
    assert _checkpoint(interrupted).is_dir() and not resumable(interrupted)


def test_half_a_checkpoint_is_passed_over(
    interrupted: Path, vit_config: Path, straight: str
) -> None:
    state = state_directory(interrupted)
    half = state / "checkpoint-12"
    shutil.copytree(_checkpoint(interrupted), half)
    (half / "files.json").unlink()
    (state / ".partial" / "checkpoint-13").mkdir(parents=True)
    acn.finetune(vit_config, interrupted, data="digits", resume=True, progress=False, **HOW)
    assert _hash(interrupted) == straight and not state.exists()


def test_a_result_that_cannot_be_written_loses_no_training(
    vit_config: Path, tmp_path: Path, straight: str
) -> None:
    out = tmp_path / "out"

    def in_the_way() -> None:
        out.mkdir()
        (out / "notes.txt").write_text("came while it trained")

    with pytest.raises(ModelDirError, match=r"not lost: .*out\.training. .* with --resume"):
        acn.finetune(vit_config, out, data="digits", progress=_at(STEPS, in_the_way), **HOW)
    assert _checkpoint(out).name == f"checkpoint-{STEPS}"
    shutil.rmtree(out)
    seen: list[Event] = []
    report = acn.finetune(vit_config, out, data="digits", resume=True, progress=seen.append, **HOW)
    assert not seen, "everything was trained"
    assert _hash(out) == straight and not state_directory(out).exists()
    assert len(report["training"]["history"]) == STEPS and report["training"]["steps"] == STEPS


def test_a_full_disk_is_one_line_and_keeps_the_checkpoint_before(
    vit_config: Path, tmp_path: Path, straight: str
) -> None:
    out = tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, hard))  # noqa: E731
    try:
        with pytest.raises(ModelDirError, match=r"step 15 cannot be written.*not lost") as caught:
            acn.finetune(vit_config, out, data="digits", progress=_at(12, limit), **HOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value) and not out.exists()
    assert sorted(p.name for p in state_directory(out).iterdir()) == [
        "acn-training.json",
        "checkpoint-10",
    ]
    acn.finetune(vit_config, out, data="digits", resume=True, progress=False, **HOW)
    assert _hash(out) == straight


def test_a_directory_that_is_not_ours_is_refused_and_left_alone(
    vit_config: Path, tmp_path: Path
) -> None:
    for name, make in (("folder", _notes), ("file", Path.touch), ("link", _link)):
        out = tmp_path / name
        make(state_directory(out))
        for more in ({}, {"overwrite": True}, {"resume": True}):
            how: dict[str, Any] = {**HOW, **more}
            with pytest.raises(ModelDirError, match=r"not one of this version\. Move it away"):
                acn.finetune(vit_config, out, data="digits", progress=False, **how)
    assert (tmp_path / "folder.training" / "checkpoint-3" / "mine.txt").read_text() == "notes"


def _notes(path: Path) -> None:
    (path / "checkpoint-3").mkdir(parents=True)
    (path / "checkpoint-3" / "mine.txt").write_text("notes")


def _link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def test_an_empty_directory_is_taken_and_what_others_put_in_stays(
    vit_config: Path, tmp_path: Path
) -> None:
    state = state_directory(tmp_path / "out")
    state.mkdir()
    note = _at(3, lambda: (state / "notes.txt").write_text("mine"))
    acn.finetune(vit_config, tmp_path / "out", data="digits", progress=note, **HOW)
    assert [p.name for p in state.iterdir()] == ["notes.txt"]


def test_an_interrupted_training_is_not_thrown_away_without_a_word(
    interrupted: Path, vit_config: Path, straight: str
) -> None:
    with pytest.raises(ModelDirError, match=r"\(7 steps\). Go on with --resume, or start anew"):
        acn.finetune(vit_config, interrupted, data="digits", progress=False, **HOW)
    assert _checkpoint(interrupted).name == "checkpoint-7"
    acn.finetune(vit_config, interrupted, data="digits", overwrite=True, progress=False, **HOW)
    assert _hash(interrupted) == straight and not state_directory(interrupted).exists()


def test_a_training_that_fails_leaves_nothing_that_is_of_no_use(
    vit_config: Path, tmp_path: Path
) -> None:
    how = HOW | {"lr": 1e30}
    with pytest.raises(AcnError, match="diverged"):
        acn.finetune(vit_config, tmp_path / "out", data="digits", progress=False, **how)
    assert os.listdir(tmp_path) == []


def test_what_is_stored_with_a_checkpoint_is_plain_json(interrupted: Path) -> None:
    stored = json.loads((state_directory(interrupted) / "acn-training.json").read_text())
    assert stored["version"] == 2 and stored["steps"] == STEPS
    assert stored["options"]["lr"] == 2e-3 and stored["options"]["limit"] == 160
    assert not {"data", "device", "overwrite", "resume"} & stored["options"].keys()


def test_a_checkpoint_is_due_every_ten_minutes() -> None:
    args: Any = SimpleNamespace(save_strategy="epoch")
    for late, due in ((0.0, False), (EVERY + 1, True)):
        stop, control = Stop(), TrainerControl()
        stop.saved -= late
        stop.on_step_end(args, TrainerState(), control)
        assert control.should_save is due and not control.should_training_stop
    assert EVERY == 600


def test_outside_training_a_signal_is_an_exception_and_nohup_is_honoured() -> None:
    with _ignored(signal.SIGHUP), handling():
        os.kill(os.getpid(), signal.SIGHUP)  # as under nohup
        with pytest.raises(Stopped) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        assert caught.value.number == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)


@contextmanager
def _ignored(number: int) -> Iterator[None]:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    "place",
    [
        "typer.main.get_command",  # before anything is read
        "typer.core.TyperGroup.parse_args",  # where options are read
        "acn_compress.reports.progress.display",  # before the step
        "acn_compress.surface.call",  # in it
        "acn_compress.reports.show.show",  # after it
    ],
)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("heard", ["heard", "made another error", "dropped"])
def test_a_signal_at_any_moment_of_a_command_is_its_own_exit_code_and_one_line(
    place: str,
    heard: str,
    number: int,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whoever is at work then: C that is imported makes another error of it (so pybind11 does), and
    what `__del__` raises is dropped."""

    def signalled(*_: object) -> None:
        os.kill(os.getpid(), number)
        time.sleep(1)

    def now(*_: object, **__: object) -> None:
        if heard == "dropped":
            type("Passing", (), {"__del__": signalled})()
            time.sleep(30)
        try:
            signalled()
        except KeyboardInterrupt:
            if heard == "heard":
                raise
            raise ImportError("initialization failed") from None

    (tmp_path / "recipe.yaml").write_text("data: digits\nsource: x\nsteps: [profile]\n")
    monkeypatch.setattr(place, now)
    monkeypatch.setattr(sys, "argv", ["acn-compress", "validate", str(tmp_path / "recipe.yaml")])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == code
    said = capsys.readouterr().err
    assert said.startswith("error: interrupted") and said.count("\n") == 1


@pytest.mark.parametrize(("when", "left"), [("step", ["out.training"]), ("start", [])])
@pytest.mark.long
def test_sigterm_ends_the_command_with_143_and_nothing_half(
    when: str, left: list[str], vit_config: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "acn_compress", "finetune", str(vit_config), "out"]
    options = ["--init", "random", "--data", "digits", "--epochs", "200"]
    process = subprocess.Popen(
        [*command, *options],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    if when == "step":
        assert any(line.startswith("step") for line in process.stderr)
    else:
        time.sleep(4)  # imports, data
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143 and "Traceback" not in said
    if when == "step":
        assert os.listdir(tmp_path) == left and said.count("error: ") == 1 and "--resume" in said
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
