"""Benchmark: what is timed, in which order, and when a difference is called one."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

import acn_compress
from acn_compress.backends import BACKENDS
from acn_compress.backends.base import Load
from acn_compress.backends.race import race
from acn_compress.errors import ConfigError, ModelDirError
from acn_compress.measure.timing import NO_DIFFERENCE, UNCLEAR, interleave, judge
from acn_compress.onnx.layout import FILES
from acn_compress.options import Backend


def samples(mean: float, spread: float, seed: int, n: int = 30) -> list[float]:
    return list(mean + spread * np.random.default_rng(seed).random(n))


def test_every_round_runs_every_variant_in_a_rotated_order() -> None:
    now, order = [0.0], []

    def variant(name: str, seconds: float):  # type: ignore[no-untyped-def]
        def call() -> None:
            order.append(name)
            now[0] += seconds

        return call

    found = interleave(
        [variant("a", 0.1), variant("b", 0.2)], repeats=3, warmup=1, clock=lambda: now[0]
    )
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert found == [pytest.approx([0.1] * 3), pytest.approx([0.2] * 3)]


def test_short_calls_are_repeated_within_a_sample() -> None:
    now, calls = [0.0], [0]

    def call() -> None:
        calls[0] += 1
        now[0] += 0.001

    (found,) = interleave([call], repeats=4, warmup=2, clock=lambda: now[0])
    assert calls[0] == 2 + 4 * 5 and found == pytest.approx([0.001] * 4)


def test_a_difference_beyond_noise_is_called_one_and_none_below() -> None:
    slow, fast = samples(2.0, 0.1, 0), samples(1.0, 0.1, 1)
    assert judge(fast, slow)["verdict"].startswith("faster 1.9") and judge(slow, fast)[
        "verdict"
    ].startswith("slower 1.9")
    assert judge(samples(1.0, 0.5, 2), samples(1.0, 0.5, 3))["verdict"] == NO_DIFFERENCE
    assert (
        judge(samples(1.0, 0.001, 4), samples(1.02, 0.001, 5))["verdict"] == NO_DIFFERENCE
    )  # real, but too small to matter


def test_what_other_work_on_the_machine_adds_is_not_called_a_difference() -> None:
    quiet, disturbed = samples(1.0, 0.01, 0), samples(1.0, 0.01, 1)
    disturbed[:25] = [s + 0.5 for s in disturbed[:25]]  # five quiet samples of thirty
    assert judge(disturbed, [s + 0.02 for s in quiet])["ratio_high"] < 1
    assert judge(disturbed, [s + 0.02 for s in quiet])["verdict"] == NO_DIFFERENCE
    disturbed[:25] = [s + 5.0 for s in disturbed[:25]]
    assert judge(disturbed, quiet)["verdict"] == judge(quiet, disturbed)["verdict"] == UNCLEAR


@pytest.mark.long
def test_models_are_timed_side_by_side_with_their_sizes(digits_vit: Path, tmp_path: Path) -> None:
    acn_compress.truncate(digits_vit, tmp_path / "cut", depth=1)
    report = acn_compress.benchmark([digits_vit, tmp_path / "cut"], repeats=5)
    rows = {(Path(r["source"]).name, r["backend"]): r for r in report["rows"]}
    assert list(rows) == [
        ("digits-vit", "torch"),
        ("digits-vit", "onnx"),
        ("cut", "torch"),
        ("cut", "onnx"),
    ]
    for backend in ("torch", "onnx"):
        whole, cut = rows["digits-vit", backend], rows["cut", backend]
        assert whole["ratio"] == 1 and whole["verdict"] == "the measure of the others"
        assert (
            cut["parameters"] < whole["parameters"]
            and cut["flops"] < whole["flops"]
            and cut["bytes"] < whole["bytes"]
        )
        assert (
            0 < cut["min"] <= cut["q1"] <= cut["median"] <= cut["q3"]
            and cut["ratio_low"] <= cut["ratio"] <= cut["ratio_high"]
        )
    assert report["busy"] >= 1 and report["machine"]["torch"]


def test_every_backend_can_be_asked_for() -> None:
    assert set(BACKENDS) == set(get_args(Backend))


def test_what_cannot_be_timed(digits_vit: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"backends.*is 'tensorrt', expected: 'torch' or 'onnx'"):
        acn_compress.benchmark([digits_vit], backends=("tensorrt",))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"backend 'tensorrt' is not known. Known: torch, onnx"):
        race([digits_vit], ["tensorrt"], Load())
    with pytest.raises(ConfigError, match="at least one model"):
        acn_compress.benchmark([])
    (tmp_path / FILES[None]).write_bytes(b"")
    with pytest.raises(ConfigError, match="is an ONNX model, and backend onnx is not among"):
        acn_compress.benchmark([tmp_path], backends=("torch",))
    with pytest.raises(ModelDirError, match=r"nosuch\.onnx: no such file"):
        acn_compress.benchmark([tmp_path / "nosuch.onnx"])
