"""What is written: never over other people's files, by one writer at a time, whole after a kill at
any point, with nothing of the machine in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import fails, files_up_to, invoke
from tiny import network, saved, tiny

import acn_compress
from acn_compress.checkpoint import lock, swap
from acn_compress.checkpoint.directory import check_folder, check_out, new_directory
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.published import published, shown
from acn_compress.checkpoint.scratch import scratch
from acn_compress.checkpoint.write import write
from acn_compress.compression.notes import notes_file
from acn_compress.errors import AcnError, CheckpointError, ModelDirError
from acn_compress.recipe.run import _open
from acn_compress.reports.compressed import Compressed, Limit
from acn_compress.training.state import state_directory


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own, which can be killed."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def names(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tiny("vit", 0.3), tmp_path_factory.mktemp("models") / "m")


# other people's files


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.tex": "x", "data/a.csv": "x"},
        {"config.json": "{}", "model.safetensors": "theirs"},
        {"provenance.json": '{"version": 1, "steps": []}', "notes.txt": "x"},
        {"provenance.json": "[1, 2]", "report.json": "{}"},
        {"report.json": '{"step": "truncate"}'},
    ],
)
def test_what_we_did_not_write_is_never_replaced(
    files: dict[str, str], model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "project"
    for name, text in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text)
    for make in (
        lambda: check_out(out, overwrite=True),
        lambda: write(
            network(model), out, source=None, step="t", options={}, report={}, overwrite=True
        ),
    ):
        with pytest.raises(ModelDirError, match=r"project was not written by acn-compress \(it"):
            make()  # type: ignore[no-untyped-call]
    assert {n: (out / n).read_text() for n in files} == files and names(tmp_path) == ["project"]


def test_what_we_wrote_is_replaced_and_an_empty_directory_filled(tmp_path: Path) -> None:
    out = saved(tiny("vit", 0.3), tmp_path / "m")
    (out / "profile.json").write_text("{}")
    write(tiny("bert"), out, source=None, step="t", options={}, report={}, overwrite=True)
    assert network(out).family.model_type == "bert" and not (out / "profile.json").exists()
    (tmp_path / "empty").mkdir()
    saved(tiny("vit"), tmp_path / "empty")
    assert names(tmp_path) == ["empty", "m"]


def test_what_somebody_else_put_into_what_we_wrote_is_not_replaced_with_it(tmp_path: Path) -> None:
    out = saved(tiny("vit", 0.3), tmp_path / "m")
    (out / ".DS_Store").write_text("")
    check_out(out, overwrite=True)
    (out / "notes").mkdir()
    (out / "notes" / "mine.txt").write_text("x")
    (out / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        ModelDirError, match=r"did not write \(link, notes/mine.txt\), so it is not"
    ):
        check_out(out, overwrite=True)
    assert (out / "notes" / "mine.txt").read_text() == "x" and network(out).depth == 3
    # an earlier version does not say what it wrote
    provenance = json.loads((out / "provenance.json").read_text())
    assert "model.safetensors" in provenance.pop("files")
    (out / "provenance.json").write_text(json.dumps(provenance))
    check_out(out, overwrite=True)


def test_a_file_on_the_way_to_out_is_told_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    source = find_source(saved(tiny("vit"), tmp_path / "m"))
    with pytest.raises(ModelDirError, match="file is a file, expected a directory"):
        check_out(tmp_path / "file" / "out")
    with pytest.raises(ModelDirError, match="file is a file, expected a directory"):
        check_folder(tmp_path / "file" / "out", source)


@pytest.mark.parametrize("there", [None, "empty", "ours"])
@pytest.mark.parametrize("way", [["link"], ["link", "second"]])
def test_a_link_stays_and_what_it_leads_to_is_written(
    way: list[str], there: str | None, model: Path, tmp_path: Path
) -> None:
    """A link to no directory yet, to an empty one and to an earlier result; the same by a link to a
    link."""
    disk, here = tmp_path / "disk", tmp_path / "here"
    disk.mkdir()
    here.mkdir()
    if there == "empty":
        (disk / "big").mkdir()
    if there == "ours":
        saved(tiny("bert"), disk / "big")
        (disk / "big" / "profile.json").write_text("{}")
    for name, to in zip(way, [disk / "big", Path("link")], strict=False):
        (here / name).symlink_to(to)
    with new_directory(here / way[-1], overwrite=True) as new:
        assert new.parent == disk  # renamed into place there: no copy from one disk to another
        shutil.copytree(model, new, dirs_exist_ok=True)
    assert all((here / name).is_symlink() for name in way) and names(here) == sorted(way)
    assert network(here / way[-1]).family.model_type == "vit" and names(disk) == ["big"]
    assert not (disk / "big" / "profile.json").exists()


def test_an_empty_name_is_told(model: Path) -> None:
    with pytest.raises(ModelDirError, match="OUT is empty"):
        check_out("", source=find_source(model))


def test_what_a_link_leads_to_is_replaced_only_as_if_it_was_named(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").write_text("x")
    ours = saved(tiny("vit", 0.3), tmp_path / "ours")
    (tmp_path / "file").write_text("x")
    for name, said in {
        "theirs": "was not written by acn-compress",
        "file": "is a file",
        "ours": "overlap",
        "link": "leads back to itself",
    }.items():
        (link := tmp_path / "link").symlink_to(tmp_path / name)
        with pytest.raises(ModelDirError, match=said):
            check_out(link, source=find_source(ours), overwrite=True)
        link.unlink()
    assert (tmp_path / "theirs" / "thesis.tex").read_text() == "x"


def test_what_goes_beside_out_goes_beside_what_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "big")
    place = tmp_path / "disk" / "big"
    assert state_directory(tmp_path / "link") == state_directory(place)
    assert notes_file(tmp_path / "link") == notes_file(place)
    first = python(HOLD, tmp_path / "link", "sleep")
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    with pytest.raises(ModelDirError, match="being written by another"):
        check_out(place)
    first.kill()
    first.wait()
    # killed between the two renames: a reader by the link has the result that was finished
    saved(tiny("vit"), place)
    dead = re.sub(r"-\d+-", f"-{first.pid}-", swap.new_name(place).name)
    place.rename(place.with_name(dead))
    saved(tiny("bert"), place.with_name(dead.replace("acn-new", "acn-old")))
    assert network(tmp_path / "link").family.model_type == "vit"
    assert names(place.parent) == ["big"] and (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize(
    "command",
    [
        "truncate {model} {link} --depth 2",
        "export {model} {link} --format safetensors",
        "profile {model} --data digits --limit 8 --to {link}",
        "recipes copy acn {link} --overwrite",
        "init --model {model} --data digits --want faster --budget none --out {link} --overwrite",
    ],
)
def test_every_command_writes_through_a_link(
    command: str, there: bool, digits_vit: Path, tmp_path: Path
) -> None:
    (link := tmp_path / "link").symlink_to(real := tmp_path / "real")
    if there and command.startswith(("recipes", "init")):
        real.touch()
    elif there:
        real.mkdir()
    words = [word.format(model=digits_vit, link=link) for word in command.split()]
    assert invoke(*words).exit_code == 0, invoke(*words).output
    assert link.is_symlink() and names(tmp_path) == ["link", "real"]
    assert real.read_text() if real.is_file() else names(real)


def test_folders_of_several_outputs_are_made_where_a_link_leads(
    model: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "runs")
    check_folder(tmp_path / "link", find_source(model))
    lock.release(tmp_path / "link")
    _open(tmp_path / "link", overwrite=False)
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "disk" / "runs") == ["run.json"]


# one writer

HOLD = """
import sys
from acn_compress.checkpoint.directory import check_out
check_out(sys.argv[1])
print("held", flush=True)
sys.stdin.read() if len(sys.argv) < 3 else __import__("time").sleep(100)
"""


def test_a_second_writer_is_refused_at_once_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = python(HOLD, out, "sleep")
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    with pytest.raises(ModelDirError, match=rf"another acn-compress \(process {first.pid}\)"):
        check_out(out)
    check_out(tmp_path / "other")
    lock.release(tmp_path / "other")
    first.kill()
    first.wait()
    check_out(out)
    lock.release(out)
    assert names(tmp_path) == []


def test_the_same_place_by_another_path_is_the_same_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = python(HOLD, tmp_path / "out", "sleep")
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    with pytest.raises(ModelDirError, match="being written by another"):
        check_out("../sub/../out")
    first.kill()
    first.wait()


def test_the_lock_is_let_go_when_the_result_stands_or_the_step_fails(tmp_path: Path) -> None:
    saved(tiny("vit"), tmp_path / "m")
    with pytest.raises(RuntimeError, match="by itself"), new_directory(tmp_path / "n"):
        raise RuntimeError("by itself")
    with pytest.raises(ModelDirError, match="not empty"):
        check_out(tmp_path / "m")
    code = (
        "import sys; from acn_compress.checkpoint.directory import check_out\n"
        "check_out(sys.argv[1], overwrite=True); check_out(sys.argv[2]); print('free')"
    )
    assert python(code, tmp_path / "m", tmp_path / "n").communicate()[0] == "free\n"
    assert names(tmp_path) == ["m"]


def test_folders_on_the_way_to_what_was_not_written_go_again(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(RuntimeError), new_directory(tmp_path / "there" / "a" / "b" / "m") as new:
        (new.parent.parent / "somebody's").touch()
        raise RuntimeError
    assert names(tmp_path / "there") == ["a"] and names(tmp_path / "there" / "a") == ["somebody's"]
    with pytest.raises(RuntimeError), new_directory(tmp_path / "there" / "c" / "m"):
        raise RuntimeError
    assert names(tmp_path / "there") == ["a"]


def test_a_step_that_fails_early_holds_nothing(model: Path, tmp_path: Path) -> None:
    with pytest.raises(AcnError, match="depth is 99"):
        acn_compress.truncate(model, tmp_path / "out", depth=99)
    code = (
        "import sys; from acn_compress.checkpoint.directory import check_out\n"
        "check_out(sys.argv[1]); print('free')"
    )
    assert python(code, tmp_path / "out").communicate()[0] == "free\n"


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the lock files of this test lie."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"acn-compress-{os.getuid()}"


def test_no_lock_stays_behind_but_those_of_who_writes(locks: Path, tmp_path: Path) -> None:
    killed, living = (python(HOLD, tmp_path / name, "sleep") for name in ("killed", "living"))
    for process in (killed, living):
        assert process.stdout is not None and process.stdout.readline() == "held\n"
    assert len(names(locks)) == 3  # one each, and the door
    killed.kill()
    killed.wait()
    check_out(tmp_path / "out")
    assert len(names(locks)) == 3
    lock.release(tmp_path / "out")
    with pytest.raises(ModelDirError, match=rf"process {living.pid}\)"):
        check_out(tmp_path / "living")
    living.kill()
    living.wait()
    check_out(tmp_path / "out")
    lock.release(tmp_path / "out")
    assert names(locks) == ["door"]


RIVAL = """
import os, sys, time
from pathlib import Path
from acn_compress.checkpoint import lock
from acn_compress.errors import ModelDirError

