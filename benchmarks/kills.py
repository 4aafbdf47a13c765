"""Commands killed at random moments: what is damaged, lost or left over afterwards.

    python -m benchmarks.kills [--kills 40] [--seed 0] [--out benchmarks/results/kills.json]
    python -m benchmarks.kills --fresh --kills 100 --only finetune --out FILE

Small networks on digits, so that the moments fall into every part of a command: reading, training,
saving a training checkpoint, writing, putting in place. Every command runs once undisturbed, which
says how long it takes and what it makes; then it is killed (SIGKILL or SIGTERM) after a random part
of that time, and started again as a user would: with --resume where a training checkpoint is left.

damaged    OUT is neither what stood there before nor what the command makes; or the source changed
lost       the second start fails, makes other weights than the undisturbed run, or does a finished
           step of a run again
left over  files beside OUT, or in the temporary directory, after the second start
unheard    SIGTERM did not end it with its own exit code (143, or the signal itself before Python
           runs our code)

With --fresh every command imports its libraries itself, so that most moments fall there.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import yaml
from pydantic import BaseModel

from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.provenance import machine
from acn_compress.cli import main as command_line
from acn_compress.onnx.layout import find_onnx
from acn_compress.onnx.session import Session
from benchmarks.command import RESULTS, parser, write

CONFIG = {
    "model_type": "vit",
    "architectures": ["ViTForImageClassification"],
    "image_size": 8,
    "patch_size": 2,
    "num_channels": 3,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
TRAINING = ["--data", "digits", "--batch-size", "64", "--epochs", "2", "--lr", "1e-3"]
RECIPE = {
    "data": "digits",
    "training": {"batch_size": 64},
    "limit": 256,
    "eval_limit": 128,
    "baseline": False,
    "steps": [
        {"convert": {"epochs": 1}},
        {"truncate": {"depth": 2}},
    ],
}
# imported once, before a command is forked
HEAVY = (
    *(f"acn_compress.steps.{name}" for name in ("convert", "finetune", "prune", "truncate")),
    *(f"acn_compress.steps.{name}" for name in ("export", "run")),
    "acn_compress.reports.show",
    "datasets",
    "sklearn.datasets",
    "sklearn.model_selection",
    "torch._dynamo",
    "torch.onnx",
    "torch_pruning",
    "matplotlib.pyplot",
    "transformers.trainer",
    "transformers.models.vit.modeling_vit",
    "transformers.models.vit.image_processing_vit",
)
SIGNALS = (signal.SIGKILL, signal.SIGTERM)
Mark = str | None  # of what stands at a place; None is nothing


@dataclass(frozen=True)
class Case:
    """A command that is killed.

    Args:
        name: of it.
        given: what follows the name on the command line.
        trains: it may leave a training checkpoint, and takes --resume.
        before: what makes the directory that stands at OUT.
    """

    name: str
    given: list[str]
    trains: bool = False
    before: list[str] = field(default_factory=list)


CASES = (
    Case("convert", ["convert", "model", "out", *TRAINING], trains=True),
    Case("finetune", ["finetune", "model", "out", *TRAINING], trains=True),
    Case("prune", ["prune", "model", "out", "--target-sparsity", "0.3", *TRAINING], trains=True),
    Case(
        "truncate",
        ["truncate", "model", "out", "--depth", "2", "--overwrite"],
        before=["truncate", "model", "out", "--depth", "1"],
    ),
    Case(
        "export",
        ["export", "model", "out", "--overwrite"],
        before=["export", "shallow", "out"],
    ),
    Case("run", ["run", "recipe.yaml", "--out", "out"]),
)


class Kill(BaseModel):
    """What a kill did."""

    command: str
    signal: str
    after: float
    """Seconds; it ran less where it was done before."""
    code: int
    """Of the killed command; negative is the signal's number."""
    resumed: bool = False
    damaged: str | None = None
    lost: str | None = None
    left_over: list[str] = []
    unheard: bool = False


def call(given: list[str], place: Path, fresh: bool = False) -> int:
    """Run a command in a process of its own to its end; its exit code."""
    return wait(start(given, place, fresh))


