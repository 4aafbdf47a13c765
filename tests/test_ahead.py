"""Examples that other processes read ahead: the same batches, the same errors, the same training,
and signals that end what they should."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from brought import bert, read, table, texts
from test_pictures import PROCESSORS, picture, png, rows, vit

import acn_compress as acn
from acn_compress.data import ahead
from acn_compress.data.load import Columns, Data, Noise
from acn_compress.data.part import evenly
from acn_compress.errors import DataError, Interrupted
from acn_compress.events import TrainingStep
from acn_compress.training.batches import Bucketed, Seeded

COUNT, BATCH = 20, 4


@pytest.fixture(params=["images", "decoded", "texts"])
def brought(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Path]:
    """Data and a model for it: images that are kept, images that are decoded at every use, texts
    whose tokens are hidden at random."""
    if request.param == "texts":
        model = bert(tmp_path / "m", "ForMaskedLM")
        return table(tmp_path / "a.csv", text=texts(COUNT)), model
    if request.param == "decoded":
        monkeypatch.setattr("acn_compress.data.images.IN_MEMORY", 0)
    images = [png(picture(20, 16 + i % 3)) for i in range(COUNT)]
    return rows(images), vit(tmp_path / "m", PROCESSORS["plain"])


def trained_on(data: Data, epoch: int) -> list[dict[str, torch.Tensor]]:
    """The batches of an epoch of training."""
    sizes = torch.zeros(len(data)) if data.examples.sizes is None else data.examples.sizes
    sampler = Bucketed(sizes, BATCH, seed=3)
    sampler.set_epoch(epoch)

    def collate(examples: Any) -> dict[str, torch.Tensor]:
        return data.examples.collate(examples, train=True)

    with ahead.unwarned():
        return list(
            ahead.loader(Seeded(data), collate, data.workers, sampler=sampler, batch_size=BATCH)
        )


def same(a: list[dict[str, torch.Tensor]], b: list[dict[str, torch.Tensor]]) -> bool:
    return len(a) == len(b) and all(
        x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)
        for x, y in zip(a, b, strict=True)
    )


def test_workers_change_no_batch_and_draw_nothing_else(brought: tuple[Any, Path]) -> None:
    spec, model = brought
    augment = "flip-crop" if not isinstance(spec, str) else None
    none, two = (
        read(spec, model, role="train", columns=Columns(workers=n), augment=augment) for n in (0, 2)
    )
    assert (none.workers, two.workers) == (0, 2) and evenly(two, 5).workers == 2
    first, second = trained_on(none, 0), trained_on(none, 1)
    assert same(first, trained_on(two, 0)) and same(second, trained_on(two, 1))
    assert not same(first, second)
    before = torch.get_rng_state()
    assert same(list(none.batches(3)), list(two.batches(3)))
    assert torch.equal(torch.get_rng_state(), before)
    if augment is not None:
        noise = Noise.parse("gaussian:0.2")
        assert same(list(none.batches(3, noise=noise)), list(two.batches(3, noise=noise)))
    assert len(pickle.loads(pickle.dumps(two))) == len(two)  # where processes are not copied


HOW: dict[str, Any] = {"epochs": 3, "batch_size": BATCH, "progress": False, "augment": "flip-crop"}


def weights(out: Path) -> str:
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.long
def test_a_training_with_workers_is_the_same_interrupted_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = vit(tmp_path / "m", PROCESSORS["plain"])
    spec = rows([png(picture(20, 16 + i % 3)) for i in range(COUNT)])
    acn.finetune(model, tmp_path / "kept", data=spec, **HOW)
    monkeypatch.setattr("acn_compress.data.images.IN_MEMORY", 0)
    report = acn.finetune(model, tmp_path / "decoded", data=spec, workers=2, **HOW)
    assert any("by 2 processes" in note for note in report["read"]["notes"])
    workers: list[int] = []

    def stop(event: Any) -> None:
        if isinstance(event, TrainingStep) and event.step == 7 and not workers:
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
            workers.extend(map(int, children.split()))
            for process in (*workers, os.getpid()):  # as a scheduler does
                os.kill(process, signal.SIGTERM)

    how = HOW | {"progress": stop}
    with pytest.raises(Interrupted, match="at step 8 of 15"):
        acn.finetune(model, tmp_path / "stopped", data=spec, workers=2, **how)
    assert workers
    acn.finetune(model, tmp_path / "stopped", data=spec, resume=True, workers=1, **HOW)
    assert weights(tmp_path / "kept") == weights(tmp_path / "decoded")
    assert weights(tmp_path / "kept") == weights(tmp_path / "stopped")


def test_a_damaged_image_is_told_in_the_line_that_one_process_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = vit(tmp_path / "m", PROCESSORS["plain"])
    damaged = rows([png(picture(16, 16)), png(picture(16, 16)), {"bytes": b"none", "path": None}])
    said = []
    for at_once, n in ((1 << 30, 0), (1 << 30, 2), (0, 2)):
        monkeypatch.setattr("acn_compress.data.images.IN_MEMORY", at_once)
        with pytest.raises(DataError, match=r"^data .*row 2 of column 'image' is not") as caught:
            list(read(damaged, model, columns=Columns(workers=n)).batches(2))
        said.append(re.sub("0x[0-9a-f]+", "", str(caught.value)))
    assert len(set(said)) == 1 and "\n" not in said[0]


def test_workers_are_as_many_as_have_processors_and_room(monkeypatch: pytest.MonkeyPatch) -> None:
    for processors, launched, found in ((1, 1, 0), (2, 1, 1), (64, 1, 8), (64, 8, 7)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=processors: set(range(n)))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(launched))
        assert ahead.sensible() == found
    free = SimpleNamespace(free=64 << 20)
    monkeypatch.setattr("acn_compress.data.ahead.shutil.disk_usage", lambda _: free)
    assert ahead.room(40 << 20) == 0 and ahead.room(4 << 20) == 3 and ahead.room(0) > 1000