real = os.open
def slow(*arguments):
    found = real(*arguments)
    time.sleep(0.001)  # between a file's opening and its locking, where another may take it away
    return found
os.open = slow
out, inside = Path(sys.argv[1]), Path(sys.argv[1] + ".inside")
held = 0
print("ready", flush=True)
sys.stdin.readline()
for _ in range(100):
    try:
        lock.take(out)
    except ModelDirError:
        continue
    inside.touch(exist_ok=False)  # fails if another holds it too
    inside.unlink()
    lock.release(out)
    held += 1
print(held)
"""


def test_of_rivals_who_take_and_let_go_one_at_a_time_holds_the_lock(
    locks: Path, tmp_path: Path
) -> None:
    rivals = [python(RIVAL, tmp_path / "out") for _ in range(3)]
    for rival in rivals:
        assert rival.stdout is not None and rival.stdout.readline() == "ready\n"
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write("go\n")
        rival.stdin.flush()
    held = 0
    for rival in rivals:
        said, errors = rival.communicate(timeout=60)
        assert rival.returncode == 0, errors
        held += int(said)
    assert held > 0
    assert names(locks) == ["door"]


# kills

REPLACE = """
import os, sys
from pathlib import Path
from acn_compress.checkpoint.directory import new_directory

# the process dies at its n-th change of the disk
left = int(sys.argv[2])
def dying(name):
    real = getattr(os, name)
    def call(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
        return real(*args, **kwargs)
    return call
with new_directory(sys.argv[1], overwrite=True) as directory:
    (directory / "provenance.json").write_text(sys.argv[3])
    (directory / "who").write_text("new")
    for name in ("rename", "replace", "rmdir", "unlink", "chmod"):
        setattr(os, name, dying(name))
"""


KILLED_BEFORE = 4  # changes before the first rename: the list of files, the modes of two


@pytest.fixture
def provenance(model: Path) -> str:
    stored = json.loads((model / "provenance.json").read_text())
    return json.dumps(stored | {"files": ["who"]})


@pytest.mark.parametrize("moment", range(10))
def test_a_kill_while_a_result_is_replaced_loses_nothing(
    moment: int, provenance: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "provenance.json").write_text(provenance)
    (out / "who").write_text("old")
    process = python(REPLACE, out, moment, provenance)
    _, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors
    swap.recover(out)
    assert names(tmp_path) == ["out"] and names(out) == ["provenance.json", "who"]
    assert (out / "who").read_text() == ("old" if moment <= KILLED_BEFORE else "new")


def test_a_kill_between_the_two_renames_is_mended_for_reader_and_writer(
    model: Path, tmp_path: Path
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    token = f"{swap._HOST}-{dead.pid}-0a1b2c3d"
    out = tmp_path / "out"
    shutil.copytree(model, tmp_path / f".out.acn-old-{token}")
    new = saved(tiny("vit", 0.7), tmp_path / "finished")
    new.rename(tmp_path / f".out.acn-new-{token}")
    assert network(out).structure.alpha == (0.7,) * 3 and names(tmp_path) == ["out"]
    out.rename(tmp_path / f".out.acn-old-{token}")
    check_out(out, overwrite=True)
    lock.release(out)
    assert network(out).structure.alpha == (0.7,) * 3 and names(tmp_path) == ["out"]


def test_what_dead_processes_left_is_swept_and_what_living_ones_write_is_not(
    tmp_path: Path,
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = swap._HOST
    for kept in (f".out.acn-new-{host}-1-ab", ".out.acn-new-elsewhere-77-ab", ".out.backup"):
        (tmp_path / kept).mkdir()
    for swept in ("new", "gone"):
        (tmp_path / f".out.acn-{swept}-{host}-{dead.pid}-ab").mkdir()
    (tmp_path / f".other.acn-new-{host}-{dead.pid}-ab").mkdir()
    saved(tiny("vit"), tmp_path / "out")
    assert len(names(tmp_path)) == 5 and f".other.acn-new-{host}-{dead.pid}-ab" in names(tmp_path)


# what is handed on


def test_no_place_and_no_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "a-user"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    saved(tiny("vit"), home / "first")
    report = acn_compress.truncate(home / "first", home / "second", depth=2)
    assert report["source"] == str(home / "first") and report["out"] == str(home / "second")
    for file in ("report.json", "provenance.json", "README.md", "config.json"):
        text = (home / "second" / file).read_text()
        assert "a-user" not in text and str(tmp_path) not in text, file
    assert 'acn_compress.load("second")' in (home / "second" / "README.md").read_text() or (
        '.from_pretrained("second")' in (home / "second" / "README.md").read_text()
    )
    past = json.loads((home / "second" / "provenance.json").read_text())["steps"][-1]
    assert past["source"]["name"] == "first"
    assert past["source"]["weights_sha256"] == find_source(home / "first").sha256()


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("/home/ann/data/train.csv:train", "train.csv:train"),
        ("~/models/my-vit", "my-vit"),
        ("~ann/m/", "m"),
        ("../../ann/m", "m"),
        ("/home/ann b/c d.csv", "c d.csv"),
        (
            "refitted on /home/ann/x.csv, nothing was trained",
            "refitted on x.csv, nothing was trained",
        ),
        ("runs/1-finetune", "runs/1-finetune"),
        ("someone/tiny@v1", "someone/tiny@v1"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("tokens/s and 3 / 4 of it", "tokens/s and 3 / 4 of it"),
        ("gaussian:0.2", "gaussian:0.2"),
        ({"teacher": ["/a/b", 3, None, True]}, {"teacher": ["b", 3, None, True]}),
    ],
)
def test_paths_are_cut_down_to_their_last_name(text: object, public: object) -> None:
    assert published(text) == public


def test_what_is_shown_of_a_report_is_published_at_every_depth() -> None:
    limit = Limit.of("max_drop", 1, 1, True, against="/a/b")
    stored = json.loads((Path(__file__).parent / "reports" / "compress.json").read_text())
    report = Compressed.model_validate(stored).model_copy(update={"limits": (limit,)})
    assert shown(report).limits[0].against == "b"
    assert shown(report).plain() == published(report.plain())


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_follow_the_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        out = saved(tiny("bert"), tmp_path / "m")
    finally:
        os.umask(before)
    for path in (out, *out.rglob("*")):
        wanted = (0o777 if path.is_dir() else 0o666) & ~mask
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path.name


def test_the_hash_is_of_the_weights_that_were_read(tmp_path: Path) -> None:
    directory = saved(tiny("vit", 0.3), tmp_path / "m")
    source = find_source(directory)
    net, digest = network(directory), source.sha256()
    shutil.copyfile(
        saved(tiny("vit", 0.7), tmp_path / "n") / "model.safetensors",
        directory / "model.safetensors",
    )
    with (directory / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    write(net, tmp_path / "out", source=source, step="t", options={}, report={})
    past = json.loads((tmp_path / "out" / "provenance.json").read_text())["steps"][-1]
    assert past["source"]["weights_sha256"] == digest != find_source(directory).sha256()
    with pytest.raises(CheckpointError, match="changed while they were in use"):
        source.check_unchanged()


def test_a_place_to_work_in_goes_and_that_of_a_killed_process_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with scratch() as made:
        (made / "model.onnx").touch()
        name = made.name.replace(f"-{os.getpid()}-", f"-{dead.pid}-")
        shutil.copytree(made, tmp_path / name)
        with scratch() as other:
            assert set(tmp_path.iterdir()) == {made, other}
    assert list(tmp_path.iterdir()) == []


# places that cannot be written: a system's own, and a disk that takes no more

NOWHERE = "/proc/acn-compress"  # not even for root


def test_a_place_that_cannot_be_written_is_one_line(digits_vit: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: digits\nsource: {digits_vit}\nsteps: [{{truncate: {{depth: 1}}}}]\n")
    few = ("--limit", 20)
    fails("profile.json: ", "profile", digits_vit, "--data", "digits", *few, "--to", NOWHERE)
    fails(
        f"OUT {NOWHERE}: ",
        *("compare", digits_vit, "--data", "digits", "--depths", 1, *few, "--out", NOWHERE),
    )
    fails(f"OUT {NOWHERE}: ", "run", recipe, "--out", NOWHERE)


@pytest.mark.parametrize("command", ["profile", "compare", "run"])
def test_a_disk_that_takes_no_more_is_one_line(
    command: str, digits_vit: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: digits\nsource: {digits_vit}\nsteps: [{{truncate: {{depth: 1}}}}]\n")
    out = tmp_path / "out"
    data = ("--data", "digits", "--limit", 20)
    batch = ("--batch-size", 4)
    routes = ("--depths", 1, "--epochs", 0.1, "--seeds", 1, "--routes", "drop-last")
    given: dict[str, tuple[object, ...]] = {
        "profile": (digits_vit, *data, "--to", out),
        "compare": (digits_vit, *data, *routes, *batch, "--out", out),
        "run": (recipe, "--out", out),
    }
    with files_up_to(400):
        done = invoke(command, *given[command])
    assert done.exit_code == 1, done.stderr
    fault = done.stderr[done.stderr.index("error: ") :]  # after the progress
    assert fault.count("\n") == 1 and "a file this large" in fault, done.stderr
    assert not list(tmp_path.rglob("*.partial"))