def start(given: list[str], place: Path, fresh: bool = False) -> int:
    """A process that runs a command in `place`. It is forked, so that the libraries need not be
    imported again and the moments fall into the command itself, unless it is to be a fresh one."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.chdir(place)
        log = os.open(place.with_name("log.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if fresh:
            os.execv(sys.executable, [sys.executable, "-m", "acn_compress", *given])
        sys.argv = ["acn-compress", *given]
        command_line()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(process: int) -> int:
    """Its exit code; negative is the number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed(given: list[str], place: Path, after: float, number: int, fresh: bool) -> int:
    """Run a command, and kill it after so many seconds."""
    process = start(given, place, fresh)
    time.sleep(after)
    os.kill(process, number)  # one that is done waits for `wait`, so this is never another's
    return wait(process)


def mark(place: Path) -> Mark:
    """What a finished directory holds: the SHA-256 of its weights, or the graph that runs. A
    directory that cannot be read has the fault for a mark."""
    if not place.exists():
        return None
    try:
        for name in ("report.json", "provenance.json"):
            json.loads((place / name).read_text())
        if (onnx := find_onnx(place)) is not None:
            return f"onnx of {len(Session(onnx).feeds(1, 1))} inputs, {onnx.stat().st_size} bytes"
        source = find_source(place)
        source.tensors()
        return source.sha256()
    except Exception as error:
        return f"damaged: {error}"


def chain_mark(place: Path) -> Mark:
    """What a finished run holds: the weights of every step."""
    if not (place / "table.json").is_file():
        return None
    json.loads((place / "table.json").read_text())
    steps = sorted(p for p in place.iterdir() if p.is_dir())
    return " ".join(f"{p.name}={mark(p)}" for p in steps)


def marker(case: Case) -> Callable[[Path], Mark]:
    """What tells the results of a command apart."""
    return chain_mark if case.name == "run" else mark


def finished(place: Path) -> dict[str, float]:
    """The steps that a run says are done, and when their directories were made."""
    try:
        steps = json.loads((place / "run.json").read_text())["steps"]
    except (OSError, ValueError):
        return {}
    return {n: (place / n).stat().st_mtime for n, step in steps.items() if step["finished"]}


class Bench:
    """A place with a small trained model, in which commands are killed."""

    def __init__(self, root: Path, fresh: bool) -> None:
        self.root, self.base, self.fresh = root, root / "base", fresh
        self.usual: set[Path] = set()  # what an undisturbed command leaves: the caches of libraries
        self.base.mkdir()
        (self.base / "config.json").write_text(json.dumps(CONFIG))
        (self.base / "recipe.yaml").write_text(yaml.safe_dump({"source": "model", **RECIPE}))
        made = ["finetune", "config.json", "model", "--init", "random", *TRAINING]
        assert call(made, self.base) == 0, (root / "log.txt").read_text()
        assert call(["truncate", "model", "shallow", "--depth", "1"], self.base) == 0

    def place(self, case: Case) -> Path:
        """A fresh copy of it, with what stands at OUT before."""
        place = self.root / "place"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.base, place)
        if case.before:
            assert call(case.before, place) == 0
        return place

    def undisturbed(self, case: Case) -> tuple[float, Mark, Mark]:
        """Seconds, and what stands at OUT before and after."""
        place, of = self.place(case), marker(case)
        before, began = of(place / "out"), time.perf_counter()
        assert call(case.given, place, self.fresh) == 0, (self.root / "log.txt").read_text()
        self.usual |= set(temporary())
        return time.perf_counter() - began, before, of(place / "out")

    def kill(self, case: Case, after: float, number: int, marks: tuple[Mark, Mark]) -> Kill:
        """One kill, and the start after it."""
        place, of = self.place(case), marker(case)
        out, source, expected = place / "out", mark(place / "model"), set(os.listdir(place))
        found = Kill(
            command=case.name,
            signal=signal.Signals(number).name,
            after=round(after, 2),
            code=killed(case.given, place, after, number, self.fresh),
        )
        found.unheard = number == signal.SIGTERM and found.code not in {0, 143, -number}
        if (stands := of(out)) not in {None if case.name == "run" else marks[0], marks[1]}:
            # of an --overwrite the old one may be aside until the next start, which brings it back
            found.damaged = self._aside(place, stands, marks)
        if mark(place / "model") != source:
            found.damaged = "the source changed"
        self._again(case, place, found, marks[1])
        now = set(os.listdir(place)) - expected - {"out"}
        left = set(temporary()) - self.usual
        self.usual |= left  # each counts once
        found.left_over = sorted([*now, *(p.name for p in left)])
        return found

    @staticmethod
    def _aside(place: Path, stands: Mark, marks: tuple[Mark, Mark]) -> str | None:
        aside = [mark(p) for p in place.glob(".out.acn-*")]
        return None if stands is None and marks[0] in aside else f"OUT is {stands}"

    def _again(self, case: Case, place: Path, found: Kill, wanted: Mark) -> None:
        """Start it again, as a user would, and see what comes out."""
        out, of, given = place / "out", marker(case), list(case.given)
        done = finished(out)
        if case.trains and of(out) == wanted:
            given.append("--overwrite")  # it was done before the signal came
        elif case.trains and any((place / "out.training").glob("checkpoint-*")):
            found.resumed = True
            given.append("--resume")
        code = call(given, place)
        if code != 0:
            last = (self.root / "log.txt").read_text().strip().splitlines()[-1:]
            found.lost = f"the second start ended with {code}: {last}"
        elif of(out) != wanted:
            found.lost = f"other weights: {of(out)}, expected {wanted}"
        elif again := [n for n, made in done.items() if (out / n).stat().st_mtime != made]:
            found.lost = f"finished steps were done again: {', '.join(again)}"


def temporary() -> list[Path]:
    """What lies in the temporary directory of the commands, but for the empty one of their
    locks."""
    root = Path(tempfile.gettempdir())
    return [p for p in root.iterdir() if not p.name.startswith("acn-compress-")] + [
        p for p in root.glob("acn-compress-*/*")
    ]


def main() -> None:
    """The command."""
    command = parser(__doc__)
    command.add_argument("--kills", type=int, default=40)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--only", help="this command")
    command.add_argument("--fresh", action="store_true", help="they import their libraries")
    command.add_argument("--out", type=Path, default=RESULTS / "kills.json")
    options = command.parse_args()
    cases = [c for c in CASES if options.only in (None, c.name)]
    draw = random.Random(options.seed)
    kills: list[Kill] = []
    with tempfile.TemporaryDirectory() as root:
        tempfile.tempdir = str(Path(root) / "temporary")  # of this process and those it forks
        os.environ["TMPDIR"] = tempfile.tempdir
        Path(tempfile.tempdir).mkdir()
        for name in HEAVY:
            import_module(name)
        bench = Bench(Path(root), options.fresh)
        known = {case.name: bench.undisturbed(case) for case in cases}
        for number in range(options.kills):
            case = cases[number % len(cases)]
            seconds, *marks = known[case.name]
            after, sign = draw.uniform(0, seconds), draw.choice(SIGNALS)
            kills.append(bench.kill(case, after, sign, (marks[0], marks[1])))
            print(kills[-1].model_dump_json(), file=sys.stderr, flush=True)
    found = {
        "benchmark": "kills",
        "seed": options.seed,
        "kills": len(kills),
        "in_time": sum(k.code != 0 for k in kills),  # the others came when the command was done
        "damaged": sum(k.damaged is not None for k in kills),
        "lost": sum(k.lost is not None for k in kills),
        "left_over": sum(bool(k.left_over) for k in kills),
        "unheard": sum(k.unheard for k in kills),
        "seconds": {name: round(seconds, 2) for name, (seconds, *_) in known.items()},
        "machine": machine(),
        "each": [k.model_dump() for k in kills],
    }
    write(options.out, found)
    print(json.dumps({k: v for k, v in found.items() if k != "each"}, indent=2))


if __name__ == "__main__":
    main()
